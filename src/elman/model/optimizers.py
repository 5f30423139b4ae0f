"""Optimizers: one table of the arguments and state of each, and the description of one.

Add a new optimizer here; its step is in the `model.py` of each framework. The options of the
command line, their checks, plans and memory requirements are derived from this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from elman.errors import (
    ElmanError,
    alternatives,
    in_words,
    is_finite_number,
    require_number,
)
from elman.setting_fields import NOT_NEGATIVE, POSITIVE, SHARE, check, choice, real


@dataclass(frozen=True)
class Kind:
    """Arguments and state of an optimizer.

    - `lr`: default learning rate: the book's, or one that suits models of this size.
    - `numbers`: numbers that it keeps for each weight, besides momentum.
    - `takes`: settings that not every optimizer takes, with their defaults.
    """

    lr: float
    numbers: int
    takes: Mapping[str, float | None] = field(default_factory=dict)


OPTIMIZERS = {
    "sgd": Kind(lr=1.0, numbers=0, takes={"momentum": 0.0}),
    "adam": Kind(lr=0.005, numbers=2),
    # Weight decay as in PyTorch.
    "adamw": Kind(lr=0.005, numbers=2, takes={"weight_decay": 0.01, "recurrent_lr": None}),
}
OPTIONAL = tuple(dict.fromkeys(name for kind in OPTIMIZERS.values() for name in kind.takes))


def that_take(setting: str) -> str:
    """Names of the optimizers that take a setting."""
    return alternatives([name for name, kind in OPTIMIZERS.items() if setting in kind.takes])


def check_taken(optimizer: str, given: Mapping[str, Any]) -> None:
    """Raise an ElmanError for a given setting that an optimizer does not take."""
    for name in OPTIONAL:
        if given.get(name) and name not in OPTIMIZERS[optimizer].takes:
            raise ElmanError(
                f"{in_words(name)} requires {that_take(name)}, got {given[name]} with "
                f"{optimizer}: leave it out"
            )


def _defaults(values: Mapping[str, Any]) -> str:
    """Default of each optimizer, in words: `1 with sgd, 0.005 with adam or adamw`."""
    names: dict[Any, list[str]] = {}
    for name, value in values.items():
        names.setdefault(value, []).append(name)
    return ", ".join(f"{value:g} with {alternatives(those)}" for value, those in names.items())


@dataclass(frozen=True)
class Optimizer:
    """An optimizer with its settings.

    A setting of None gets the optimizer's default, if it takes one. Raises an ElmanError for a
    value that is invalid or that the optimizer does not take.
    """

    optimizer: str = choice("sgd", "{choices}.", tuple(OPTIMIZERS), pairs="adam")
    lr: float = real(
        None,
        "Learning rate.",
        POSITIVE,
        unset=_defaults({name: kind.lr for name, kind in OPTIMIZERS.items()}),
    )
    momentum: float = real(0.0, f"Momentum of {that_take('momentum')}.", SHARE, pairs=None)
    weight_decay: float | None = real(
        None,
        f"Weight decay of {that_take('weight_decay')}.",
        NOT_NEGATIVE,
        unset=_defaults(
            {
                name: kind.takes["weight_decay"]
                for name, kind in OPTIMIZERS.items()
                if "weight_decay" in kind.takes
            }
        ),
        pairs=None,
    )
    recurrent_lr: float | None = real(
        None,
        f"Learning rate of the recurrent layers with {that_take('recurrent_lr')}; weight decay is "
        "that of the other layers.",
        POSITIVE,
        unset="the learning rate",
        pairs=None,
    )

    def __post_init__(self) -> None:
        check(self)
        check_taken(self.optimizer, vars(self))
        for name, default in {"lr": self.kind.lr, **self.kind.takes}.items():
            if vars(self)[name] is None:
                object.__setattr__(self, name, default)

    @classmethod
    def given(
        cls,
        optimizer: str,
        lr: float,
        momentum: float = 0.0,
        weight_decay: float | None = None,
        recurrent_lr: float | None = None,
    ) -> "Optimizer":
        """The optimizer with a learning rate; None is refused."""
        require_number(
            "a finite number above 0", lambda rate: is_finite_number(rate) and rate > 0, lr=lr
        )
        return cls(optimizer, lr, momentum, weight_decay, recurrent_lr)

    @property
    def kind(self) -> Kind:
        """Arguments and state of this optimizer."""
        return OPTIMIZERS[self.optimizer]

    @property
    def numbers(self) -> int:
        """Numbers that it keeps for each weight."""
        return self.kind.numbers + (self.momentum > 0)

    @property
    def decay(self) -> float:
        """Weight decay; 0 for an optimizer that takes none."""
        return self.weight_decay or 0.0

    @property
    def recurrent_factor(self) -> float:
        """Learning rate of the recurrent layers as a multiple of that of the others."""
        return 1.0 if self.recurrent_lr is None else self.recurrent_lr / self.lr

    @property
    def arguments(self) -> dict[str, Any]:
        """The learning rate, and the settings that this optimizer takes."""
        return {name: vars(self)[name] for name in ("lr", *self.kind.takes)}
