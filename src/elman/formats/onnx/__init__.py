"""A run in ONNX: one step with its states, and the two graphs that speech recognizers read.

Each file is loaded by onnxruntime and compared with the specification before the folder is created.
"""

import logging
from pathlib import Path
from typing import Any

from elman.errors import ElmanError, not_installed
from elman.terms import Option

try:
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
except ModuleNotFoundError as error:
    raise not_installed("onnx", error, "choose another format") from error

from elman import numpy as specification
from elman.files import atomic
from elman.files.paths import is_utf8
from elman.formats.onnx import check, speech
from elman.formats.onnx.graph import FLOATS, IDS, Graph
from elman.formats.onnx.layers import LanguageModel
from elman.model.options import precision_in
from elman.runs import run as runs
from elman.text import codec

log = logging.getLogger("elman")
STEP = "step.onnx"
MAX_BYTES = 2**31 - 2**20  # a Protocol Buffers file must be smaller than 2 GiB


def write(run: Path, out: Path) -> None:
    """Write the folder `out` with the graphs of a run and its tokens.

    All computations are in single precision. If the graphs differ from `elman.numpy`, raises an
    ElmanError and leaves nothing.
    """
    if not is_utf8(out):
        rule = f"onnx requires UTF-8 paths, got {str(out)!r}: choose another "
        raise ElmanError(rule, Option("out"))
    arch, values, used, recorded = runs.read(run)
    precision = precision_in("onnx", recorded)
    single = {name: value.astype("float32", copy=False) for name, value in values.items()}
    if (size := sum(value.nbytes for value in single.values())) > MAX_BYTES:
        raise ElmanError(
            f"an ONNX file must be smaller than 2 GiB, got {size >> 20} MiB of weights: export to "
            "torch"
        )
    model = LanguageModel(arch, single)
    wanted = specification.build(arch, values, precision=precision)
    border = used.border
    with atomic.new_folder(out) as part:
        codec.write(part, used)
        _save(part / STEP, step_graph(model))
        check.check_step(part / STEP, wanted)
        if len(model.states) > speech.MAX_STATES:
            log.info(
                "no graphs for speech recognizers: they keep two arrays of a state, and the cell "
                "%s has %d",
                arch.cell,
                len(model.states),
            )
        elif border:
            _write_speech(part, model, speech.Symbols(used, border[0]), wanted)
        else:
            log.info(
                "no graphs for speech recognizers: they require a line end as the border of "
                "sentences, and the vocabulary has none"
            )


def step_graph(model: LanguageModel) -> Any:
    """Graph from `ids`, `h` and `c` to `logits`, `next_h` and `next_c`.

    Ids are (batch, steps), logits (batch, steps, vocab). Parts of a state are (layers, batch,
    hidden); only an LSTM has c.
    """
    made, shape = Graph(), model.state_shape("batch")
    ids = made.input("ids", IDS, ("batch", "steps"))
    state = [made.input(name, FLOATS, shape) for name in model.states]
    logits, next_state = model.add_to(made, ids, state)
    made.output(logits, "logits", FLOATS, ("batch", "steps", model.arch.vocab))
    for name, value in zip(model.states, next_state, strict=True):
        made.output(value, f"next_{name}", FLOATS, shape)
    return made.model("step")


def _write_speech(folder: Path, model: LanguageModel, symbols: speech.Symbols, wanted: Any) -> None:
    """Write the graphs for speech recognizers and their symbol table, and check them."""
    atomic.write(folder / speech.TOKENS, symbols.table().encode())
    _save(folder / speech.SENTENCES, speech.sentences(model, symbols))
    check.check_sentences(folder / speech.SENTENCES, wanted, symbols)
    _save(folder / speech.STREAMING, speech.streaming(model, symbols))
    check.check_streaming(folder / speech.STREAMING, wanted, symbols)


def _save(path: Path, model: Any) -> None:
    atomic.write(path, model.SerializeToString())
