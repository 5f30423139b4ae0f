"""Exact matches, error rates and BLEU of written targets."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.inference.evaluation import bleu, edit_distance, error_rate, exact_matches

WORDS = st.lists(st.sampled_from("abc"), max_size=7)


def plain_distance(one: list[str], other: list[str]) -> int:
    if not one or not other:
        return len(one) + len(other)
    replaced = plain_distance(one[1:], other[1:]) + (one[0] != other[0])
    if one[0] == other[0]:
        return replaced
    return min(replaced, 1 + plain_distance(one[1:], other), 1 + plain_distance(one, other[1:]))


@given(WORDS, WORDS)
def test_the_edit_distance_is_levenshteins(one: list[str], other: list[str]) -> None:
    assert edit_distance(one, other) == plain_distance(one, other)
    assert edit_distance(one, other) == edit_distance(other, one)


def test_a_match_with_any_reference_is_exact() -> None:
    references = [["T AH0 M EY1 T OW2", "T AH0 M AA1 T OW2"], ["K AE1 T"], ["D AO1 G"]]
    written = ["T AH0 M AA1 T OW2", "K AE1 T", "D AA1 G"]
    assert exact_matches(written, references) == pytest.approx(2 / 3)


def test_an_error_rate_counts_the_edits_to_the_nearest_reference() -> None:
    assert error_rate(["kitten"], [["sitting"]]) == pytest.approx(3 / 7)
    assert error_rate(["ab", "xyz"], [["abcd", "abc"], ["xyz"]]) == pytest.approx(1 / 6)
    assert error_rate([["D", "AA1", "G"]], [[["D", "AO1", "G"]]]) == pytest.approx(1 / 3)
    assert error_rate([""], [[""]]) == math.inf


@pytest.mark.parametrize(
    ("written", "references", "wanted"),
    [  # of sacrebleu 2.6.0: BLEU(tokenize="none").corpus_score
        (
            ["the cat sat on the mat", "a b c", "hello there"],
            [
                ["the cat is on the mat", "there is a cat on the mat"],
                ["a b c d"],
                ["general kenobi"],
            ],
            38.09694917244035,
        ),
        (  # smoothed: no 3-gram and no 4-gram matches
            ["the the the cat", "un deux trois quatre cinq"],
            [["the cat"], ["un trois deux quatre six"]],
            16.7844596251862,
        ),
        (["a b c d e"], [["a b c d e"]], 100.0),
        (["a b c d"], [["a b c d e f"]], 60.653065971263366),  # too short
        (["a b c"], [["a b c"]], 0.0),  # no 4-grams
        (["x y z w"], [["a b c d"]], 0.0),
        (["", "a b c d e"], [["a"], ["a b c d f"]], 54.75182535069452),
    ],
)
def test_bleu_is_that_of_sacrebleu(
    written: list[str], references: list[list[str]], wanted: float
) -> None:
    assert bleu(written, references) == pytest.approx(wanted, abs=1e-9)
