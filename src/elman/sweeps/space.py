"""Search spaces: settings of a training, each with a range or choices.

`hidden=64..512:log, dropout=0..0.5, cell=gru|lstm` searches a whole number on a logarithmic scale,
a real number, and a choice.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from types import NoneType
from typing import Any, get_args, get_type_hints

from elman.errors import ElmanError, did_you_mean
from elman.model.optimizers import OPTIMIZERS, OPTIONAL
from elman.runs.settings import Settings
from elman.terms import Option
from elman.valid_values import BPE, BYTE

LOG = ":log"
NUMBER = r"\d*\.?\d+(?:e[-+]?\d+)?"
LIKE_A_RANGE = re.compile(rf"({NUMBER})\s*(?:-|:|\u2013|to)\s*({NUMBER})({LOG})?")
EXAMPLE = '"hidden=64..512:log, dropout=0..0.5, cell=gru|lstm"'
# Settings that determine the text or its parts: losses on different ones are not comparable.
FIXED = {
    *("text", "more_texts", "split", "val", "test", "lines", "edition", "recipe", "newlines"),
    *("framework", "init", "log", "minutes", "epochs"),
}


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high` inclusive; whole numbers if both are integers."""

    low: float
    high: float
    log: bool = False


Values = Range | tuple[Any, ...]


def parse(text: str | None) -> dict[str, Values]:
    """Values of each setting in a space; an ElmanError if the space is invalid."""
    space: dict[str, Values] = {}
    if text is None:
        raise ElmanError(Option("space"), " is required: it names the settings to search")
    if not isinstance(text, str):
        raise ElmanError(f"a space must be a str, such as {EXAMPLE}, got {text!r}")
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, values = (part.strip() for part in item.partition("="))
        name = name.replace("-", "_")
        if not equals or not values:
            raise ElmanError(
                f"a space must list settings and values, as in {EXAMPLE}, got {item!r}"
            )
        if name in space:
            raise ElmanError(f"a space must name each setting once, got {name} twice: remove one")
        space[name] = _values(name, values)
    if not space:
        raise ElmanError(f"a space must contain a setting, as in {EXAMPLE}, got {text!r}")
    return space


def _values(name: str, values: str) -> Values:
    kinds = {name: kind for name, kind in _kinds().items() if name not in FIXED}
    if name not in kinds:
        names = list(kinds)
        raise ElmanError(
            f"a space may contain {', '.join(names)}, got {name!r}{did_you_mean(name, names)}"
        )
    if ".." not in values:
        _check_no_range(name, kinds[name], values)
        return tuple(_value(name, kinds[name], part.strip()) for part in values.split("|"))
    low, _, high = values.removesuffix(LOG).partition("..")
    if kinds[name] not in (int, float):
        raise ElmanError(f"{name} must have choices, such as a|b, not a range, got {values!r}")
    ends = [_value(name, kinds[name], end) for end in (low, high)]
    found = Range(ends[0], ends[1], values.endswith(LOG))
    if not found.low < found.high or (found.log and found.low <= 0):
        above = " above 0" if found.log else ""
        raise ElmanError(f"a range must go from a lower number{above} to a higher, got {values!r}")
    return found


def _check_no_range(name: str, kind: type, values: str) -> None:
    """Raise an ElmanError for two numbers with a wrong sign between them instead of a range."""
    if kind in (int, float) and (found := LIKE_A_RANGE.fullmatch(values)):
        low, high, log = found.groups("")
        raise ElmanError(
            f"{name} must be a number, choices or a range, got {values!r}: write a range as "
            f"{name}={low}..{high}{log}"
        )


def _kinds() -> dict[str, type]:
    """Type of each setting, without None."""
    hints = get_type_hints(Settings)
    kinds = {}
    for field in fields(Settings):
        hint = hints[field.name]
        options = [kind for kind in get_args(hint) if kind is not NoneType]
        kinds[field.name] = options[0] if options else hint
    return kinds


def _value(name: str, kind: type, text: str) -> Any:
    """A value of a setting, checked as on the command line."""
    if kind is bool and text in ("true", "false"):
        value: Any = text == "true"
    else:
        try:
            value = kind(text) if kind is not bool else None
        except ValueError:
            value = None
    if value is None:
        words = {int: "a whole number", float: "a number", bool: "true or false"}
        raise ElmanError(f"{name} must be {words.get(kind, 'a word')}, got {text!r}")
    field = next(field for field in fields(Settings) if field.name == name)
    field.metadata["check"](name, value)
    return value


def _takes(name: str, optimizer: str) -> bool:
    return name in OPTIMIZERS[optimizer].takes


# Settings that have an effect only with some values of another setting.
CONDITIONS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "dropout": ("layers", lambda layers: layers > 1),
    "input_dropout": ("embedding", lambda size: size > 0),
    "vocab_size": ("tokenizer", lambda tokenizer: tokenizer != BYTE),
    "min_freq": ("tokenizer", lambda tokenizer: tokenizer not in (BYTE, BPE)),
    **{name: ("optimizer", partial(_takes, name)) for name in OPTIONAL},
}


def applicable(given: Mapping[str, Any]) -> dict[str, Any]:
    """Omit settings that have no effect with the others, such as dropout with a single layer."""
    return {name: value for name, value in given.items() if _has_effect(name, given)}


def check_effects(space: Mapping[str, Values], given: Mapping[str, Any]) -> None:
    """Raise an ElmanError if a setting of a space has no effect in any trial."""
    for name in filter(CONDITIONS.__contains__, space):
        other, _ = CONDITIONS[name]
        found = space.get(other, (given.get(other),))
        values = (found.low, found.high) if isinstance(found, Range) else found
        if not any(_has_effect(name, {other: value}) for value in values):
            raise ElmanError(
                f"{name} has no effect with {other} {' or '.join(map(str, values))}: leave it out "
                f"of the space, or change {other}"
            )


def _has_effect(name: str, given: Mapping[str, Any]) -> bool:
    """True if a setting has an effect, or may have one since the other setting is not given."""
    if name not in CONDITIONS:
        return True
    other, condition = CONDITIONS[name]
    return given.get(other) is None or condition(given[other])
