"""Fields of a settings dataclass, each with default, help text and check.

    @dataclass(frozen=True)
    class Settings:
        hidden: int = whole(32, "Hidden units of a layer.", at_least=1)

        def __post_init__(self) -> None:
            check(self)

The command line's options are made from the same fields. `unset` describes a default of None.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, field, fields, is_dataclass
from typing import Any

from elman.errors import (
    ElmanError,
    alternatives,
    in_words,
    is_finite_number,
    require_at_least,
    require_at_most,
    require_number,
    require_one_of,
    shortened,
)


def ordered(kind: type) -> "list[Field[Any]]":
    """Fields of a dataclass, its own before those of its base classes."""
    inherited = {
        each.name for base in kind.__bases__ if is_dataclass(base) for each in fields(base)
    }
    return sorted(fields(kind), key=lambda each: each.name in inherited)


def values_of(settings: Any, kind: Any = None) -> dict[str, Any]:
    """Values of the fields of a dataclass, or of its base class `kind`, by name."""
    return {each.name: vars(settings)[each.name] for each in fields(kind or settings)}


def check(settings: Any) -> None:
    """Raise an ElmanError for the first field of a dataclass with an invalid value."""
    values = values_of(settings)
    for each in fields(settings):
        value = values[each.name]
        if value is not None or each.default is not None:
            each.metadata["check"](each.name, value)


def check_given(kind: type, given: Mapping[str, Any]) -> None:
    """Raise an ElmanError for the first invalid value for the fields of `kind`."""
    for each in fields(kind):
        if given.get(each.name) is not None:
            each.metadata["check"](each.name, given[each.name])


def whole(
    default: int | None, description: str, *, at_least: int, at_most: int = 1 << 31, unset: str = ""
) -> Any:
    """A whole number within `at_least` and `at_most` inclusive."""

    def check(name: str, value: Any) -> None:
        require_at_least(at_least, **{name: value})
        require_at_most(at_most, **{name: value})

    return _field(default, description, check, unset)


def real(
    default: float | None,
    description: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    unset: str = "",
) -> Any:
    """A finite number with these bounds; `above` and `below` are exclusive."""
    bounds = {"at least": at_least, "above": above, "below": below}
    rule = " and ".join(f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None)

    def fits(value: float) -> bool:
        return (
            is_finite_number(value)
            and (at_least is None or value >= at_least)
            and (above is None or value > above)
            and (below is None or value < below)
        )

    def check(name: str, value: Any) -> None:
        require_number(f"a finite number {rule}", fits, **{name: value})

    return _field(default, description, check, unset)


def number(
    default: float | None, description: str, rule: str, fits: Callable[[float], bool]
) -> Any:
    """A real number for which `fits` is true, as described by `rule`."""

    def check(name: str, value: Any) -> None:
        require_number(rule, fits, **{name: value})

    return _field(default, description, check)


def texts(description: str) -> Any:
    """A tuple of texts, empty by default, each with one character or more."""

    def check(name: str, value: Any) -> None:
        if not (isinstance(value, tuple) and all(isinstance(text, str) for text in value)):
            raise ElmanError(
                f"{in_words(name)} must be a text or a tuple of texts, got {shortened(value)}"
            )
        if "" in value:
            raise ElmanError(f"a {in_words(name)} text must have one character or more, got ''")

    return _field((), description, check)


def redefined(kind: type, name: str, default: Any) -> Any:
    """A field of another dataclass, with another default."""
    (found,) = (each for each in fields(kind) if each.name == name)
    return field(default=default, metadata=found.metadata)


def choice(
    default: str | None, description: str, choices: Sequence[str], *, unset: str = ""
) -> Any:
    """One of several words; they replace `{choices}` in the help text."""

    def check(name: str, value: Any) -> None:
        require_one_of(choices, **{name: value})

    return _field(default, description.format(choices=alternatives(choices)), check, unset)


def flag(description: str) -> Any:
    """True or false; false by default."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, bool):
            raise ElmanError(f"{in_words(name)} must be true or false, got {shortened(value)}")

    return _field(False, description, check)


def path(default: str | None, description: str, **options: Any) -> Any:
    """Path of a file or a folder; `options` are for the command line."""

    def check(name: str, value: Any) -> None:
        if not (isinstance(value, str) and value):
            raise ElmanError(f"{in_words(name)} must be a path, got {shortened(value)}")

    return _field(default, description, check, **options)


def paths(description: str, **options: Any) -> Any:
    """Paths of files, none or more; `options` are for the command line."""

    def check(name: str, value: Any) -> None:
        if not (isinstance(value, list) and all(isinstance(each, str) and each for each in value)):
            raise ElmanError(f"{in_words(name)} must be a list of paths, got {shortened(value)}")

    return field(default_factory=list, metadata={"help": description, "check": check, **options})


def checked(
    default: str | None, description: str, check: Callable[[Any], object], *, unset: str = ""
) -> Any:
    """A text for which `check` raises an ElmanError unless it is valid."""
    return _field(default, description, lambda name, value: check(value), unset)


def anything(default: Any, description: str) -> Any:
    """Any value; it is checked elsewhere."""
    return _field(default, description, lambda name, value: None)


def _field(
    default: Any,
    description: str,
    check: Callable[[str, Any], object],
    unset: str = "",
    **options: Any,
) -> Any:
    if unset:
        description = f"{description} [default: {unset}]"
    return field(default=default, metadata={"help": description, "check": check, **options})
