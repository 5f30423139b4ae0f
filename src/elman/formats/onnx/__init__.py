"""A run in ONNX: one step with its states, and the two graphs that speech recognizers read.

A file is loaded by onnxruntime and compared with the specification before the folder exists.
"""

import logging
from pathlib import Path
from typing import Any

from elman.core.errors import ElmanError, not_installed

try:
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
except ModuleNotFoundError as error:
    raise not_installed("onnx", error, "choose another format") from error

from elman import numpy as specification
from elman.core.experiments import run as runs
from elman.core.files import atomic
from elman.core.files.paths import is_utf8
from elman.core.model.precision import precision_in
from elman.core.text import codec
from elman.core.text.lines import border_ids
from elman.formats.onnx import check, speech, step
from elman.formats.onnx.layers import LanguageModel

log = logging.getLogger("elman")
MAX_BYTES = 2**31 - 2**20  # a file of Protocol Buffers has less than 2 GiB


def write(run: Path, out: Path) -> None:
    """Write the folder `out` with the graphs of a run and its tokens.

    All is computed in single precision. Raises an ElmanError, and leaves nothing, if the graphs do
    not compute what `elman.numpy` computes.
    """
    if not is_utf8(out):
        raise ElmanError(f"onnx opens files by UTF-8 paths, got {str(out)!r}: choose another --out")
    arch, values, used, recorded = runs.read(run)
    precision = precision_in("onnx", recorded)
    single = {name: value.astype("float32", copy=False) for name, value in values.items()}
    if (size := sum(value.nbytes for value in single.values())) > MAX_BYTES:
        raise ElmanError(
            f"an ONNX file has less than 2 GiB, and the weights have {size >> 20} MiB: export to "
            "torch"
        )
    model = LanguageModel(arch, single)
    wanted = specification.build(arch, values, precision=precision)
    border, _ = border_ids(used)
    with runs.new_folder(out) as part:
        codec.write(part, used.vocab, used.tokenizer)
        _save(part / step.FILE, step.graph(model))
        check.check_step(part / step.FILE, wanted)
        if len(model.states) > speech.MAX_STATES:
            log.info(
                "speech recognizers keep two arrays of a state, and the cell %s has %d: there are "
                "no graphs for them",
                arch.cell,
                len(model.states),
            )
        elif border:
            _write_speech(part, model, speech.Symbols(used, border[0]), wanted)
        else:
            log.info(
                "the vocabulary has no line end, which borders a sentence: there are no graphs for "
                "speech recognizers"
            )


def _write_speech(folder: Path, model: LanguageModel, symbols: speech.Symbols, wanted: Any) -> None:
    """Write the graphs for speech recognizers and their table of symbols, and check them."""
    atomic.write(folder / speech.TOKENS, symbols.table().encode())
    _save(folder / speech.SENTENCES, speech.sentences(model, symbols))
    check.check_sentences(folder / speech.SENTENCES, wanted, symbols)
    _save(folder / speech.STREAMING, speech.streaming(model, symbols))
    check.check_streaming(folder / speech.STREAMING, wanted, symbols)


def _save(path: Path, model: Any) -> None:
    atomic.write(path, model.SerializeToString())
