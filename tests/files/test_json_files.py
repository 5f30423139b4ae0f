"""JSON is read strictly, and what a dataclass has no place for is refused by name."""

import contextlib
import json
import math
import os
import subprocess
import sys
import tracemalloc
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.data.sizes import Size
from elman.errors import ElmanError
from elman.files import json_files, regular
from elman.model.weights import Architecture
from elman.runs.records import Config, RunSettings, TrainingRecord
from elman.runs.settings import Settings
from elman.training.history import Epoch, TrainerState

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
# Those of Unicode, and those that stand for bytes of a file name that are no UTF-8.
texts = st.text(st.characters(codec="utf-8")) | st.binary(max_size=9).map(
    lambda raw: raw.decode(errors="surrogateescape")
)
architectures = st.builds(
    Architecture,
    cell=st.sampled_from(["rnn", "gru", "lstm"]),
    vocab=st.integers(1, 1 << 20),
    hidden=st.integers(1, 1 << 16),
    layers=st.integers(1, 1000),
    embedding=st.integers(0, 1 << 16),
)
counts = st.integers(0, 1 << 60)
paths = texts.filter(lambda text: text not in ("", "-") and "://" not in text)
records = st.builds(
    TrainingRecord,
    settings=st.builds(Settings, text=paths, init=st.none() | paths),
    text_sha256=texts,
    epoch=st.integers(1, 9),
    framework_version=texts,
    python_version=texts,
    trained=st.builds(Size, counts, counts, counts),
)
configs = st.builds(
    Config,
    architecture=architectures,
    tokenizer=st.sampled_from(["char", "byte", "word"]),
    newlines=st.sampled_from(["universal", "keep"]),
    precision=st.sampled_from(["single", "bf16"]),
    clean=st.booleans(),
    training=st.none() | records,
)
numbers = st.floats(0, 1e300)


@st.composite
def states(draw: st.DrawFn) -> TrainerState:
    """States in which a training can be."""
    rows = st.builds(Epoch, st.just(0), numbers, st.just(math.nan), numbers, numbers)
    history = [replace(row, epoch=n) for n, row in enumerate(draw(st.lists(rows, max_size=3)), 1)]
    batches = draw(counts)
    return TrainerState(
        history=history,
        batches=batches,
        loss=(draw(numbers), batches + draw(counts) if batches else 0),
        loader_state=draw(st.none() | st.just({"state": {"state": 2**127 + 1}})),
        updates=len(history) + batches + draw(counts),
        validations=draw(counts),
        seconds=draw(numbers) + (history[-1].seconds if history else 0),
        validation_seconds=draw(numbers),
        stopped=bool(history),
    )


@given(configs | states())
def test_written_json_is_read_back(record: Any) -> None:
    text = json.dumps(asdict(record)).encode()
    found = json_files.record(type(record), json_files.parse(text, "it", nan=True), "it")
    assert repr(found) == repr(record)


SIZES = ("hidden", "layers", "embedding", "seq_len", "batch_size", "epochs", "patience", "seed")
REALS = ("dropout", "minutes", "lr", "warmup", "clip", "momentum", "weight_decay", "recurrent_lr")
REALS += ("input_dropout",)
SETTINGS: dict[str, Any] = {
    **{"text": "story.txt", "edition": None, "tokenizer": "char", "cell": "rnn"},
    **{"hidden": 4, "layers": 2, "embedding": 0, "tied": False, "dropout": 0.5, "seq_len": 8},
    **{"batch_size": 16, "batching": "random", "epochs": 2, "minutes": None, "patience": None},
    **{"lr": 1.0, "schedule": "constant", "warmup": 0.0, "clip": 1.0, "optimizer": "sgd"},
    **{"momentum": 0.0, "precision": "bf16", "framework": "numpy", "device": "auto", "seed": 0},
    **{"vocab_size": None, "min_freq": None, "newlines": None},
}


@given(
    st.dictionaries(st.sampled_from(SIZES), st.integers(), max_size=2),
    st.dictionaries(st.sampled_from(REALS), st.floats(), max_size=2),
)
def test_the_settings_of_any_training_are_read_back(
    sizes: dict[str, int], reals: dict[str, float]
) -> None:
    try:
        settings = Settings(**SETTINGS | sizes | reals)
    except ElmanError:
        return
    text = json.dumps(asdict(settings)).encode()
    assert json_files.record(Settings, json_files.parse(text, "it"), "it") == settings


def spoilt(record: Any, path: list[str], change: Any) -> Any:
    """A record as a dict, changed at the end of a path of names."""
    value = inner = asdict(record)
    for name in path[:-1]:
        inner = inner[name]
    change(inner, path[-1])
    return value


PATHS = [["clean"], ["tokenizer"], ["newlines"], ["architecture"], ["architecture", "hidden"]]


@given(configs, st.sampled_from(PATHS), values)
def test_a_field_of_another_kind_is_refused_by_its_name(
    config: Config, path: list[str], value: Any
) -> None:
    kept: Any = config
    for name in path:
        kept = getattr(kept, name)
    changed = spoilt(config, path, lambda inner, name: inner.__setitem__(name, value))
    if type(value) is type(kept) or isinstance(value, dict):  # may be one that will do
        return
    with pytest.raises(ElmanError, match=rf"^config: {'.'.join(path)} must be .*, got "):
        json_files.record(Config, changed, "config")


@given(configs, st.sampled_from(PATHS))
def test_a_missing_field_is_named(config: Config, path: list[str]) -> None:
    changed = spoilt(config, path, lambda inner, name: inner.pop(name))
    with pytest.raises(ElmanError, match=rf"^config: the field {'.'.join(path)} is missing$"):
        json_files.record(Config, changed, "config")


@given(configs, values, st.sampled_from([[], ["architecture"]]))
def test_an_unknown_field_is_named(config: Config, value: Any, path: list[str]) -> None:
    changed = spoilt(config, [*path, "more"], lambda inner, name: inner.__setitem__(name, value))
    named = ".".join([*path, '"more"'])
    with pytest.raises(ElmanError, match=f"^config: {named} is not a known field: "):
        json_files.record(Config, changed, "config")


@given(values, st.sampled_from([Config, TrainerState, RunSettings, Architecture]))
def test_no_value_whatever_gives_another_error(value: Any, kind: type) -> None:
    with pytest.raises(ElmanError) as error:
        json_files.record(kind, value, "it")
    assert len(str(error.value).splitlines()) == 1


@dataclass(frozen=True)
class Everything:
    """A field of each kind that a record can have."""

    whole: int
    real: float
    pair: tuple[int, float]
    maybe: int | None
    epochs: list[Epoch] | None = None


GOOD: dict[str, Any] = {"whole": 1, "real": 2, "pair": [3, 4], "maybe": None, "epochs": None}


def test_a_whole_number_will_do_for_a_float() -> None:
    found = json_files.record(Everything, GOOD, "it")
    assert found == Everything(1, 2.0, (3, 4.0), None)
    assert isinstance(found.real, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"whole": True}, "whole must be a whole number below 2^63, got true"),
        ({"whole": 1.0}, "whole must be a whole number below 2^63, got 1.0"),
        ({"whole": 1 << 63}, "whole must be a whole number below 2^63, got 9223372036854775808"),
        ({"real": False}, "real must be a number, got false"),
        ({"real": 10**400}, "real must be a number, got 1" + "0" * 36 + "..."),
        ({"pair": [1]}, "pair must have 2 values, got 1"),
        ({"pair": [1, "2"]}, 'pair[1] must be a number, got "2"'),
        ({"pair": {}}, "pair must be a list, got {}"),
        ({"maybe": "1"}, 'maybe must be a whole number below 2^63, got "1"'),
        ({"epochs": [{}]}, "the field epochs[0].epoch is missing"),
        (
            {"epochs": [[]]},
            "epochs[0] must be an object with the fields epoch, train_loss, val_loss",
        ),
        ({"\x1b": 1}, r'"\u001b" is not a known field'),
    ],
)
def test_each_kind_of_field_has_its_rule(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ElmanError) as error:
        json_files.record(Everything, GOOD | change, "it")
    assert str(error.value).startswith(f"it: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a": 1, "b": 2, "a": 1}', 'cannot read it: the name "a" is duplicated'),
        (b"[NaN]", "cannot read it: NaN is not allowed"),
        (b"[-Infinity]", "cannot read it: -Infinity is not allowed"),
        (b"[1e999]", "cannot read it: the number 1e999 is too large"),
        (b"[" * 100_000, "cannot read it: it is nested too deeply"),
        (b"[" * 101 + b"]" * 101, "cannot read it: it is nested too deeply"),
        (b'{"a":' * 990 + b"1" + b"}" * 990, "cannot read it: it is nested too deeply"),
        (b"[\xff]", "cannot read it: byte 1 is not valid UTF-8"),
        (b"", "cannot read it as JSON: Expecting value at line 1, column 1"),
        (b"[1,\n2", "cannot read it as JSON: Expecting ',' delimiter at line 2, column 2"),
    ],
)
def test_ambiguous_json_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(ElmanError) as error:
        json_files.parse(text, "it")
    assert str(error.value) == message


def test_a_number_has_no_more_digits_than_python_converts() -> None:
    assert json_files.parse(b"9" * 4300, "it") == 10**4300 - 1
    with pytest.raises(ElmanError, match="cannot read it: Exceeds the limit"):
        json_files.parse(b"9" * 5000, "it")


def test_a_hundred_lists_may_be_in_each_other() -> None:
    assert json_files.parse(b"[" * 100 + b"]" * 100, "it")


def inner(value: Any) -> list[Any]:
    return list(value.values() if isinstance(value, dict) else value)


def depth(value: Any) -> int:
    return 0 if isinstance(value, str) else 1 + max(map(depth, inner(value)), default=0)


def lists_and_commas(value: Any) -> int:
    if isinstance(value, str):
        return 0
    return 1 + max(0, len(value) - 1) + sum(map(lists_and_commas, inner(value)))


symbols = st.text('"[]{},:\\a')
nested = st.recursive(
    symbols,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(symbols, inner, max_size=4),
)


@given(nested)
def test_depth_and_values_are_counted_before_they_are_made(value: Any) -> None:
    text = json.dumps([value]).encode()
    most = lists_and_commas([value])
    with pytest.MonkeyPatch.context() as bounds:
        bounds.setattr(json_files, "MAX_DEPTH", depth([value]))
        json_files._check_counts(text, most)
        bounds.setattr(json_files, "MAX_DEPTH", depth([value]) - 1)
        with pytest.raises(ValueError, match="nested too deeply"):
            json_files._check_counts(text, most)
        bounds.setattr(json_files, "MAX_DEPTH", 100)
        with pytest.raises(ValueError, match=r"lists or .* values"):
            json_files._check_counts(text, most - 1)


def test_many_lists_are_refused_before_memory_is_taken() -> None:
    text = b"[[[]]," + b"[[]]," * (1 << 18) + b"[]]"
    tracemalloc.start()
    with pytest.raises(ElmanError, match=r"it has more than 524,288 lists or 2,097,152 values"):
        json_files.parse(text, "it")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * len(text)


@pytest.mark.skipif(sys.platform == "win32", reason="a stack there is no smaller than 1 MiB")
def test_no_depth_is_too_much_for_a_small_stack() -> None:
    code = (
        "import threading\n"
        "from elman.files import json_files\n"
        "def refused(text):\n"
        "    try: json_files.parse(text, 'it')\n"
        "    except json_files.ElmanError as error: print(error)\n"
        "threading.stack_size(128 << 10)\n"
        "for text in (b'[' * 500_000 + b']' * 500_000, b'{\"a\":' * 500_000):\n"
        "    thread = threading.Thread(target=refused, args=[text])\n"
        "    thread.start()\n"
        "    thread.join()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == 2 * "cannot read it: it is nested too deeply\n", done


def test_a_name_that_comes_twice_is_found_at_once_among_many() -> None:
    compared = 0

    class Name(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str(self) == other

    names = [Name(number) for number in range(1000)]
    with pytest.raises(ValueError, match='"999" is duplicated'):
        json_files._object([(name, 1) for name in [*names, Name("999")]])
    assert compared < 2000


def test_pairs_of_surrogates_are_one_character() -> None:
    assert json_files.parse(json.dumps("😀").encode(), "it") == "😀"


@given(st.binary(max_size=60))
def test_no_bytes_whatever_give_another_error(raw: bytes) -> None:
    with contextlib.suppress(ElmanError):
        json_files.parse(raw, "it")


def test_a_file_is_read_up_to_a_size_and_where_it_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text('"' + "x" * 98 + '"')
    assert json_files.read(path, 100) == "x" * 98
    with pytest.raises(ElmanError, match=f"cannot read {path}: it has more than 99 bytes"):
        json_files.read(path, 99)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(ElmanError, match="link: it is a symbolic link, not a regular file"):
        json_files.read(tmp_path / "link", 100)
    with regular.open_regular(
        tmp_path / "link", follow_links=True
    ) as file:  # one that the user names
        assert regular.size(file) == 100
    with pytest.raises(ElmanError, match="it is a folder, not a regular file"):
        json_files.read(tmp_path, 100)
    with pytest.raises(ElmanError, match="there is no file"):
        json_files.read(tmp_path / "none", 100)
    with pytest.raises(ElmanError, match="a file name cannot contain NUL"):
        json_files.read(tmp_path / "a\0b", 100)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for links in (False, True):
        with (
            pytest.raises(ElmanError, match="pipe: it is a pipe, not a regular file"),
            regular.open_regular(tmp_path / "pipe", links),
        ):
            pass
    with pytest.raises(ElmanError, match="it is a device or socket"):
        json_files.read(Path("/dev/zero"), 100)


def test_a_link_that_replaces_the_file_meanwhile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("1")
    (tmp_path / "secret").write_text("2")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    earlier = os.lstat(tmp_path / "file")
    monkeypatch.setattr(os, "lstat", lambda path: earlier)
    with pytest.raises(ElmanError, match=r"cannot read .*link"):
        json_files.read(tmp_path / "link", 100)
