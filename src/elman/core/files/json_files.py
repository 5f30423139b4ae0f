"""JSON files: of a bounded size, read strictly, and checked against the fields of a dataclass."""

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

from elman.core.errors import ElmanError
from elman.core.files import atomic, regular

MOST_DIGITS = 100  # a generator's state is a whole number of 39
MOST_NESTED = 100  # the depth of a record is below ten
MOST_LISTS = 1 << 19  # lists and objects: a checkpoint has one for each of at most 500,000 epochs
MOST_VALUES = 1 << 21  # twice the tokens of the largest vocabulary
SCANNED = 1 << 20  # bytes at a time
DEPTH = np.zeros(256, np.int8)  # what a byte outside of texts adds to the depth
DEPTH[[*b"[{"]], DEPTH[[*b"]}"]] = 1, -1
OTHERS = bytes({*range(256)} - {*b'[]{},"'})
Record = TypeVar("Record")


def write(path: Path, value: Any) -> None:
    """Write a value that JSON has."""
    atomic.write(path, (json.dumps(value, indent=2) + "\n").encode())


def finite(value: Any) -> Any:
    """A value as JSON can have it: with None for numbers that are infinite, or none."""
    if isinstance(value, dict):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read(path: Path, most: int) -> Any:
    """The value in a JSON file of at most so many bytes."""
    return parse(regular.read(path, most), str(path))


def parse(raw: bytes, where: str, nan: bool = False, values: int = MOST_VALUES) -> Any:
    """The value of a JSON text; `where` is its name in an ElmanError.

    A text that is nested too deep, or has more than MOST_LISTS lists and objects or more than so
    many values, is refused before any value is made. So are, when they are met, names that come
    twice, infinite numbers, and NaN unless `nan`. A text may have half a surrogate pair: so Python
    writes a file name that is no UTF-8.
    """

    def constant(name: str) -> float:
        if nan and name == "NaN":
            return math.nan
        raise ValueError(f"{name} is no number")

    try:
        _check_counts(raw, values)
        return json.loads(
            raw.decode(),
            object_pairs_hook=_object,
            parse_constant=constant,
            parse_int=_whole,
            parse_float=_finite,
        )
    except UnicodeDecodeError as error:
        raise ElmanError(f"cannot read {where}: byte {error.start} is not of UTF-8") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ElmanError(f"cannot read {where} as JSON: {error.msg} at {place}") from error
    except ValueError as error:
        raise ElmanError(f"cannot read {where}: {error}") from error


def _check_counts(raw: bytes, values: int) -> None:
    """Raise a ValueError where a JSON text is nested too deep, or has too many values.

    It holds of all that a parser reads before it meets a mistake.
    """
    symbols = raw.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, OTHERS)
    depth = lists = commas = 0
    in_text = False
    for start in range(0, len(symbols), SCANNED):
        part = np.frombuffer(symbols[start : start + SCANNED], np.uint8)
        in_texts = np.logical_xor.accumulate(part == ord('"')) ^ in_text
        outside = part[~in_texts]
        changes = DEPTH[outside]
        depths = depth + changes.cumsum(dtype=np.int64)
        lists += int(np.count_nonzero(changes > 0))
        commas += int(np.count_nonzero(outside == ord(",")))
        if depths.max(initial=0) > MOST_NESTED:
            raise ValueError("it is nested too deep")
        if lists > MOST_LISTS or lists + commas > values:
            raise ValueError(f"it has more than {MOST_LISTS:,} lists or {values:,} values")
        depth, in_text = int(depths[-1]) if len(depths) else depth, bool(in_texts[-1])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ValueError(f"the name {_shown(twice)} comes twice")
    return value


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
