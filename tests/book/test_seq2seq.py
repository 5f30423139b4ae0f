"""BLEU by the book's definition, and a histogram of lengths."""

import matplotlib as mpl
import pytest

from elman.book.names import bleu, plt, show_list_len_pair_hist


@pytest.mark.parametrize(
    ("predicted", "true", "k", "expected"),
    [
        ("il est calme .", "il est calme .", 4, 1),
        ("a b b c d", "a b c d e f", 1, 2.718281828 ** (1 - 6 / 5) * (4 / 5) ** 0.5),
        ("a b b c d", "a b c d e f", 2, 2.718281828**-0.2 * 0.8**0.5 * 0.75**0.25),
        ("a b", "a b c d e f", 2, 2.718281828**-2),
        ("a a a", "a", 1, (1 / 3) ** 0.5),
        ("a b", "c d", 2, 0),
        ("", "va !", 2, 0),
    ],
)
def test_bleu_multiplies_precisions_and_penalizes_what_is_short(
    predicted: str, true: str, k: int, expected: float
) -> None:
    assert bleu(predicted, true, k) == pytest.approx(expected)


def test_the_lengths_of_two_lists_stand_side_by_side() -> None:
    with mpl.rc_context({"backend": "agg"}):
        plt.close("all")
        show_list_len_pair_hist(["one", "two"], "tokens", "count", ["a", "ab", "cd"], [[1], [2]])
        axes = plt.gca()
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("tokens", "count")
        heights = [sum(bar.get_height() for bar in bars) for bars in axes.containers]
        assert heights == [3, 2]
        assert {bar.get_hatch() for bar in axes.containers[1]} == {"/"}
        plt.close("all")
