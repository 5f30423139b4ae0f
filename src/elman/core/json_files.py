"""JSON files: of a bounded size, read strictly, and checked against the fields of a dataclass."""

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from elman.core import disk
from elman.core.errors import ElmanError

MOST_DIGITS = 100  # a generator's state is a whole number of 39
MOST_NESTED = 100  # the depth of a record is below ten
Record = TypeVar("Record")


def write(path: Path, value: Any) -> None:
    """Write a value that JSON has."""
    disk.write(path, (json.dumps(value, indent=2) + "\n").encode())


def read(path: Path, most: int) -> Any:
    """The value in a JSON file of at most so many bytes."""
    return parse(disk.read(path, most), str(path))


def parse(raw: bytes, where: str, nan: bool = False) -> Any:
    """The value of a JSON text; `where` is its name in an ElmanError.

    Names that come twice, infinite numbers, NaN unless `nan`, and what is nested too deep are
    refused. A text may have half a surrogate pair: so Python writes a file name that is no UTF-8.
    """

    def constant(name: str) -> float:
        if nan and name == "NaN":
            return math.nan
        raise ValueError(f"{name} is no number")

    try:
        value = json.loads(
            raw.decode(),
            object_pairs_hook=_object,
            parse_constant=constant,
            parse_int=_whole,
            parse_float=_finite,
        )
        _check_depth(value)
    except RecursionError as error:
        raise ElmanError(f"cannot read {where}: it is nested too deep") from error
    except UnicodeDecodeError as error:
        raise ElmanError(f"cannot read {where}: byte {error.start} is not of UTF-8") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ElmanError(f"cannot read {where} as JSON: {error.msg} at {place}") from error
    except ValueError as error:
        raise ElmanError(f"cannot read {where}: {error}") from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ValueError(f"the name {_shown(twice)} comes twice")
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MOST_NESTED):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise RecursionError


def _inside(value: Any) -> list[Any]:
    """The lists and objects that a value holds."""
    held = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [inner for inner in held if isinstance(inner, dict | list)]


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:MOST_DIGITS]} is too large")
    return value


def record(kind: type[Record], value: Any, where: str) -> Record:
    """A dataclass of what JSON gave; an ElmanError names the first field that does not fit.

    It may have fields of text, truth, numbers, lists, tuples, dicts, other dataclasses, and of
    these or None.
    """
    try:
        return cast(Record, _typed(kind, value, ""))
    except ElmanError as error:
        raise type(error)(f"{where}: {error}") from error


def _typed(kind: Any, value: Any, name: str) -> Any:
    """`value` as one of this type; a whole number will do for a float."""
    origin, of = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        (kind,) = set(of) - {type(None)}
        return None if value is None else _typed(kind, value, name)
    if is_dataclass(kind):
        return _of_fields(cast(type, kind), value, name)
    what, fits = KINDS[origin or kind]
    if not fits(value):
        raise ElmanError(f"{name or 'it'} must be {what}, got {_shown(value)}")
    if origin is list:
        return [_typed(of[0], item, f"{name}[{place}]") for place, item in enumerate(value)]
    if origin is tuple:
        return _tuple(of, value, name)
    return float(value) if kind is float else value


KINDS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    str: ("a text", lambda value: isinstance(value, str)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: (
        "a whole number below 2^63",
        lambda value: type(value) is int and -(1 << 63) < value < 1 << 63,
    ),
    float: (
        "a number",
        lambda value: type(value) is float or (type(value) is int and abs(value) < 1 << 1023),
    ),
    list: ("a list", lambda value: isinstance(value, list)),
    tuple: ("a list", lambda value: isinstance(value, list)),
    dict: ("an object", lambda value: isinstance(value, dict)),
}


def _tuple(of: tuple[Any, ...], value: list[Any], name: str) -> tuple[Any, ...]:
    if len(value) != len(of):
        raise ElmanError(f"{name} must have {len(of)} values, got {len(value)}")
    return tuple(
        _typed(kind, item, f"{name}[{place}]")
        for place, (kind, item) in enumerate(zip(of, value, strict=True))
    )


def _of_fields(kind: type, value: Any, name: str) -> Any:
    wanted, kinds = {field.name: field for field in fields(kind)}, get_type_hints(kind)
    names = ", ".join(wanted)
    if not isinstance(value, dict):
        raise ElmanError(f"{name or 'it'} must be an object of {names}, got {_shown(value)}")
    below, given = f"{name}." if name else "", {}
    for field, item in value.items():
        if field not in wanted:
            raise ElmanError(f"{below}{_shown(field)} is no field that is known: {names}")
        given[field] = _typed(kinds[field], item, below + field)
    for field in wanted:
        if field not in given and _required(wanted[field]):
            raise ElmanError(f"the field {below}{field} is missing")
    return kind(**given)


def _required(field: "Field[Any]") -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _shown(value: Any) -> str:
    """A value as JSON has it, cut to what a line takes."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= 40 else text[:37] + "..."
