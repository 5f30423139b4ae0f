"""Notebooks whose outputs are those of the present code."""

import pytest

from tests.notebooks import assert_fresh


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # of the notebook's machinery
@pytest.mark.parametrize("name", ["recurrent-models", "four-frameworks"])
def test_a_notebook_that_is_run_again_tells_the_same(name: str) -> None:
    assert_fresh(name)
