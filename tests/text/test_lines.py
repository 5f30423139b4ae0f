"""Lines are read as sequences of their own, whatever blocks the text comes in."""

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.errors import ElmanError
from elman.text import lines
from elman.text.codec import Codec
from elman.text.lines import LineReader, Lines
from elman.text.tokenizers import clean
from elman.text.vocab import Vocab

CODECS = {
    "char": Codec(Vocab(list("abc \n")), "char", clean=False),
    "lines": Codec(Vocab(list("abc \n")), "char", clean=False, lines=True),
    "byte": Codec(Vocab(list(map(chr, range(256)))), "byte", clean=False),
    "word": Codec(Vocab(["a", " b", " ab", "\n"]), "word", clean=False),
    "as in the book": Codec(Vocab(list("abc ")), "char", clean=True),
    "without line ends": Codec(Vocab(list("abc ")), "char", clean=False),
}


def sequences(read: Lines) -> list[list[int]]:
    ends = read.starts + read.lengths
    return [read.ids[a:b].tolist() for a, b in zip(read.starts, ends, strict=True)]


def by_definition(codec: Codec, text: str) -> list[int]:
    """The line's tokens between two line ends as the model reads them, if it knows them."""
    read, line_end = (clean(part) if codec.clean else part for part in (text, "\n"))
    border = [codec.vocab[line_end]] if line_end in codec.vocab else []
    return [*border, *codec.vocab[codec.tokenizer.split(read)], *border]


@pytest.mark.parametrize("name", CODECS)
@given(text=st.text("abxé \n\r.", max_size=40), cuts=st.lists(st.integers(0, 40), max_size=4))
def test_each_line_is_a_sequence_between_two_line_ends(
    name: str, text: str, cuts: list[int]
) -> None:
    codec = CODECS[name]
    blocks = [text[a:b] for a, b in pairwise([0, *sorted(cuts), len(text)])]
    wanted = re.sub("\r\n?", "\n", text).split("\n")
    if not wanted[-1]:  # what ends a line begins none
        wanted.pop()
    pools = list(LineReader(codec).pools(blocks))
    assert [line for pool in pools for line in pool.texts] == wanted
    found = [ids for pool in pools for ids in sequences(pool)]
    assert found == [by_definition(codec, line) for line in wanted]


@pytest.mark.parametrize("name", CODECS)
def test_a_text_with_line_ends_is_one_sequence_if_it_is_given_as_one(name: str) -> None:
    texts = ["ab \nx", "", "\n", "a.b"]
    found = sequences(LineReader(CODECS[name]).lines(texts))
    assert found == [by_definition(CODECS[name], text) for text in texts]


def test_characters_are_counted_as_the_model_reads_and_predicts_them() -> None:
    texts = ["", "a", "ab..a", "ééé"]
    for name, characters, predicted in (
        ("char", [0, 1, 5, 3], [1, 2, 6, 4]),
        ("byte", [0, 1, 5, 3], [1, 2, 6, 4]),
        ("as in the book", [0, 1, 4, 1], [1, 2, 5, 2]),
        ("without line ends", [0, 1, 5, 3], [0, 0, 4, 2]),  # nothing predicts the first
    ):
        read = LineReader(CODECS[name]).lines(texts)
        assert read.characters.tolist() == characters
        assert read.predicted.tolist() == predicted


def test_words_are_forgotten_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_NUMBERED_TOKENS", 3)
    reader, codec = LineReader(CODECS["word"]), CODECS["word"]
    for text in ("a b ab", "x y z", "a ab b", "u v w a b"):
        assert sequences(reader.lines([text])) == [by_definition(codec, text)]
        assert len(reader._encoder) <= 3


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_CHARACTERS", 5)
    pools = LineReader(CODECS["char"]).pools(["a\nb\n", "abc", "abc"])
    with pytest.raises(
        ElmanError, match="a line must have 5 characters or fewer, got more in line 3"
    ):
        list(pools)
    with pytest.raises(ElmanError, match=r"must not contain half a surrogate pair, got '.ud800'"):
        LineReader(CODECS["byte"]).lines(["\ud800"])


def test_no_lines_are_read_as_no_sequences() -> None:
    read = LineReader(CODECS["char"]).lines([])
    assert (read.texts, read.ids.tolist(), np.size(read.lengths)) == ([], [], 0)
