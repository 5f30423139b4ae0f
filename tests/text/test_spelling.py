"""Spelling: a code for tokens that a vocabulary lacks, so that vocabularies compare."""

from math import log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.inference.evaluation import evaluate
from elman.inference.scoring import score_lines
from elman.model.weights import Architecture, initial
from elman.numpy import TextFile, build
from elman.text.codec import Codec
from elman.text.lines import LineReader
from elman.text.tokenizers import CODE_POINTS
from elman.text.vocab import Spelling, Vocab

tokens = st.lists(st.text(st.sampled_from("abé 時"), min_size=1, max_size=5), max_size=20)


@given(tokens)
def test_the_code_of_a_vocabulary_wastes_nothing(known: list[str]) -> None:
    """What may come next, a character, an escape with any code point, or the end, adds up to 1."""
    spelling = Spelling(Vocab(known))
    end = float(spelling.costs([""])[0])
    alphabet = sorted(set("".join(known)))
    letters = np.exp(-(spelling.costs(alphabet) - end)).sum() if alphabet else 0.0
    escape = float(spelling.costs(["\U0010ffff"])[0]) - end - log(CODE_POINTS)
    assert letters + np.exp(-escape) + np.exp(-end) == pytest.approx(1)


@given(tokens, tokens)
def test_a_token_costs_its_characters_and_its_end(known: list[str], spelled: list[str]) -> None:
    spelling = Spelling(Vocab(known))
    end = float(spelling.costs([""])[0])
    for token, cost in zip(spelled, spelling.costs(spelled), strict=True):
        each = spelling.costs(list(token)) - end
        assert cost == pytest.approx(each.sum() + end)


@pytest.mark.parametrize("known", ["abc", "abc\n"])
@pytest.mark.parametrize("name", ["char", "word"])
def test_lines_are_charged_as_texts_are(known: str, name: str) -> None:
    """Without a line end in the vocabulary, nothing predicts the first token of a line."""
    codec = Codec(Vocab([*known, "ab", " ab"]), name, clean=False)
    arch = Architecture("rnn", len(codec.vocab), 4)
    model, texts = build(arch, initial(arch, 1)), ["abc", "aéc", "éé", "ab xy ab z"]
    border = "\n" if "\n" in known else ""
    scored = score_lines(model, LineReader(codec).lines(texts))
    for text, bits in zip(texts, scored.bits_per_character, strict=True):
        read = codec.tokenizer.split(text)
        if border or len(read) > 1:
            assert bits == pytest.approx(
                evaluate(model, border + text + border, codec).bits_per_character
            )
    empty = LineReader(codec).lines(["", "é", ""])
    assert empty.spelling[[0, 2]].tolist() == [0, 0]


def test_parts_and_whole_have_the_cost_of_their_unknown_tokens(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("once upon a time " * 90 + "zebra quagga " * 10 + "lion")
    data = TextFile(str(path), 4, 8, "word")
    spelling, unknown = Spelling(data.vocab), data.sizes["test"].unknown
    zebras = spelling.costs([" zebra", " quagga", " lion"])
    assert " zebra" not in data.vocab
    assert unknown.tokens == 21
    assert unknown.characters == len(" zebra quagga" * 10 + " lion")
    assert unknown.nats == pytest.approx(10 * zebras[:2].sum() + zebras[2])
