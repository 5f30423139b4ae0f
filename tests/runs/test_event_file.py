"""Event files are read back by TensorBoard's own reader."""

from pathlib import Path

import numpy as np
import pytest

from elman.runs.event_file import EventFile
from tests.event_logs import read_log


def test_numbers_histograms_and_texts_are_read_back(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((20, 30)).astype(np.float32)
    file = EventFile(tmp_path / "new" / "log", 1)
    file.write(3, {"a/b": 0.1, "h": values, "t": "drei\n  W\x1börter"})
    file.write(5, {"a/b": float("inf"), "h": np.array([np.nan]), "zeros": np.zeros(7)})
    log = read_log(tmp_path / "new" / "log")
    assert log.scalars == {"a/b": [(3, np.float32(0.1))]}
    assert log.texts == {"t": [(3, "    drei\n      W\\x1börter")]}
    ((step, buckets),) = log.histograms["h"]
    left, right, counts = buckets.T
    assert (step, left[0], right[-1]) == (3, values.min(), values.max())
    np.testing.assert_array_equal(left[1:], right[:-1])
    edges = np.array([*left, right[-1]])
    np.testing.assert_array_equal(np.histogram(values.astype(np.float64), edges)[0], counts)
    ((_, zeros),) = log.histograms["zeros"]
    assert zeros[:, 2].sum() == 7


def numbered(folder: Path, updates: int, steps: range) -> None:
    """A file with two events of each step: a number and a text, and another number."""
    file = EventFile(folder, updates)
    for step in steps:
        file.write(step, {"a": step, "t": str(step)})
        file.write(step, {"epoch": -step})


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


@pytest.mark.parametrize("lost", [1, 4, 7, 20, 30])
def test_a_record_that_a_crash_has_cut_hides_nothing_else(tmp_path: Path, lost: int) -> None:
    numbered(tmp_path, 0, range(1, 6))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-lost])
    numbered(tmp_path, 4, range(5, 7))
    assert steps_of(tmp_path) == [[1, 2, 3, 4, 5, 6]] * 3
