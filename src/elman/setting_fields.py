"""Fields of a settings dataclass, each with default, help text and check.

    @dataclass(frozen=True)
    class Settings:
        hidden: int = whole(32, "Hidden units of a layer.", at_least=1)

        def __post_init__(self) -> None:
            check(self)

The command line's options are made from the same fields. `unset` describes a default of None.
Other `options` of a field are kept in its metadata.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, field, fields, is_dataclass
from typing import Any

from elman.errors import (
    ElmanError,
    alternatives,
    in_words,
    is_finite_number,
    is_number,
    require_at_least,
    require_at_most,
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
    default: int | None,
    description: str,
    *,
    at_least: int,
    at_most: int = 1 << 31,
    unset: str = "",
    **options: Any,
) -> Any:
    """A whole number within `at_least` and `at_most` inclusive."""

    def check(name: str, value: Any) -> None:
        require_at_least(at_least, **{name: value})
        require_at_most(at_most, **{name: value})

    return _field(default, description, check, unset, **options)


SHARE = "at least 0 and below 1", lambda value: 0 <= value < 1
NOT_NEGATIVE = "at least 0", lambda value: value >= 0
POSITIVE = "above 0", lambda value: value > 0


def real(
    default: float | None,
    description: str,
    bounds: tuple[str, Callable[[float], bool]],
    **options: Any,
) -> Any:
    """A finite number within some bounds."""
    rule, fits = bounds

    def is_valid(value: float) -> bool:
        return is_finite_number(value) and fits(value)

    return number(default, description, f"a finite number {rule}", is_valid, **options)


def number(
    default: float | None,
    description: str,
    rule: str,
    fits: Callable[[float], bool],
    **options: Any,
) -> Any:
    """A real number for which `fits` is true, as described by `rule`."""
    check = _requiring(rule, lambda value: is_number(value) and fits(value))
    return _field(default, description, check, **options)


def text(default: str | None, description: str) -> Any:
    """A text."""
    return _field(default, description, _requiring("a text", lambda value: isinstance(value, str)))


def texts(description: str) -> Any:
    """A tuple of texts, empty by default, each with one character or more."""
    check_kind = _requiring(
        "a text or a tuple of texts",
        lambda value: isinstance(value, tuple) and all(isinstance(text, str) for text in value),
    )

    def check(name: str, value: Any) -> None:
        check_kind(name, value)
        if "" in value:
            raise ElmanError(f"a {in_words(name)} text must have one character or more, got ''")

    return _field((), description, check)


def make_tuple(settings: Any, name: str) -> None:
    """Replace the value of a field of `texts`, if it is a text or a list, by a tuple."""
    value = vars(settings)[name]
    if isinstance(value, str | list):
        object.__setattr__(settings, name, (value,) if isinstance(value, str) else tuple(value))


def redefined(kind: type, name: str, default: Any) -> Any:
    """A field of another dataclass, with another default."""
    (found,) = (each for each in fields(kind) if each.name == name)
    return field(default=default, metadata=found.metadata)


def choice(default: str | None, description: str, choices: Sequence[str], **options: Any) -> Any:
    """One of several words; they replace `{choices}` in the help text."""

    def check(name: str, value: Any) -> None:
        require_one_of(choices, **{name: value})

    return _field(default, description.format(choices=alternatives(choices)), check, **options)


def flag(description: str, **options: Any) -> Any:
    """True or false; false by default."""
    check = _requiring("true or false", lambda value: isinstance(value, bool))
    return _field(False, description, check, **options)


def path(default: str | None, description: str, **options: Any) -> Any:
    """Path of a file or a folder; `options` are for the command line."""
    return _field(default, description, _requiring("a path", _is_path), **options)


def paths(description: str, **options: Any) -> Any:
    """Paths of files, none or more; `options` are for the command line."""
    check = _requiring(
        "a list of paths", lambda value: isinstance(value, list) and all(map(_is_path, value))
    )
    return field(default_factory=list, metadata={"help": description, "check": check, **options})


def checked(
    default: Any, description: str, check: Callable[[Any], object] = id, **options: Any
) -> Any:
    """A value for which `check` raises an ElmanError unless it is valid."""
    return _field(default, description, lambda name, value: check(value), **options)


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _requiring(rule: str, fits: Callable[[Any], bool]) -> Callable[[str, Any], None]:
    """A check that raises an ElmanError, "NAME must be RULE", unless a value fits."""

    def check(name: str, value: Any) -> None:
        if not fits(value):
            raise ElmanError(f"{in_words(name)} must be {rule}, got {shortened(value)}")

    return check


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
