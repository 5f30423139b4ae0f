"""Have every call fail that writes a checkpoint, change every byte of one, and see what is left.

    python tests/robustness/faults.py

At each call in turn the disk is full, access is denied, the device fails, the program crashes, or
the process is killed; a checkpoint that is whole must be left each time. Of every checkpoint that
has a bit flipped, or is cut off, the one before it must be taken. Prints a table; an
AssertionError tells where that is not so.
"""

import errno
import math
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from elman.errors import ElmanError, MachineError
from elman.training import checkpoint
from elman.training.history import Epoch, TrainerState

CALLS = [(Path, "mkdir"), (Path, "open"), (os, "fsync"), (Path, "replace"), (Path, "unlink")]
STATE = TrainerState(
    history=[Epoch(1, 0.1 + 0.2, math.nan, 9.5, 1e-3)],
    batches=2,
    loss=(1 / 3, 7),
    loader_state={"state": {"state": 2**127 + 1}},
    updates=3,
    validations=0,
    seconds=0.25,
    validation_seconds=0.5,
    stopped=False,
)


def arrays(number: float = 1) -> dict[str, np.ndarray]:
    """Arrays that a checkpoint may hold."""
    return {
        "model.W": np.full((3, 4), number, np.float32).T,
        "steps": np.array(7),
        "generator": np.arange(9, dtype=np.uint8),
    }


class Crash(BaseException):
    """The program stops here."""


class Kill(BaseException):
    """The process is killed here."""


ERRORS: dict[str, BaseException] = {
    "disk full": OSError(errno.ENOSPC, "No space left on device"),
    "access denied": OSError(errno.EACCES, "Permission denied"),
    "device failed": OSError(errno.EIO, "Input/output error"),
    "crash": Crash(),
    "kill": Kill(),
}


@contextmanager
def failing(number: int, error: BaseException) -> Iterator[list[str]]:
    """Within the block call `number` of those that write fails, or, where it writes, half of it.

    Gives the names of the calls that were made.
    """
    made: list[str] = []

    def fail() -> None:
        if isinstance(error, Kill):
            os.kill(os.getpid(), signal.SIGKILL)
        raise error

    def wrapped(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **options: Any) -> Any:
            made.append(name)
            if len(made) == number:
                fail()
            result = function(*words, **options)
            return Half(result, made, number, fail) if name == "open" else result

        return call

    with pytest.MonkeyPatch.context() as within:
        for owner, name in CALLS:
            within.setattr(owner, name, wrapped(name, getattr(owner, name)))
        yield made


class Half:
    """A file of which a write that fails writes half."""

    def __init__(self, file: Any, made: list[str], number: int, fail: Callable[[], None]) -> None:
        self.file, self.made, self.number, self.fail = file, made, number, fail

    def __enter__(self) -> "Half":
        return self

    def __exit__(self, *words: Any) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, content: bytes) -> None:
        """Write all, or half."""
        self.made.append("write")
        failing = len(self.made) == self.number
        self.file.write(content[: len(content) // 2] if failing else content)
        self.file.flush()
        if failing:
            self.fail()


def fail_everywhere(folder: Path, error: BaseException) -> int:
    """Have each call of a write fail in turn, and check what is left; how many there were."""
    number = 0
    while True:
        number += 1
        place = folder / str(number)
        checkpoint.write(place, 1, arrays(1), STATE)
        checkpoint.write(place, 2, arrays(2), STATE)
        if ended(place, number, error):
            return number - 1
        found, _ = checkpoint.read_newest(place) or ({}, None)
        assert found["model.W"][0, 0] in (2, 3)
        checkpoint.write(place, 4, arrays(4), STATE)  # what is left is in nobody's way
        assert [int(path.stem) for path in checkpoint.paths(place)][-1:] == [4]


def ended(place: Path, number: int, error: BaseException) -> bool:
    """Write with call `number` failing, and tell whether there was no such call."""
    if isinstance(error, Kill):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if wrote(place, number, error) else 1
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, -signal.SIGKILL)
        return code == 0
    return wrote(place, number, error)


def wrote(place: Path, number: int, error: BaseException) -> bool:
    """True if a checkpoint was written before call `number`, which fails, was reached."""
    failure: BaseException | None = None
    with failing(number, error) as made:
        try:
            checkpoint.write(place, 3, arrays(3), STATE)
        except (Crash, ElmanError) as raised:
            failure = raised
    if isinstance(failure, ElmanError):
        assert isinstance(failure, MachineError)
        assert f"cannot write {place}" in str(failure)
    return len(made) < number


def change_everywhere(folder: Path) -> int:
    """Flip a bit of each byte of a checkpoint, cut it off there, and check what is read."""
    checkpoint.write(folder, 1, arrays(1), STATE)
    checkpoint.write(folder, 2, arrays(2), STATE)
    _, newest = checkpoint.paths(folder)
    whole = newest.read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        for damaged in (bytes(changed), whole[:place]):
            newest.write_bytes(damaged)
            with mock.patch.object(checkpoint.log, "warning") as warned:
                found, _ = checkpoint.read_newest(folder) or ({}, None)
            if found["model.W"][0, 0] == 2:  # white space of the header may stand for itself
                assert found.keys() == arrays().keys()
                assert all(np.array_equal(found[name], arrays(2)[name]) for name in found)
            else:
                (_, error), _ = warned.call_args
                assert str(error).startswith("the checkpoint is damaged: ")
                assert str(newest) in str(error)
    return 2 * len(whole)


def main() -> None:
    """Fail and change everywhere, and print what was tried."""
    checkpoint.log.propagate = False
    with tempfile.TemporaryDirectory() as folder:
        for name, error in ERRORS.items():
            calls = fail_everywhere(Path(folder) / name, error)
            assert calls > 6
            print(f"| {name} | at each of {calls} calls of a write | an intact checkpoint |")
        changes = change_everywhere(Path(folder) / "changed")
    print(
        f"| bit flipped, or cut off | {changes} times | the checkpoint before it, and a warning |"
    )


if __name__ == "__main__":
    main()
