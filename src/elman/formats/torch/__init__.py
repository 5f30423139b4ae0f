"""A run as a PyTorch program that does not need elman: model.py, its weights and its tokens."""

from pathlib import Path

from elman.files import atomic, tensors
from elman.formats.torch import source
from elman.model.options import precision_in
from elman.runs import run as runs
from elman.text import codec


def write(run: Path, out: Path) -> None:
    """Write the folder `out` with model.py, model.safetensors, vocab.json and tokenizer.json.

    The program computes in single precision. Writing it does not require PyTorch.
    """
    arch, values, used, recorded = runs.read(run)
    precision_in("torch", recorded)  # a notice if it differs
    with atomic.new_folder(out) as part:
        codec.write(part, used)
        tensors.write(part / "model.safetensors", values)
        atomic.write(part / "model.py", source.program(arch, used).encode())
