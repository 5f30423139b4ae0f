"""A model of pairs writes targets in batches, searches beams, and is measured on pairs."""

import itertools
import logging
import math
from collections.abc import Callable
from typing import Any

import pytest

from elman.errors import ElmanError
from elman.inference.translation import PairModel, sources_of, translated
from elman.inference.writing_options import Translating
from tests.copying import LETTERS, STEPS, copying

WORDS = ["".join(letters) for letters in itertools.product("abcde", repeat=4)]


def test_many_sources_take_few_calls_of_the_model() -> None:
    model = copying()
    found = model.translate(WORDS)
    assert [best.text for (best,) in found] == WORDS
    assert model.model.calls < len(WORDS) / 25


def test_targets_of_a_batch_are_those_of_each_source() -> None:
    model = copying()
    words = ["a", "abcdefgh", "hg", "b"]
    assert model.translate(words) == [model.translate([word])[0] for word in words]


@pytest.mark.parametrize("penalty", [0, 1, 2.5])
@pytest.mark.parametrize("beams", [1, 4])
def test_the_score_is_the_log_probability_over_the_length_to_the_power_of_the_penalty(
    penalty: float, beams: int
) -> None:
    model = copying()
    ((best, *_),) = model.translate(["abc"], beams=beams, length_penalty=penalty)
    assert best.text == "abc"
    assert best.score == pytest.approx(best.log_probability / 4**penalty)
    loss = model.evaluate([("abc", "abc")]).loss
    assert best.log_probability == pytest.approx(-4 * loss)


def test_the_n_best_beams_come_best_first_and_differ() -> None:
    (found,) = copying().translate(["abc"], beams=8, n=3)
    assert found[0].text == "abc"
    assert len({each.text for each in found}) == 3
    scores = [each.score for each in found]
    assert scores == sorted(scores, reverse=True)


def broken() -> PairModel:
    model = copying()
    model.model.broken = True
    return model


NO_PAIR = "a pair is a tuple of a source and a target, got"


@pytest.mark.parametrize(
    ("call", "fragment"),
    [
        (lambda: Translating(beams=0), "beams must be 1 or more, got 0"),
        (lambda: Translating(beams=257), "beams must be 256 or less, got 257"),
        (lambda: Translating(length_penalty=math.nan), "length penalty must be a number from 0"),
        (lambda: copying().translate("ab"), "texts to translate must be a list of str, got 'ab'"),
        (lambda: copying().translate(["a\tb"]), "must be one line without tabs"),
        (lambda: copying().translate(["a\nb"]), "must be one line without tabs"),
        (lambda: copying().translate(["\ud800"]), "must not contain half a surrogate pair"),
        (lambda: sources_of(["a" * 65_537]), "must have 65,536 characters or fewer, got 65,537"),
        (lambda: copying().evaluate([]), "pairs to evaluate must be one or more, got 0"),
        (lambda: copying().evaluate("test.tsv"), NO_PAIR),  # type: ignore[arg-type]
        (lambda: copying().evaluate([("a", "a"), ("a",)]), NO_PAIR),  # type: ignore[list-item]
        (lambda: copying().evaluate([("a", " ")]), NO_PAIR),
        (lambda: copying().evaluate([("a", "a\tb")]), "a text of a pair must be one line without"),
        (lambda: broken().translate(["a"]), "the weights of this model are broken"),
        (lambda: broken().evaluate([("a", "a")]), "the weights of this model are broken"),
    ],
)
def test_what_cannot_be_translated_or_evaluated_is_refused(
    call: Callable[[], Any], fragment: str
) -> None:
    with pytest.raises(ElmanError, match=fragment):
        call()


def test_the_loss_counts_the_targets_and_their_ends_and_no_padding() -> None:
    model, pairs = copying(), [("a", "a"), ("abcdef", "abcdef"), ("b", "b")]
    result, alone = model.evaluate(pairs), [model.evaluate([pair]) for pair in pairs]
    assert result.tokens == 2 + 7 + 2
    total = sum(each.loss * each.tokens for each in alone)
    assert result.loss * result.tokens == pytest.approx(total)
    assert (result.exact_matches, result.character_error_rate) == (1, 0)


def test_a_source_with_several_targets_is_written_once_and_matches_any() -> None:
    result = copying().evaluate([("abc", "abd"), ("abc", "abc"), ("ab", "ba")])
    assert (result.pairs, result.sources) == (3, 2)
    assert (result.exact_matches, result.character_error_rate) == (1 / 2, 2 / 5)


def test_symbols_are_what_spaces_separate() -> None:
    result = copying(targets="word").evaluate([("abc", "a b d"), ("ab", "a  b")])
    assert result.exact_matches == 1 / 2  # spaces between words do not count
    assert result.symbol_error_rate == pytest.approx(1 / 5)
    assert result.character_error_rate == pytest.approx(1 / 8)


def lines(*blocks: list[str]) -> list[tuple[str, str]]:
    rows = translated(copying(), blocks, Translating())
    return [(line, *(best.text for best in found)) for batch in rows for line, found in batch]


def test_blank_lines_stay_blank_and_lines_keep_their_order() -> None:
    found = lines(["ab", "", "c"], [" ", "d"])
    assert found == [("ab", "ab"), ("",), ("c", "c"), (" ",), ("d", "d")]


def test_each_source_with_unknown_symbols_is_named_and_one_that_is_cut(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    lines(["abc", "aßcüß", "ß"], ["abcdefgh" * 9, "abcdefgh"])
    assert caplog.messages == [
        "the model does not know 'ß', 'ü' in 'aßcüß': it reads unknown symbols as <unk>",
        "the model does not know 'ß' in 'ß': it reads unknown symbols as <unk>",
        "the model reads 8 tokens of a text, its end included: the end of "
        "'abcdefghabcdefgha...ghabcdefghabcdefgh' is left out",
    ]
    caplog.clear()
    copying().translate(["abc", "aßcüß"])
    assert len(caplog.messages) == 1


def test_warnings_of_unknown_symbols_are_short_and_few(caplog: pytest.LogCaptureFixture) -> None:
    many = "".join(map(chr, range(0x400, 0x1400)))
    lines([many], ["ß"] * 50)
    assert caplog.messages[0].startswith("the model does not know 'Ѐ', 'Ё', 'Ђ', 'Ѓ', 'Є', 'Ѕ', ")
    assert "'І', 'Ї' and 4,088 more in 'Ѐ" in caplog.messages[0]
    assert max(map(len, caplog.messages)) < 250
    named = [text for text in caplog.messages if "unknown symbols" in text]
    assert len(named) == 21
    assert named[-1] == "more texts have unknown symbols: the first 20 are named"


def test_unknown_symbols_of_both_sides_are_counted_and_a_target_with_one_is_no_match(
    caplog: pytest.LogCaptureFixture,
) -> None:
    known = copying().evaluate([("ab", "ab")])
    found = copying().evaluate([("ab", "aß"), ("ß", "a"), ("ab", "ü")])
    assert (found.unknown, found.unknown_targets) == (1, 2)
    assert found.in_lines()["unknown tokens"] == "1 in sources, 2 in targets"
    assert found.exact_matches == 0
    assert found.loss > known.loss
    assert caplog.messages == [
        "1 of 3 sources have symbols that the training pairs do not contain: 'ß'",
        "2 of 3 targets have symbols that the training pairs do not contain: 'ß', 'ü'",
    ]


def test_bleu_is_left_out_where_no_reference_has_4_symbols() -> None:
    found = copying().evaluate([("abc", "abc")])
    assert (found.exact_matches, found.bleu) == (1, None)
    assert "BLEU" not in found.in_lines()
    words = copying("word", "word").evaluate([("a b c d", "a b c d"), ("a", "a")])
    assert words.in_lines()["BLEU"] == "100.00"


def test_a_word_that_is_spelled_like_a_symbol_is_unknown() -> None:
    model = copying("word", "word")
    assert model.codec.source.unknown("a <eos> <pad> b") == ["<eos>", "<pad>"]


def test_texts_longer_than_those_of_the_training_are_cut_and_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    result = copying().evaluate([(LETTERS * 9, "a"), ("a", LETTERS * 9), ("b", "b")])
    assert result.tokens == 2 + STEPS + 2
    assert caplog.messages == [
        "1 of 3 sources are longer than in the training: their first 8 tokens count",
        "1 of 3 targets are longer than in the training: their first 8 tokens count",
    ]
