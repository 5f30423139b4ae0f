"""A run as a program in PyTorch that needs no elman: model.py, its weights and its tokens."""

import re
from pathlib import Path

from elman.core.experiments import run as runs
from elman.core.files import atomic, tensors
from elman.core.model.precision import precision_in
from elman.core.text import codec
from elman.export.torch import source


def write(run: Path, out: Path) -> None:
    """Write the folder `out` with model.py, model.safetensors, vocab.json and tokenizer.json.

    The program computes in single precision. PyTorch is not needed to write it.
    """
    arch, values, used, recorded = runs.read(run)
    precision_in("torch", recorded)  # a notice if it differs
    with runs.new_folder(out) as part:
        codec.write(part, used.vocab, used.tokenizer)
        renamed = {_name(name, arch.cell): value for name, value in values.items()}
        tensors.write(part / "model.safetensors", renamed)
        atomic.write(part / "model.py", source.program(arch, used).encode())


def _name(name: str, cell: str) -> str:
    """Name of a weight in the program, whose layers of minGRU are modules of their own."""
    if cell != "mingru":
        return name
    return re.sub(r"^rnn\.(weight|bias)_ih_l(\d+)$", r"rnn.layers.\2.\1", name)
