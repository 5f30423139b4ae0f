"""Event files are read back by TensorBoard's own reader."""

from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from elman.logs.event_file import EventFile, histogram, scalar, text
from tests.event_logs import read_log


def test_numbers_histograms_and_texts_are_read_back(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((20, 30)).astype(np.float32)
    file = EventFile(tmp_path / "new" / "log", 1)
    file.write(3, [scalar("a/b", 0.1), histogram("h", values), text("t", "drei\n  Wörter")])
    file.write(5, [scalar("a/b", float("inf"))])
    log = read_log(tmp_path / "new" / "log")
    assert log.scalars == {"a/b": [(3, float(np.float32(0.1))), (5, float("inf"))]}
    assert log.texts == {"t": [(3, "drei\n  Wörter")]}
    ((step, found),) = log.histograms["h"]
    assert (step, found.num, sum(found.bucket)) == (3, 600, 600)
    assert (found.min, found.max) == (values.min(), values.max())
    assert found.sum == pytest.approx(values.sum(dtype=np.float64))
    assert found.sum_squares == pytest.approx((values.astype(np.float64) ** 2).sum())
    edges = np.array([found.min, *found.bucket_limit])
    np.testing.assert_array_equal(np.histogram(values.astype(np.float64), edges)[0], found.bucket)


def test_equal_numbers_have_a_histogram(tmp_path: Path) -> None:
    EventFile(tmp_path, 1).write(1, [histogram("h", np.zeros(7))])
    ((_, found),) = read_log(tmp_path).histograms["h"]
    assert (found.min, found.max, sum(found.bucket)) == (0, 0, 7)


NO_EVENT = b"\x03" + bytes(11) + b"\xff\xff\xff" + bytes(300)  # a record that is no message


def numbered(folder: Path, updates: int, steps: range, redone: tuple[str, ...] = ()) -> None:
    """A file with two events of each step: a number and a text, and another number."""
    file = EventFile(folder, updates, redone)
    for step in steps:
        file.write(step, [scalar("a", step), text("t", str(step))])
        file.write(step, [scalar("epoch", -step)])


def steps_of(folder: Path) -> list[list[int]]:
    log = read_log(folder)
    points = (log.scalars["a"], log.texts["t"], log.scalars["epoch"])
    return [[step for step, _ in each] for each in points]


@pytest.mark.parametrize("updates", [0, 1, 4, 5, 6, 9])
def test_a_later_file_replaces_what_is_written_again(tmp_path: Path, updates: int) -> None:
    numbered(tmp_path, 0, range(1, 6))
    numbered(tmp_path, 5, range(6, 9))
    numbered(tmp_path, updates, range(updates + 1, 12))
    assert steps_of(tmp_path) == [[n for n in range(1, 12) if n <= 8 or n > updates]] * 3


def test_only_what_is_redone_of_the_last_step_is_replaced(tmp_path: Path) -> None:
    numbered(tmp_path, 0, range(1, 6))
    EventFile(tmp_path, 3, ("epoch",)).write(3, [scalar("epoch", 7)])
    assert steps_of(tmp_path) == [[1, 2, 3], [1, 2, 3], [1, 2, 3]]
    assert read_log(tmp_path).scalars["epoch"] == [(1, -1), (2, -2), (3, 7)]


def test_a_reader_that_watches_forgets_what_was_replaced(tmp_path: Path) -> None:
    numbered(tmp_path, 0, range(1, 6))
    watching = EventAccumulator(str(tmp_path)).Reload()
    numbered(tmp_path, 3, range(4, 8))
    assert [point.step for point in watching.Reload().Scalars("epoch")] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("lost", [1, 4, 7, 20, 30])
def test_a_record_that_a_crash_has_cut_hides_nothing_else(tmp_path: Path, lost: int) -> None:
    numbered(tmp_path, 0, range(1, 6))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-lost])
    numbered(tmp_path, 4, range(5, 7))
    assert steps_of(tmp_path) == [[1, 2, 3, 4, 5, 6]] * 3


@pytest.mark.parametrize("junk", [b"", b"x" * 300, b"\xff" * 300, bytes(300), NO_EVENT])
def test_a_file_of_something_else_is_emptied(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "events.out.tfevents.0000000000.elman").write_bytes(junk)
    numbered(tmp_path, 0, range(1, 3))
    assert steps_of(tmp_path) == [[1, 2]] * 3


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"x" * 300)
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "events.out.tfevents.0000000000.elman").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        EventFile(tmp_path / "log", 0)
    assert (tmp_path / "precious").read_bytes() == b"x" * 300
