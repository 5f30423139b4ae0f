"""Sampling: tokens that each option leaves in, and how often they are drawn."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.errors import ElmanError
from elman.inference.sampling import Sampler

LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3]))
logits_lists = st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=20)


def probabilities(**options: Any) -> list[float]:
    return [round(float(p), 6) for p in Sampler(**options).probabilities(LOGITS)]


def test_each_option_leaves_in_what_its_definition_says() -> None:
    assert probabilities() == [0.1, 0.4, 0.2, 0.3]
    assert probabilities(top_k=2) == [0, round(4 / 7, 6), 0, round(3 / 7, 6)]
    assert probabilities(top_p=0.5) == [0, round(4 / 7, 6), 0, round(3 / 7, 6)]
    assert probabilities(top_p=0.4) == [0, 1, 0, 0]
    assert probabilities(min_p=0.5) == [0, round(4 / 9, 6), round(2 / 9, 6), round(3 / 9, 6)]
    assert probabilities(temperature=0.5) == [round(p**2 / 0.3, 6) for p in (0.1, 0.4, 0.2, 0.3)]


def test_draws_are_as_frequent_as_their_probabilities() -> None:
    rng = np.random.default_rng(0)
    counts = np.bincount([Sampler()(LOGITS, rng) for _ in range(20_000)], minlength=4)
    # Four standard deviations of a binomial count.
    expected = 20_000 * np.exp(LOGITS)
    assert (np.abs(counts - expected) < 4 * np.sqrt(expected * (1 - np.exp(LOGITS)))).all()


@given(logits_lists)
def test_temperature_zero_and_top_k_of_one_take_the_likeliest(logits: list[float]) -> None:
    values = np.array(logits, np.float32)
    rng = np.random.default_rng(0)
    assert Sampler(temperature=0)(values, rng) == values.argmax()
    assert Sampler(top_k=1)(values, rng) == values.argmax()


@given(
    logits_lists,
    st.floats(0.01, 10),
    st.integers(1, 30),
    st.floats(0.01, 1),
    st.floats(0.01, 1),
)
def test_probabilities_always_sum_to_one(
    logits: list[float], temperature: float, k: int, p: float, m: float
) -> None:
    kept = Sampler(temperature, k, p, m).probabilities(np.array(logits, np.float32))
    assert kept.min() >= 0
    assert kept.sum() == pytest.approx(1)
    assert 1 <= np.count_nonzero(kept) <= k


@given(
    logits_lists,
    st.floats(0.01, 10),
    st.none() | st.integers(1, 30),
    st.none() | st.floats(0.01, 1),
    st.none() | st.floats(0.01, 1),
    st.integers(0, 99),
)
def test_what_is_drawn_is_in_the_set_that_the_options_leave(
    logits: list[float],
    temperature: float,
    k: int | None,
    p: float | None,
    m: float | None,
    seed: int,
) -> None:
    values = np.array(logits, np.float32)
    sampler = Sampler(temperature, k, p, m)
    rng = np.random.default_rng(seed)
    drawn = [sampler(values, rng) for _ in range(5)]
    assert all(sampler.probabilities(values)[token] > 0 for token in drawn)
    for token in drawn:
        likelier = values > values[token]
        if k is not None:
            assert likelier.sum() < k
        if p is not None and k is None:
            exact = np.exp((values.astype(float) - values.max()) / temperature)
            assert exact[likelier].sum() / exact.sum() < p + 1e-9
        if m is not None:
            lost = (float(values.max()) - float(values[token])) / temperature
            assert lost <= -np.log(m) + 1e-6


@given(logits_lists, st.floats(5e-324, 1e-300))
def test_next_to_no_temperature_takes_one_of_the_likeliest(
    logits: list[float], temperature: float
) -> None:
    values = np.array(logits, np.float32)
    drawn = Sampler(temperature)(values, np.random.default_rng(0))
    assert values[drawn] == values.max()


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": 0},
        {"top_k": 10**30},
        {"top_p": 0},
        {"top_p": 1.5},
        {"min_p": -0.1},
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ElmanError, match=f"{next(iter(options)).replace('_', ' ')} must be"):
        Sampler(**options)  # type: ignore[arg-type]


def test_what_is_excluded_is_never_drawn_and_the_others_share_its_chance() -> None:
    allowed = np.array([0.1, 0, 0.2, 0.3]) / 0.6
    assert probabilities(excluded=(1,)) == [round(p, 6) for p in allowed]
    assert probabilities(excluded=(1,), top_k=2) == [0, 0, 0.4, 0.6]
    assert probabilities(excluded=(1,), top_p=0.45) == [0, 0, 0, 1]
    assert probabilities(excluded=(1,), min_p=0.5) == [0, 0, 0.4, 0.6]
    assert Sampler(temperature=0, excluded=(1,))(LOGITS, np.random.default_rng(0)) == 3
    assert LOGITS.argmax() == 1  # what was passed in is unchanged

    rng = np.random.default_rng(0)
    drawn = [Sampler(excluded=(1,))(LOGITS, rng) for _ in range(20_000)]
    counts, expected = np.bincount(drawn, minlength=4)[allowed > 0], 20_000 * allowed[allowed > 0]
    assert len(drawn) == counts.sum()
    # The 99.99 % point of chi-square with two degrees of freedom.
    assert ((counts - expected) ** 2 / expected).sum() < 18.4


def test_a_sampler_that_excludes_every_token_or_another_models_is_refused() -> None:
    with pytest.raises(ElmanError, match="one token must be allowed, got 4 of 4 excluded"):
        Sampler(excluded=(0, 1, 2, 3))(LOGITS, np.random.default_rng(0))
    with pytest.raises(ElmanError, match="excluded ids must be from 0 to 3, got"):
        Sampler(excluded=(4,)).probabilities(LOGITS)
    for wrong in ((-1,), ("a",), 3):
        with pytest.raises(ElmanError, match="excluded must be"):
            Sampler(excluded=wrong)  # type: ignore[arg-type]


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


def test_draws_with_a_penalty_are_as_frequent_as_their_probabilities() -> None:
    rng, seen = np.random.default_rng(0), np.array([True, False, True, False])
    sampler = Sampler(0.9, repetition_penalty=1.5, excluded=(3,))
    counts = np.bincount([sampler(LOGITS, rng, seen) for _ in range(20_000)], minlength=4)
    # LOGITS are all negative.
    weights = np.exp(LOGITS * np.where(seen, 1.5, 1) / 0.9)[:3]
    expected = 20_000 * weights / weights.sum()
    assert ((counts[:3] - expected) ** 2 / expected).sum() < 18.4
    assert counts[3] == 0
