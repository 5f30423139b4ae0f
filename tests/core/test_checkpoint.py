"""A checkpoint is whole or not at all, and one that is not is never gone on from."""

import errno
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.core import checkpoint
from elman.core.errors import ElmanError, MachineError
from elman.core.trainer import Epoch, Facts

FACTS = Facts(
    history=[Epoch(1, 0.1 + 0.2, math.nan, 9.5, 1e-3)],
    batches=2,
    loss=(1 / 3, 7),
    drawn_from={"state": {"state": 2**127 + 1}},
    updates=3,
    validations=0,
    seconds=0.25,
    stopped=False,
)


def arrays(number: float = 1) -> dict[str, np.ndarray]:
    return {
        "model.W": np.full((3, 4), number, np.float32).T,
        "steps": np.array(7),
        "generator": np.arange(9, dtype=np.uint8),
    }


def test_what_is_written_is_read_to_the_bit(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "new" / "folder", 3, arrays(np.pi), FACTS)
    found, facts = checkpoint.read_newest(tmp_path / "new" / "folder") or ({}, None)
    assert repr(facts) == repr(FACTS)  # NaN is no equal of its own
    assert found.keys() == arrays().keys()
    for name, array in arrays(np.pi).items():
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for number in (9, 10, 100, 99):
        checkpoint.write(tmp_path, number, arrays(number), FACTS)
    assert [int(path.stem) for path in checkpoint.paths(tmp_path)] == [99, 100]


def test_where_there_is_none_nothing_is_read(tmp_path: Path) -> None:
    assert checkpoint.read_newest(tmp_path / "none") is None


def test_any_changed_or_missing_byte_is_told_and_the_one_before_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint.write(tmp_path, 1, arrays(1), FACTS)
    checkpoint.write(tmp_path, 2, arrays(2), FACTS)
    _, newest = checkpoint.paths(tmp_path)
    whole = newest.read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        for damaged in (bytes(changed), whole[:place]):
            newest.write_bytes(damaged)
            caplog.clear()
            found, _ = checkpoint.read_newest(tmp_path) or ({}, {})
            if found["model.W"][0, 0] == 2:  # white space of the header may stand for itself
                assert found.keys() == arrays().keys()
                assert all(np.array_equal(found[name], arrays(2)[name]) for name in found)
            else:
                assert "the checkpoint is damaged: " in caplog.text
                assert str(newest) in caplog.text


def test_what_is_no_longer_finite_is_not_kept(tmp_path: Path) -> None:
    class Trainer:
        train_batch_idx = 0

        def everything(self) -> dict[str, np.ndarray]:
            return arrays(np.nan if self.train_batch_idx == 2 else 1)

        def facts(self) -> Facts:
            return FACTS

    trainer: Any = Trainer()
    checkpoints = checkpoint.Checkpoints(tmp_path, seconds=0)
    for trainer.train_batch_idx in (1, 2):
        checkpoints.after_update(trainer)
    assert [int(path.stem) for path in checkpoint.paths(tmp_path)] == [1]


class Crash(BaseException):
    """The machine stops here."""


CALLS = [(Path, "mkdir"), (Path, "open"), (os, "fsync"), (Path, "replace"), (Path, "unlink")]


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException) -> Iterator[list]:
    """Within the block call `number` of those that write fails, or, where it writes, half of it."""
    made: list[str] = []

    def wrapped(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **options: Any) -> Any:
            made.append(name)
            if len(made) == number:
                raise error
            result = function(*words, **options)
            return Half(result, made, number, error) if name == "open" else result

        return call

    with monkeypatch.context() as within:
        for owner, name in CALLS:
            within.setattr(owner, name, wrapped(name, getattr(owner, name)))
        yield made


class Half:
    """A file of which a write that fails writes half."""

    def __init__(self, file: Any, made: list[str], number: int, error: BaseException) -> None:
        self.file, self.made, self.number, self.error = file, made, number, error

    def __enter__(self) -> "Half":
        return self

    def __exit__(self, *words: Any) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, content: bytes) -> None:
        self.made.append("write")
        failing = len(self.made) == self.number
        self.file.write(content[: len(content) // 2] if failing else content)
        self.file.flush()
        if failing:
            raise self.error


@pytest.mark.parametrize(
    "error", [Crash(), *(OSError(code, os.strerror(code)) for code in (28, 13, 5))], ids=repr
)
def test_wherever_writing_fails_a_whole_checkpoint_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    assert (errno.ENOSPC, errno.EACCES, errno.EIO) == (28, 13, 5)
    number, ended = 0, False
    while not ended:
        number += 1
        folder = tmp_path / f"{error!r}"[:5] / str(number)
        checkpoint.write(folder, 1, arrays(1), FACTS)
        checkpoint.write(folder, 2, arrays(2), FACTS)
        told: BaseException | None = None
        with failing(monkeypatch, number, error) as made:
            try:
                checkpoint.write(folder, 3, arrays(3), FACTS)
                ended = len(made) < number
            except (Crash, ElmanError) as raised:
                told = raised
        if isinstance(told, ElmanError):
            assert f"cannot write {folder}" in str(told)
            assert isinstance(told, MachineError)
        found, _ = checkpoint.read_newest(folder) or ({}, {})
        assert found["model.W"][0, 0] in (2, 3)
        checkpoint.write(folder, 4, arrays(4), FACTS)  # what is left is in nobody's way
        assert [int(path.stem) for path in checkpoint.paths(folder)][-1:] == [4]
    assert number > 6
