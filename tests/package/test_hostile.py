"""Spoilt inputs are read or refused, and nothing else happens; `tests/robustness` has the kinds."""

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(__file__).parents[1] / "robustness" / "hostile.py"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no alarms on Windows")
def test_corrupted_files_are_read_or_refused_in_one_line() -> None:
    command = [sys.executable, str(COMMAND), "500", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    header, *rows, last = done.stdout.splitlines()
    assert header.split() == ["kind", "tried", "refused", "accepted"]
    assert last == "0 failed of 500"
    assert len(rows) == 10
    for row in rows:
        tried, refused, _ = map(int, row.split()[-3:])
        assert tried == 50
        assert refused > 7, row
