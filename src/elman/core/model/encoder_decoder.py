"""Canonical weights of encoder-decoders: sizes, names, shapes and initial values.

Names and shapes are those of PyTorch, as in `weights.py`; the cell is a GRU.
"""

import math
from dataclasses import dataclass

from elman.core.errors import ElmanError, require_at_least
from elman.core.model import weights
from elman.core.model.weights import Weights

CELL = "gru"
PARTS = ("encoder", "decoder")


@dataclass(frozen=True)
class PairArchitecture:
    """Sizes of a Seq2Seq; those of the layers are the encoder's and the decoder's."""

    source_vocab: int
    target_vocab: int
    embedding: int
    hidden: int
    layers: int = 1

    def __post_init__(self) -> None:
        require_at_least(1, **vars(self))


def shapes(arch: PairArchitecture) -> dict[str, dict[str, tuple[int, ...]]]:
    """Name and shape of each weight of the encoder, and of the decoder."""
    parts = {}
    sizes = (arch.source_vocab, arch.embedding), (arch.target_vocab, arch.embedding + arch.hidden)
    for part, (vocab, inputs) in zip(PARTS, sizes, strict=True):
        layers = weights.layer_shapes(CELL, inputs, arch.hidden, arch.layers)
        named = {f"rnn.{name}": shape for name, shape in layers.items()}
        parts[part] = {"embedding.weight": (vocab, arch.embedding), **named}
    output = {"dense.weight": (arch.target_vocab, arch.hidden), "dense.bias": (arch.target_vocab,)}
    parts["decoder"] |= output
    return parts


def initial(arch: PairArchitecture, seed: int = 0) -> dict[str, Weights]:
    """Initial weights of the encoder and of the decoder for a seed, the same in every framework."""
    return {
        part: weights.draw(named, CELL, arch.hidden, seed, f"{part}.")
        for part, named in shapes(arch).items()
    }


def check(values: dict[str, Weights], arch: PairArchitecture) -> None:
    """Raise an ElmanError unless the weights have the names and shapes of this architecture."""
    for part, named in shapes(arch).items():
        found = {name: value.shape for name, value in values[part].items()}
        if found != named:
            wrong = min(name for name in found | named if found.get(name) != named.get(name))
            raise ElmanError(
                f"the weight {part}.{wrong} of a model of {arch} must be {named.get(wrong)}, "
                f"got {found.get(wrong)}"
            )


def count(arch: PairArchitecture) -> int:
    """Number of weights."""
    return sum(math.prod(shape) for named in shapes(arch).values() for shape in named.values())


def products(arch: PairArchitecture) -> list[int]:
    """Weight multiplications in the forward pass of a token of the source, and of the target."""
    return [
        sum(
            math.prod(shape)
            for name, shape in named.items()
            if "weight" in name and name != "embedding.weight"
        )
        for named in shapes(arch).values()
    ]


def require_memory(arch: PairArchitecture, numbers: float) -> None:
    """Raise an ElmanError unless memory suffices for `numbers` float32 values for each weight."""
    weights.require_memory_for(count(arch), numbers, arch.hidden, arch.layers)


def in_words(arch: PairArchitecture) -> str:
    """Cell, sizes and parameters of a model in words."""
    layers = f"{arch.layers} layer{'' if arch.layers == 1 else 's'} of {arch.hidden} units"
    return (
        f"encoder and decoder of {CELL}, {layers} each, an embedding of {arch.embedding}, "
        f"{count(arch):,} parameters"
    )
