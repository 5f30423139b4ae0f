"""A training that is killed, whenever that is, ends in the same bits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_training_that_is_killed_again_and_again_ends_in_the_same_bits() -> None:
    kills = Path(__file__).parents[1] / "kills.py"
    done = subprocess.run(
        [sys.executable, str(kills), "numba", "60"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("numba: 60 kills")
