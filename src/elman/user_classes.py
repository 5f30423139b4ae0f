"""Attributes of objects whose classes may be user-defined, each with a default.

Attributes of this package's classes are declared in the classes and read directly. Objects passed
by a user may lack some of them: one of these classes reads them, as in
`ModelAttributes.of(model).lr`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self

UNSET: Any = object()  # default for an attribute that may be None


@dataclass(frozen=True)
class Attributes:
    """Base class: a subclass declares attributes, and a default for each."""

    @classmethod
    def of(cls, owner: Any) -> Self:
        """Attributes of an object; defaults for those it lacks."""
        return cls(**{each.name: getattr(owner, each.name, each.default) for each in fields(cls)})


@dataclass(frozen=True)
class Wrapper(Attributes):
    """A model with recurrent layers, or layers around a framework's layers: `rnn` in both."""

    rnn: Any = None


@dataclass(frozen=True)
class ModelAttributes(Wrapper):
    """Attributes of a model, by D2L's names."""

    linear: Any = None
    vocab_size: int | None = None
    embedding_size: int = 0
    tied: bool = False
    lr: float = math.nan
    optimizer: Any = None
    tgt_pad: int | None = None  # id of the padding in the targets of an encoder-decoder

    @property
    def own_layers(self) -> Any:
        """The framework's own layers within the model's layers; None if there are none."""
        return Wrapper.of(self.rnn).rnn


@dataclass(frozen=True)
class LayerAttributes(Attributes):
    """Attributes of recurrent layers."""

    cell: str | None = None
    bidirectional: bool = False
    input_dropout: float = 0


def _unknown_loss() -> float:
    return math.nan


@dataclass(frozen=True)
class DataAttributes(Attributes):
    """Attributes of a data set."""

    batch_size: int = 1
    codec: Any = None
    vocab: Any = None
    loss_without_context: Callable[[], float] = _unknown_loss
    sizes_in_characters: Any = None


@dataclass(frozen=True)
class PairAttributes(Attributes):
    """Attribute of a data set of pairs: what stands between two tokens of a text."""

    separator: str = " "


@dataclass(frozen=True)
class LoaderAttributes(Attributes):
    """Attributes of a loader of batches.

    These are the state of its generator, an example, and the share of the data in an epoch.
    """

    state: Any = None
    share: float = 1.0
    example: Callable[[], Any] | None = None
