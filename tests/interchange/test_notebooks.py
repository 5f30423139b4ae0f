"""Notebooks whose outputs are those of the present code."""

import pytest

from tests.notebooks import numbers, outputs, words


@pytest.mark.filterwarnings("ignore")  # of the notebook's machinery
@pytest.mark.parametrize("name", ["recurrent-models", "four-frameworks"])
def test_a_notebook_that_is_run_again_tells_the_same(name: str) -> None:
    kept, again = outputs(name)
    assert words(again) == words(kept)
    assert numbers(again) == pytest.approx(numbers(kept), rel=0.1, abs=0.02)
    assert "stderr" not in kept
