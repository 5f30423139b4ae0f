"""Canonical weights, common to all frameworks: names, shapes, initial values, safetensors.

Names and shapes follow torch.nn.{RNN,GRU,LSTM}, nn.Linear and nn.Embedding. The order of the gates
is the order of their names in a `Cell`.
"""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from elman.errors import (
    ElmanError,
    printable,
    require_at_least,
    require_at_most,
    require_number,
)
from elman.files import memory, tensors
from elman.model.cells import Cell
from elman.model.registry import cell_named, check_cell
from elman.user_classes import ModelAttributes
from elman.valid_values import MAX_EMBEDDING, MAX_HIDDEN, MAX_LAYERS, MAX_VOCAB_SIZE

Weights = dict[str, NDArray[Any]]
T = TypeVar("T")

MAX_SIZES = {
    "vocab": MAX_VOCAB_SIZE,
    "hidden": MAX_HIDDEN,
    "embedding": MAX_EMBEDDING,
    "layers": MAX_LAYERS,
}
PAIR_CELL = "gru"  # of encoder-decoders
ENCODER, DECODER = "encoder.", "decoder."  # prefixes of the names of their weights
OPERATIONS = 6  # for a product in training: forward and twice backward, each multiplies and adds
MAX_HEADER_BYTES = 1 << 20  # a model of 1,000 layers has 4,003 weights, with about 100 bytes each


@dataclass(frozen=True)
class Architecture:
    """Cell, sizes and options of a language model, or of an encoder-decoder.

    An `embedding` of 0 means one-hot input. `tied`: the output layer uses the embedding's weights
    (Press and Wolf 2017). Sizes are bounded: no machine has memory for larger ones.

    With a `source_vocab`, an encoder of the same sizes reads sources, and `vocab` is the size of
    the vocabulary of targets. `attention`: at each step the decoder reads a weighted sum of the
    encoder's outputs, instead of the last output (Bahdanau et al. 2015).
    """

    cell: str
    vocab: int
    hidden: int
    layers: int = 1
    embedding: int = 0
    tied: bool = False
    source_vocab: int = 0
    attention: bool = False

    def __post_init__(self) -> None:
        check_cell(self.cell)
        require_at_least(1, vocab=self.vocab, hidden=self.hidden, layers=self.layers)
        require_at_least(0, embedding=self.embedding)
        for name, most in MAX_SIZES.items():
            require_at_most(most, **{name: vars(self)[name]})
        check_tied(self.tied, self.embedding, self.hidden)
        require_at_most(MAX_VOCAB_SIZE, source_vocab=self.source_vocab)
        if self.source_vocab:
            self._check_source()
        elif self.attention:
            raise ElmanError("attention requires a source: give source_vocab, or leave it out")

    def _check_source(self) -> None:
        """Raise an ElmanError for what an encoder-decoder cannot be."""
        require_at_least(1, source_vocab=self.source_vocab, embedding=self.embedding)
        if (self.cell, self.tied) != (PAIR_CELL, False):
            raise ElmanError(
                f"an encoder-decoder must have the cell {PAIR_CELL} and no tied weights, got "
                f"{self.cell}{' and tied weights' * self.tied}"
            )
        if not isinstance(self.attention, bool):
            raise ElmanError(f"attention must be true or false, got {self.attention!r}")

    def fields(self) -> dict[str, Any]:
        """Sizes and options by name; `source_vocab` and `attention` only if there is a source."""
        of_source = () if self.source_vocab else ("source_vocab", "attention")
        return {name: value for name, value in vars(self).items() if name not in of_source}


def check_tied(tied: bool, embedding: int, hidden: int) -> None:
    """Raise an ElmanError if the output layer must share the embedding but cannot."""
    if not isinstance(tied, bool):
        raise ElmanError(f"tied must be true or false, got {tied!r}")
    if tied and embedding != hidden:
        raise ElmanError(
            f"tied weights require an embedding as large as the hidden state, got {embedding} and "
            f"{hidden}: set both to the same"
        )


def not_canonical(wanted: str, model: Any, cure: str) -> ElmanError:
    """Error for a model that only its own framework can save, with `cure`."""
    rnn = ModelAttributes.of(model).rnn
    got = type(model).__name__ + ("" if rnn is None else f" around {type(rnn).__name__}")
    return ElmanError(
        f"only {wanted} has weights for other frameworks, got {got}: save it with {cure}"
    )


def check_layers(
    num_inputs: int, num_hiddens: int, num_layers: int, dropout: float, bidirectional: bool
) -> None:
    """Raise an ElmanError unless these are valid arguments of a stack of recurrent layers."""
    sizes = {"num_inputs": num_inputs, "num_hiddens": num_hiddens, "num_layers": num_layers}
    require_at_least(1, **sizes)
    for name, most in (("num_hiddens", "hidden"), ("num_layers", "layers")):
        require_at_most(MAX_SIZES[most], **{name: sizes[name]})
    check_dropout(dropout=dropout)
    if not isinstance(bidirectional, bool):
        raise ElmanError(f"bidirectional must be true or false, got {bidirectional!r}")


def check_dropout(**shares: float) -> None:
    """Raise an ElmanError unless these are valid dropout shares."""
    require_number("at least 0 and below 1", lambda share: 0 <= share < 1, **shares)


def check_one_hot(input_dropout: float) -> None:
    """Raise an ElmanError for dropout on one-hot inputs."""
    if input_dropout:
        raise ElmanError(
            f"input_dropout requires an embedding, got {input_dropout} with one-hot ids: give the "
            "model an embedding_size, or leave input_dropout out"
        )


def layer_names(layers: int, bidirectional: bool = False) -> list[list[str]]:
    """Suffixes of the names of a layer's weights, for each layer and each of its directions."""
    ends = ("", "_reverse") if bidirectional else ("",)
    return [[f"_l{layer}{end}" for end in ends] for layer in range(layers)]


def layer_shapes(
    cell: str, inputs: int, hidden: int, layers: int, bidirectional: bool = False
) -> dict[str, tuple[int, ...]]:
    """Name and shape of each weight of a stack of recurrent layers."""
    spec, shapes = cell_named(cell), dict[str, tuple[int, ...]]()
    rows = len(spec.gates) * hidden
    own = dict.fromkeys(spec.parameters, (hidden,))
    for names in layer_names(layers, bidirectional):
        columns = {"weight_ih": (inputs,), "weight_hh": (hidden,)}
        for name in names:
            kept = {kind: (rows, *columns.get(kind, ())) for kind in spec.weight_kinds} | own
            shapes |= {kind + name: shape for kind, shape in kept.items()}
        inputs = len(names) * hidden
    return shapes


def is_recurrent(name: str) -> bool:
    """True if a weight with this name belongs to the recurrent layers."""
    return name.startswith("rnn.")


def shapes(arch: Architecture) -> Mapping[str, tuple[int, ...]]:
    """Name and shape of each weight of a model; an encoder-decoder has two parts."""
    return _shapes(arch, cell_named(arch.cell))


@lru_cache(maxsize=8)  # the engine calls it for every batch
def _shapes(arch: Architecture, cell: Cell) -> Mapping[str, tuple[int, ...]]:
    if arch.source_vocab:
        return MappingProxyType(_encoder_shapes(arch) | _decoder_shapes(arch))
    inputs = arch.embedding or arch.vocab
    layers = layer_shapes(arch.cell, inputs, arch.hidden, arch.layers)
    found = {
        **({"embedding.weight": (arch.vocab, arch.embedding)} if arch.embedding else {}),
        **{f"rnn.{name}": shape for name, shape in layers.items()},
        **({} if arch.tied else {"linear.weight": (arch.vocab, arch.hidden)}),
        "linear.bias": (arch.vocab,),
    }
    return MappingProxyType(found)


def _encoder_shapes(arch: Architecture) -> dict[str, tuple[int, ...]]:
    layers = layer_shapes(arch.cell, arch.embedding, arch.hidden, arch.layers)
    return {
        f"{ENCODER}embedding.weight": (arch.source_vocab, arch.embedding),
        **{f"{ENCODER}rnn.{name}": shape for name, shape in layers.items()},
    }


def _decoder_shapes(arch: Architecture) -> dict[str, tuple[int, ...]]:
    hidden = arch.hidden
    layers = layer_shapes(arch.cell, arch.embedding + hidden, hidden, arch.layers)
    own = {
        "embedding.weight": (arch.vocab, arch.embedding),
        **{f"rnn.{name}": shape for name, shape in layers.items()},
        "dense.weight": (arch.vocab, hidden),
        "dense.bias": (arch.vocab,),
    }
    if arch.attention:
        sizes = {"W_q": (hidden, hidden), "W_k": (hidden, hidden), "w_v": (1, hidden)}
        own |= {f"attention.{name}.weight": size for name, size in sizes.items()}
    return {DECODER + name: shape for name, shape in own.items()}


def of_part(part: str, weights: Mapping[str, T]) -> dict[str, T]:
    """The weights, or their shapes, of a part of an encoder-decoder, by name without the part."""
    return {name[len(part) :]: each for name, each in weights.items() if name.startswith(part)}


def draw(
    shapes: Mapping[str, tuple[int, ...]], cell: str, hidden: int, seed: int, prefix: str = ""
) -> Weights:
    """Initial weights in float32 with PyTorch's distributions, the same in every framework.

    An embedding is standard normal. All other weights, and a tied embedding, are uniform within
    1 / sqrt(hidden). The redundant part of `bias_hh` is zero, and a cell's additional parameters
    have its initial values. Each weight has a separate random stream, seeded by `seed`, `prefix`
    and its name.
    """
    bound = 1 / np.sqrt(hidden)
    tied = "linear.bias" in shapes and "linear.weight" not in shapes
    own = cell_named(cell).parameters
    weights: Weights = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng([seed, zlib.crc32((prefix + name).encode())])
        if name.endswith("embedding.weight") and not tied:
            weights[name] = rng.standard_normal(shape, np.float32)
        else:
            weights[name] = rng.uniform(-bound, bound, shape).astype(np.float32)
        if "bias_hh" in name:
            weights[name][cell_named(cell).redundant_bias(hidden)] = 0
        kind = name.rpartition("rnn.")[2].rpartition("_l")[0]
        if kind in own:
            weights[name][:] = own[kind]
    return weights


def require_memory(arch: Architecture, numbers: float) -> None:
    """Raise an ElmanError unless memory suffices for `numbers` float32 values for each weight."""
    needed, most = int(4 * numbers * count(arch)), memory.limit()
    if most is not None and needed > most:
        raise ElmanError(
            f"a model of {arch.hidden} hidden units in {arch.layers} layers takes "
            f"{needed >> 20} MiB, but this process may use {most >> 20}: use fewer"
        )


def count(arch: Architecture) -> int:
    """Number of weights."""
    return sum(map(math.prod, shapes(arch).values()))


def in_words(arch: Architecture, precision: str) -> str:
    """Cell, sizes, parameters and precision of a model in words."""
    layers = f"{arch.layers} layer{'' if arch.layers == 1 else 's'} of {arch.hidden} units"
    if arch.source_vocab:
        attention = "attention, " if arch.attention else ""
        return (
            f"encoder and decoder of {arch.cell}, {layers} each, {attention}an embedding of "
            f"{arch.embedding}, {count(arch):,} parameters"
        )
    inputs = f"an embedding of {arch.embedding}" if arch.embedding else "one-hot input"
    return f"{arch.cell}, {layers}, {inputs}, {count(arch):,} parameters, {precision} precision"


def initial(arch: Architecture, seed: int = 0) -> Weights:
    """Initial weights for a seed, the same in every framework.

    Raises an ElmanError unless memory suffices to draw them in double precision and keep them in
    single precision.
    """
    require_memory(arch, 3)
    return draw(shapes(arch), arch.cell, arch.hidden, seed)


def products(arch: Architecture, part: str = "") -> int:
    """Number of weight multiplications in the forward pass of a token.

    Rows of an embedding, or of the first layer's input weights for one-hot input, are only looked
    up. An encoder-decoder has two parts, ENCODER and DECODER.
    """
    looked_up = "embedding.weight" if arch.embedding else "rnn.weight_ih_l0"
    kept = of_part(part, shapes(arch)).items()
    found = sum(math.prod(size) for name, size in kept if "weight" in name and name != looked_up)
    return found + arch.tied * arch.vocab * arch.hidden


def check(weights: Mapping[str, NDArray[Any] | tensors.Tensor], arch: Architecture) -> None:
    """Raise an ElmanError unless `weights` have the names and shapes of this architecture."""
    wanted = shapes(arch)
    if wanted.keys() != weights.keys():
        name = min(wanted.keys() ^ weights.keys())
        what = "is missing from" if name in wanted else "does not belong to"
        raise ElmanError(f"the weight {printable(name)} {what} a model of {arch}")
    for name, shape in wanted.items():
        if weights[name].shape != shape:
            raise ElmanError(f"the weight {name} must be {shape}, got {weights[name].shape}")
        if weights[name].dtype.kind != "f":
            raise ElmanError(f"the weight {name} must be of floats, got {weights[name].dtype}")


def checked(weights: Mapping[str, NDArray[Any]], arch: Architecture) -> Weights:
    """Copies of the weights of this architecture, with redundant biases added to `bias_ih`.

    Raises an ElmanError unless they are finite. Half precision is converted to single precision,
    since all frameworks support it.
    """
    check(weights, arch)
    copies = {
        name: np.array(value, np.result_type(value.dtype, np.float32))
        for name, value in weights.items()
    }
    part = cell_named(arch.cell).redundant_bias(arch.hidden)
    for name in copies:
        if "bias_hh" in name:
            with np.errstate(over="ignore", invalid="ignore"):
                copies[name.replace("bias_hh", "bias_ih")][part] += copies[name][part]
            copies[name][part] = 0
    _check_finite(copies)
    return copies


def _check_finite(weights: Mapping[str, NDArray[Any]]) -> None:
    for name, value in weights.items():
        if not tensors.all_finite(value):
            raise ElmanError(f"the weight {name} must be finite, got NaN or infinity")


def load(path: Path, arch: Architecture) -> Weights:
    """Read the weights of this architecture from safetensors.

    Before loading, raises an ElmanError if the file contains other weights or memory does not
    suffice for two copies.
    """
    require_memory(arch, 2)
    doubles = 8 * count(arch)
    with tensors.open_tensors(path, doubles + MAX_HEADER_BYTES, MAX_HEADER_BYTES) as file:
        try:
            check(file.tensors, arch)
            values = file.load()
            _check_finite(values)
        except ElmanError as error:
            raise ElmanError(f"{path}: {error}") from error
    return values
