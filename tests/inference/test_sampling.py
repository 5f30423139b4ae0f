"""Sampling: tokens that each option leaves in, and how often they are drawn."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.errors import ElmanError
from elman.inference.sampling import Sampler

LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3]))
logits_lists = st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_k": 2}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_p": 0.5}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_p": 0.4}, [0, 1, 0, 0]),
        ({"min_p": 0.5}, [0, 4 / 9, 2 / 9, 3 / 9]),
        ({"temperature": 0.5}, [1 / 30, 16 / 30, 4 / 30, 9 / 30]),
        ({"top_k": 3, "top_p": 0.45, "min_p": 0.8}, [0, 1, 0, 0]),
        ({"top_k": 3, "top_p": 0.9, "min_p": 0.5}, [0, 4 / 9, 2 / 9, 3 / 9]),
        ({"excluded": (1,)}, [1 / 6, 0, 2 / 6, 3 / 6]),
        ({"excluded": (1,), "top_k": 2}, [0, 0, 0.4, 0.6]),
        ({"excluded": (1,), "top_p": 0.45}, [0, 0, 0, 1]),
        ({"excluded": (1,), "min_p": 0.5}, [0, 0, 0.4, 0.6]),
    ],
)
def test_each_option_leaves_in_what_its_definition_says(
    options: dict[str, Any], wanted: list[float]
) -> None:
    assert Sampler(**options).probabilities(LOGITS).tolist() == pytest.approx(wanted, abs=1e-9)
    assert LOGITS.argmax() == 1  # what was passed in is unchanged


def test_draws_are_as_frequent_as_their_probabilities() -> None:
    rng, seen = np.random.default_rng(0), np.array([True, False, True, False])
    sampler = Sampler(0.9, repetition_penalty=1.5, excluded=(3,))
    counts = np.bincount([sampler(LOGITS, rng, seen) for _ in range(20_000)], minlength=4)
    weights = np.exp(LOGITS * np.where(seen, 1.5, 1) / 0.9)[:3]  # logits are all negative
    expected = 20_000 * weights / weights.sum()
    assert ((counts[:3] - expected) ** 2 / expected).sum() < 18.4  # the 99.99 % point
    assert counts[3] == 0


@given(logits_lists, st.floats(5e-324, 1e-300))
def test_no_temperature_or_next_to_none_and_top_k_of_one_take_the_likeliest(
    logits: list[float], temperature: float
) -> None:
    values, rng = np.array(logits, np.float32), np.random.default_rng(0)
    assert Sampler(temperature=0)(values, rng) == Sampler(top_k=1)(values, rng) == values.argmax()
    assert values[Sampler(temperature)(values, rng)] == values.max()


@pytest.mark.parametrize(
    ("call", "fragment"),
    [
        (lambda: Sampler(excluded=(0, 1, 2, 3)).mask(4), "one token must be allowed, got 4 of 4"),
        (lambda: Sampler(excluded=(4,)).mask(4), "excluded ids must be from 0 to 3, got"),
        (lambda: Sampler(excluded=(-1,)), "excluded must be 0 or more"),
        (lambda: Sampler(excluded=("a",)), "excluded must be a tuple of ids"),  # type: ignore[arg-type]
        (lambda: Sampler(excluded=3), "excluded must be a tuple of ids"),  # type: ignore[arg-type]
    ],
)
def test_excluded_tokens_are_some_of_the_models(call: Callable[[], Any], fragment: str) -> None:
    with pytest.raises(ElmanError, match=fragment):
        call()


def test_the_repetition_penalty_is_that_of_hugging_face() -> None:
    # Of transformers' RepetitionPenaltyLogitsProcessor: scores of tokens in the text are divided by
    # the penalty, or multiplied by it where they are below 0.
    logits = np.array([2.0, -2.0, 1.0, -1.0, 0.0], np.float32)
    seen = np.array([True, True, False, False, True])
    found = Sampler(repetition_penalty=4).allowed(logits, seen)
    np.testing.assert_array_equal(found, np.array([0.5, -8, 1, -1, 0], np.float32))
    assert found.dtype == np.float32
    assert Sampler(0, repetition_penalty=4)(logits, np.random.default_rng(0), seen) == 2
    rewarded = Sampler(repetition_penalty=0.5).allowed(logits, seen)
    np.testing.assert_array_equal(rewarded, np.array([4, -1, 1, -1, 0], np.float32))
    excluded = Sampler(repetition_penalty=4, excluded=(0, 1)).allowed(logits, seen)
    np.testing.assert_array_equal(excluded[:2], [-np.inf, -np.inf])
