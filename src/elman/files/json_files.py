"""JSON files: bounded in size, parsed strictly, checked against the fields of a dataclass."""

import json
import math
from collections import Counter
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

from elman.errors import ElmanError
from elman.files import atomic, regular

MAX_DEPTH = 100  # of nesting; records have a depth below ten
MAX_LISTS = 1 << 19  # and objects; a checkpoint has one for each of up to 500,000 epochs
MAX_VALUES = 1 << 21  # twice the size of the largest vocabulary
DEPTH = np.zeros(256, np.int8)  # change of the depth by a byte outside strings
DEPTH[[*b"[{"]], DEPTH[[*b"]}"]] = 1, -1
OTHERS = bytes({*range(256)} - {*b'[]{},"'})
Record = TypeVar("Record")


def write(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically."""
    atomic.write(path, (json.dumps(value, indent=2) + "\n").encode())


def finite(value: Any) -> Any:
    """Replace NaN and infinity in a value by None: JSON has neither."""
    if isinstance(value, dict):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read(path: Path, max_bytes: int) -> Any:
    """Parse a JSON file of at most `max_bytes`."""
    return parse(regular.read(path, max_bytes), str(path))


def parse(raw: bytes, where: str, nan: bool = False, max_values: int = MAX_VALUES) -> Any:
    """Parse JSON; an ElmanError that names it `where` if it is invalid.

    JSON nested deeper than MAX_DEPTH, or with more than MAX_LISTS lists and objects or `max_values`
    values, is refused before any value is created. Duplicate names, infinity and, unless `nan`, NaN
    are refused, too. A string may contain half a surrogate pair: Python uses it in file names that
    are not UTF-8.
    """

    def constant(name: str) -> float:
        if nan and name == "NaN":
            return math.nan
        raise ValueError(f"{name} is not allowed")

    try:
        _check_counts(raw, max_values)
        return json.loads(
            raw.decode(),
            object_pairs_hook=_object,
            parse_constant=constant,
            parse_float=_finite,
        )
    except UnicodeDecodeError as error:
        raise ElmanError(f"cannot read {where}: byte {error.start} is not valid UTF-8") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ElmanError(f"cannot read {where} as JSON: {error.msg} at {place}") from error
    except ValueError as error:
        raise ElmanError(f"cannot read {where}: {error}") from error


def _check_counts(raw: bytes, max_values: int) -> None:
    """Raise a ValueError if JSON is nested too deeply or has too many values.

    Holds for everything that a parser reads before it finds an error. A limit on bytes is not
    enough: parsed lists take forty times as many.
    """
    symbols = raw.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, OTHERS)
    found = np.frombuffer(symbols, np.uint8)
    outside = found[~np.logical_xor.accumulate(found == ord('"'))]
    changes = DEPTH[outside]
    brackets = changes[changes != 0]
    lists, commas = np.count_nonzero(brackets > 0), np.count_nonzero(outside == ord(","))
    if len(brackets) > 3 * MAX_LISTS or lists > MAX_LISTS or lists + commas > max_values:
        raise ValueError(f"it has more than {MAX_LISTS:,} lists or {max_values:,} values")
    if brackets.cumsum(dtype=np.int64).max(initial=0) > MAX_DEPTH:
        raise ValueError("it is nested too deeply")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        duplicate = next(name for name, count in counts.items() if count > 1)
        raise ValueError(f"the name {_shown(duplicate)} is duplicated")
    return value


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:40]} is too large")
    return value


def record(kind: type[Record], value: Any, where: str) -> Record:
    """Build the dataclass `kind` from parsed JSON; an ElmanError names the first invalid field.

    A value without a field is refused, even if the field has a default. Fields may be strings,
    booleans, numbers, lists, tuples, dicts, dataclasses, and optional.
    """
    try:
        return cast(Record, _typed(kind, value, ""))
    except ElmanError as error:
        raise type(error)(f"{where}: ", error) from error


def _typed(kind: Any, value: Any, name: str) -> Any:
    """Convert a value to the type of a field; integers are accepted as floats."""
    origin, of = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        (kind,) = set(of) - {type(None)}
        return None if value is None else _typed(kind, value, name)
    if is_dataclass(kind):
        return _of_fields(cast(type, kind), value, name)
    parsed = origin or kind
    if not _fits(value, list if parsed is tuple else parsed):
        raise ElmanError(f"{name or 'it'} must be {FIELD_TYPES[parsed]}, got {_shown(value)}")
    if parsed not in (list, tuple):
        return float(value) if kind is float else value
    kinds = of * len(value) if parsed is list else of
    if len(value) != len(kinds):
        raise ElmanError(f"{name} must have {len(kinds)} values, got {len(value)}")
    items = enumerate(zip(kinds, value, strict=True))
    return parsed(_typed(each, item, f"{name}[{place}]") for place, (each, item) in items)


FIELD_TYPES = {
    str: "a text",
    bool: "true or false",
    int: "a whole number below 2^63",
    float: "a number",
    list: "a list",
    tuple: "a list",
    dict: "an object",
}


def _fits(value: Any, kind: type) -> bool:
    """True for a value of this type; integers fit floats, and both are bounded."""
    if type(value) is int and kind in (int, float):
        return -(1 << 63) < value < 1 << 63 if kind is int else abs(value) < 1 << 1023
    return type(value) is kind


def _of_fields(kind: type, value: Any, name: str) -> Any:
    wanted, kinds = [field.name for field in fields(kind)], get_type_hints(kind)
    names = ", ".join(wanted)
    if not isinstance(value, dict):
        raise ElmanError(
            f"{name or 'it'} must be an object with the fields {names}, got {_shown(value)}"
        )
    below, given = f"{name}." if name else "", {}
    for field, item in value.items():
        if field not in wanted:
            raise ElmanError(f"{below}{_shown(field)} is not a known field: {names}")
        given[field] = _typed(kinds[field], item, below + field)
    for field in wanted:
        if field not in given:
            raise ElmanError(f"the field {below}{field} is missing")
    return kind(**given)


def _shown(value: Any) -> str:
    """A value as JSON, shortened to 40 characters."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= 40 else text[:37] + "..."
