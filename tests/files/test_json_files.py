"""JSON is read strictly, and what a dataclass has no place for is refused by name."""

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.errors import ElmanError
from elman.files import json_files, regular
from elman.model.weights import Architecture
from elman.runs.records import Config, RunSettings
from elman.training.history import TrainerState

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
# Those of Unicode, and those that stand for bytes of a file name that are no UTF-8.
texts = st.text(st.characters(codec="utf-8")) | st.binary(max_size=9).map(
    lambda raw: raw.decode(errors="surrogateescape")
)


@dataclass(frozen=True)
class Inner:
    name: str


@dataclass(frozen=True)
class Everything:
    """A field of each kind that a record can have."""

    whole: int
    real: float
    flag: bool
    pair: tuple[int, float]
    maybe: int | None
    inner: Inner
    many: list[Inner] | None = None


integers = st.integers(1 - (1 << 63), (1 << 63) - 1)
floats = st.floats(allow_infinity=False)
inner = st.builds(Inner, texts)
records = st.builds(
    Everything,
    *(integers, floats, st.booleans(), st.tuples(integers, floats), st.none() | integers, inner),
    st.none() | st.lists(inner, max_size=3),
)


@given(records)
def test_written_json_is_read_back(record: Everything) -> None:
    text = json.dumps(asdict(record)).encode()
    found = json_files.record(Everything, json_files.parse(text, "it", nan=True), "it")
    assert repr(found) == repr(record)


@given(values, st.sampled_from([Config, TrainerState, RunSettings, Architecture, Everything]))
def test_no_value_whatever_gives_another_error(value: Any, kind: type) -> None:
    with pytest.raises(ElmanError) as error:
        json_files.record(kind, value, "it")
    assert len(str(error.value).splitlines()) == 1


@given(st.binary(max_size=60))
def test_no_bytes_whatever_give_another_error(raw: bytes) -> None:
    with contextlib.suppress(ElmanError):
        json_files.parse(raw, "it")


GOOD: dict[str, Any] = {
    **{"whole": 1, "real": 2, "flag": True, "pair": [3, 4]},
    **{"maybe": None, "inner": {"name": "a"}, "many": None},
}
LACKING = {name: value for name, value in GOOD.items() if name != "maybe"}


def test_a_whole_number_will_do_for_a_float() -> None:
    found = json_files.record(Everything, GOOD, "it")
    assert found == Everything(1, 2.0, True, (3, 4.0), None, Inner("a"))
    assert isinstance(found.real, float)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            [],
            "it must be an object with the fields whole, real, flag, pair, maybe, inner, many, go",
        ),
        (LACKING, "the field maybe is missing"),
        ({k: v for k, v in GOOD.items() if k != "many"}, "the field many is missing"),
        (GOOD | {"whole": True}, "whole must be a whole number below 2^63, got true"),
        (GOOD | {"whole": 1.0}, "whole must be a whole number below 2^63, got 1.0"),
        (GOOD | {"whole": 1 << 63}, f"whole must be a whole number below 2^63, got {1 << 63}"),
        (GOOD | {"real": False}, "real must be a number, got false"),
        (GOOD | {"real": 10**400}, "real must be a number, got 1" + "0" * 36 + "..."),
        (GOOD | {"flag": 1}, "flag must be true or false, got 1"),
        (GOOD | {"pair": [1]}, "pair must have 2 values, got 1"),
        (GOOD | {"pair": [1, "2"]}, 'pair[1] must be a number, got "2"'),
        (GOOD | {"pair": {}}, "pair must be a list, got {}"),
        (GOOD | {"maybe": "1"}, 'maybe must be a whole number below 2^63, got "1"'),
        (GOOD | {"inner": {}}, "the field inner.name is missing"),
        (GOOD | {"inner": {"name": None}}, "inner.name must be a text, got null"),
        (GOOD | {"many": [{"a": 1}]}, 'many[0]."a" is not a known field: name'),
        (GOOD | {"many": [[]]}, "many[0] must be an object with the fields name, got []"),
        (GOOD | {"\x1b": 1}, r'"\u001b" is not a known field'),
    ],
)
def test_each_kind_of_field_has_its_rule(value: Any, message: str) -> None:
    with pytest.raises(ElmanError) as error:
        json_files.record(Everything, value, "it")
    assert str(error.value).startswith(f"it: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a": 1, "b": 2, "a": 1}', 'cannot read it: the name "a" is duplicated'),
        (b"[NaN]", "cannot read it: NaN is not allowed"),
        (b"[-Infinity]", "cannot read it: -Infinity is not allowed"),
        (b"[1e999]", "cannot read it: the number 1e999 is too large"),
        (b"9" * 5000, "cannot read it: Exceeds the limit"),
        (b"[" * 100_000, "cannot read it: it is nested too deeply"),
        (b"[" * 101 + b"]" * 101, "cannot read it: it is nested too deeply"),
        (b'{"a":' * 990 + b"1" + b"}" * 990, "cannot read it: it is nested too deeply"),
        (b"[[]," * (1 << 19), "cannot read it: it has more than 524,288 lists or 2,097,152 values"),
        (b"[\xff]", "cannot read it: byte 1 is not valid UTF-8"),
        (b"[1,\n2", "cannot read it as JSON: Expecting ',' delimiter at line 2, column 2"),
    ],
)
def test_ambiguous_json_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(ElmanError) as error:
        json_files.parse(text, "it")
    assert str(error.value).startswith(message)


def test_long_numbers_and_a_hundred_lists_in_each_other_are_read() -> None:
    assert json_files.parse(b"9" * 4300, "it") == 10**4300 - 1
    assert json_files.parse(b"[" * 100 + b"]" * 100, "it")


def test_values_are_counted_before_they_are_made_and_texts_are_one_value() -> None:
    texts = ["[" * 200, '"' + "[" * 200, "\\" + "{" * 200, "\\", '"', "," * 9]
    value = [*texts, {"]" * 200: texts, "a": []}]
    text = json.dumps(value).encode()
    assert json_files.parse(text, "it", max_values=4 + 6 + 1 + 5) == value
    with pytest.raises(ElmanError, match="it has more than 524,288 lists or 15 values"):
        json_files.parse(text, "it", max_values=15)


def replaced(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Read what was a file when it was looked at, and is a link when it is opened."""
    earlier = os.lstat(folder / "file")
    patch.setattr(os, "lstat", lambda path: earlier)
    json_files.read(folder / "link", 100)


def piped(folder: Path, links: bool) -> None:
    os.mkfifo(folder / "pipe")
    with regular.open_regular(folder / "pipe", links):
        pass


REFUSED: list[tuple[Callable[[Path, pytest.MonkeyPatch], object], str]] = [
    (lambda folder, _: json_files.read(folder / "file", 99), "file: it has more than 99 bytes"),
    (lambda folder, _: json_files.read(folder / "link", 100), "link: it is a symbolic link, not a"),
    (lambda folder, _: json_files.read(folder, 100), "it is a folder, not a regular file"),
    (lambda folder, _: json_files.read(folder / "none", 100), "there is no file"),
    (lambda folder, _: json_files.read(folder / "a\0b", 100), "a file name cannot contain NUL"),
    (lambda folder, _: json_files.read(Path("/dev/zero"), 100), "it is a device or socket"),
    (lambda folder, _: piped(folder, False), "pipe: it is a pipe, not a regular file"),
    (lambda folder, _: piped(folder, True), "pipe: it is a pipe, not a regular file"),
    (replaced, "cannot read .*link"),
]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
@pytest.mark.parametrize(("read", "message"), REFUSED, ids=[row[1] for row in REFUSED])
def test_only_a_file_is_read_and_up_to_a_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any, message: str
) -> None:
    (tmp_path / "file").write_text('"' + "x" * 98 + '"')
    assert json_files.read(tmp_path / "file", 100) == "x" * 98
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with regular.open_regular(tmp_path / "link", follow_links=True) as file:
        assert regular.size(file) == 100  # one that the user names
    with pytest.raises(ElmanError, match=message):
        read(tmp_path, monkeypatch)
