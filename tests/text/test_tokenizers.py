"""Cleaning, tokenizers and the vocabulary."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.errors import ElmanError
from elman.text.codec import Codec
from elman.text.tokenizers import TOKENIZERS, Units, clean, pieces, tokenizer, with_newlines
from elman.text.vocab import Vocab, read_vocab

texts = st.text(st.characters(exclude_categories=["Cs"]))


def test_cleaning_leaves_lower_case_letters_and_single_spaces() -> None:
    assert clean("The Time-Machine,\n\n1895 — étude!") == "the time machine tude "


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=texts)
def test_no_tokenizer_loses_anything_and_token_sizes_add_up(name: str, text: str) -> None:
    used = TOKENIZERS[name]
    tokens = used.split(text)
    assert used.join(tokens) == text
    assert sum(map(used.size, tokens)) == len(text.encode())
    assert sum(map(used.characters, tokens)) == len(text)
    assert used.vocab([]).idx_to_token == sorted([*used.alphabet, "<unk>"])
    assert name != "byte" or {*tokens} <= {*used.alphabet}


def test_words_take_the_space_before_them_along() -> None:
    assert tokenizer("word").split('It has,  he said.\n"Yes"') == [
        *["It", " has", ",", "  ", "he", " said", ".", "\n", '"', "Yes", '"']
    ]


def test_words_seen_once_are_left_to_the_unknown_symbol() -> None:
    vocab = tokenizer("word").vocab(["a", "a", "b"])
    assert vocab.idx_to_token == ["<unk>", "a"]
    assert vocab["b"] == vocab.unk


@given(st.text("ab"), st.integers(2, 4), st.integers(1, 3))
def test_a_bounded_vocabulary_has_the_most_frequent_tokens(
    text: str, vocab_size: int, min_freq: int
) -> None:
    bounded = tokenizer("char", vocab_size, min_freq)
    vocab = bounded.vocab(text)
    assert vocab.idx_to_token == bounded.vocab(text[::-1]).idx_to_token  # the order is nothing
    known, left = ({*vocab.idx_to_token} - {"<unk>"}), {*text} - {*vocab.idx_to_token}
    assert len(vocab) <= vocab_size
    assert all(text.count(token) >= min_freq for token in known)
    for token in left:
        if text.count(token) >= min_freq:
            assert len(vocab) == vocab_size
            assert all((text.count(more), token) >= (text.count(token), more) for more in known)


@given(st.text("a\r\n"), st.lists(st.integers(0, 9)))
def test_line_ends_are_universal_wherever_a_block_ends(text: str, cuts: list[int]) -> None:
    ends = [*sorted(cuts), len(text)]
    blocks = [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert "".join(with_newlines(blocks, "keep")) == text
    wanted = text.replace("\r\n", "\n").replace("\r", "\n")
    assert "".join(with_newlines(blocks, "universal")) == wanted


def test_vocab_is_sorted_and_counts_as_in_the_book() -> None:
    vocab = Vocab(["b", "a", "b", "c"], min_freq=1, reserved_tokens=["<pad>"])
    assert vocab.idx_to_token == ["<pad>", "<unk>", "a", "b", "c"]
    assert vocab.token_freqs[0] == ("b", 2)
    assert vocab[["a", "x"]] == [2, vocab.unk]
    assert vocab[("a",)] == [2]
    assert vocab.to_tokens([2, 3]) == ["a", "b"]
    assert vocab.to_tokens(2) == "a"
    assert vocab.to_tokens(np.array([4])) == ["c"]
    assert Vocab([["b"], ["a", "b"]]).token_freqs == [("b", 2), ("a", 1)]


@given(st.lists(st.text(max_size=3)))
def test_encoding_many_tokens_is_looking_up_each(tokens: list[str]) -> None:
    vocab = Vocab(tokens[::2])
    assert vocab.encode(tokens).tolist() == vocab[tokens]


def test_a_vocabulary_is_read_as_it_was_written() -> None:
    assert read_vocab(["<unk>", "a"], "it", 2).idx_to_token == ["<unk>", "a"]


ABC = Codec(Vocab([*"abc"]), "char")
MANY = Codec(Vocab([chr(ord("a") + place) for place in range(100)]), "char")
OF_LINES = Codec(Vocab([*"ab\n"]), "char", lines=True)
LONG = Codec(Vocab([f"{place:02}{'a' * 37}" for place in range(5)]), "word")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tokenizer("byte", vocab_size=9), "vocab size requires tokens that are counted"),
        (lambda: tokenizer("byte", min_freq=2), "min freq requires tokens that are counted"),
        (lambda: tokenizer("char", vocab_size=1), "vocab size must be 2 or more"),
        (lambda: tokenizer("word", min_freq=0), "min freq must be 1 or more"),
        (lambda: tokenizer("word", vocab_size=1.5), "vocab size"),  # type: ignore[arg-type]
        (lambda: tokenizer("bpe"), "the tokenizer bpe must be learned from a text"),
        (
            lambda: tokenizer("word").require_units([Units.BYTES], "a page"),
            "a page supports tokens that are bytes, got matches of the tokenizer word: choose",
        ),
        (lambda: ABC.prefix_ids("aXé"), "does not know 'X', 'é' in the prefix; it knows 'abc'$"),
        (lambda: MANY.prefix_ids("Z"), "it knows 'abc.* and 20 more tokens$"),
        (lambda: LONG.prefix_ids("Z"), "it knows '00a{37}01a{37}' and 3 more tokens$"),
        (lambda: OF_LINES.prefix_ids("a\nb"), "a line must not contain a line end"),
        (
            lambda: Codec(Vocab(["a"]), "char", lines=True),
            "must keep lines unchanged and have the line end in its vocabulary",
        ),
        (lambda: read_vocab(["<unk>", "\ud800"], "it", 2), "it contains half a surrogate pair"),
        (lambda: read_vocab(["a", "<unk>"], "it", 2), "it must be a sorted list of distinct"),
        (lambda: read_vocab(["<unk>", 1], "it", 2), "it must be a sorted list of distinct"),
        (lambda: read_vocab(["<unk>", "a", "b"], "it", 2), "it must have 2 tokens, got 3"),
        (
            lambda: list(pieces(["long" * 200_000] * 2, TOKENIZERS["word"].cut)),
            "must have a word boundary within",
        ),
    ],
)
def test_what_no_tokenizer_codec_or_vocabulary_takes_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ElmanError, match=message):
        call()


def test_what_is_within_the_bounds_is_read() -> None:
    tokenizer("word").require_units([Units.MATCHES], "a page")
    assert ABC.text(ABC.prefix_ids("cab")) == "cab"
    assert len(list(pieces(["long" * 200_000] * 2, TOKENIZERS["char"].cut))) == 2
