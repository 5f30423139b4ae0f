"""The book's job ends where the book's does."""

import pytest

from tests.parity import perplexity


@pytest.mark.long
def test_scratch_and_concise_agree_with_each_other_and_the_book(framework: str) -> None:
    scratch, concise = (perplexity(framework, which, seed=0) for which in (False, True))
    assert scratch == pytest.approx(concise, rel=0.1)
    assert 6.8 <= concise <= 7.8
