"""The notebook of first steps; its last steps need the server."""

import pytest

from tests.notebooks import assert_fresh


@pytest.mark.filterwarnings("ignore")  # of the notebook's machinery
def test_the_first_steps_run() -> None:
    assert_fresh("first-steps")
