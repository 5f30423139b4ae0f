"""Runs whose weights are random, with the tokens of a text."""

from pathlib import Path
from typing import Any

import elman
from elman import numpy as specification
from elman.model.cells import CELLS
from elman.model.weights import Architecture, initial
from elman.text import bpe
from elman.text.codec import Codec
from elman.text.tokenizers import tokenizer

TEXT = "Once upon a time, said he.\nZo\xeb: \u201cit has\u201d\n" * 30
# Every cell, with one layer and more, one-hot and embedded, tied and not.
ARCHITECTURES = [
    (cell, *sizes) for cell in CELLS for sizes in ((1, 0, False), (2, 5, False), (3, 8, True))
]


def codec_of(name: str, lines: bool = False) -> Codec:
    """A codec with the tokens of TEXT."""
    used = bpe.learn([TEXT], 290) if name == "bpe" else tokenizer(name)
    return Codec(used.vocab(used.split(TEXT)), used, clean=False, lines=lines)


def model_of(
    cell: str, layers: int = 1, embedding: int = 0, tied: bool = False, **options: Any
) -> Any:
    """A model of the specification with 8 hidden units, and logits that differ much."""
    used = codec_of(options.pop("tokenizer", "char"), options.pop("lines", False))
    arch = Architecture(cell, len(used.vocab), 8, layers, embedding, tied)
    drawn = initial(arch, 1).items()
    # A state of rnn-relu would grow without bound in a long text.
    values = {name: value if "weight_hh" in name else 2 * value for name, value in drawn}
    model = specification.build(arch, values, **options)
    model.codec = used
    return model


def saved(folder: Path, model: Any) -> Path:
    """The run directory of a model, in a new folder."""
    elman.save(folder / "run", model)
    return folder / "run"
