"""Trainings whose pipe or terminal goes away; `tests/robustness/pipes.py` has the ways."""

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(__file__).parents[1] / "robustness" / "pipes.py"


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork on Windows")
def test_a_training_whose_reader_goes_away_loses_nothing() -> None:
    command = [sys.executable, str(COMMAND), "8", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    cut = "2 standard error, 2 standard output, 2 both, 2 terminal, 0 lost"
    assert done.stdout.splitlines() == [f"trainings: {cut}", f"resumes: {cut}"]
