"""Standard streams that can always be written to."""

import contextlib
import os
import sys

import pytest

from elman.files.system import BestEffortStream, open_standard_streams


def test_progress_that_cannot_be_written_is_dropped() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    pipe = open(theirs, "w")  # noqa: SIM115
    stream = BestEffortStream(pipe)
    for length in (10, 100_000):  # fewer and more than the stream's buffer holds
        assert stream.write("x" * length) == length
        stream.flush()
    assert stream.fileno() == theirs
    assert not stream.isatty()
    with contextlib.suppress(BrokenPipeError):
        pipe.close()


def test_streams_that_the_parent_process_has_closed_take_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    open_standard_streams()
    with contextlib.closing(sys.stdout), contextlib.closing(sys.stderr):
        print("a character that Latin 1 has not: \u6642")
        print("progress", file=sys.stderr)
