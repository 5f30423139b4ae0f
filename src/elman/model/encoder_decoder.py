"""Canonical weights of encoder-decoders: sizes, names, shapes and initial values.

Names and shapes are those of PyTorch, as in `weights.py`; the cell is a GRU.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from elman.errors import ElmanError, require_at_least
from elman.model import weights
from elman.model.weights import Weights

CELL = "gru"
PARTS = ("encoder", "decoder")


@dataclass(frozen=True)
class PairArchitecture:
    """Sizes of a Seq2Seq; those of the layers are the encoder's and the decoder's.

    `attention`: at each step the decoder reads a weighted sum of the encoder's outputs, instead of
    the last output (Bahdanau et al. 2015).
    """

    source_vocab: int
    target_vocab: int
    embedding: int
    hidden: int
    layers: int = 1
    attention: bool = False

    def __post_init__(self) -> None:
        sizes = {name: value for name, value in vars(self).items() if name != "attention"}
        require_at_least(1, **sizes)
        if not isinstance(self.attention, bool):
            raise ElmanError(f"attention must be true or false, got {self.attention!r}")


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
    if arch.attention:
        square = (arch.hidden, arch.hidden)
        matrices = {"W_q": square, "W_k": square, "w_v": (1, arch.hidden)}
        parts["decoder"] |= {f"attention.{name}.weight": size for name, size in matrices.items()}
    return parts


def linear_layers(values: Mapping[str, Any]) -> list[str]:
    """Canonical names of the linear layers of a part with these weights, such as dense."""
    matrices = [name.removesuffix(".weight") for name in values if name.endswith(".weight")]
    return [name for name in matrices if name != "embedding"]


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
    attention = "attention, " if arch.attention else ""
    return (
        f"encoder and decoder of {CELL}, {layers} each, {attention}an embedding of "
        f"{arch.embedding}, {count(arch):,} parameters"
    )
