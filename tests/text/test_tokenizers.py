"""Cleaning, tokenizers and the vocabulary."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.errors import ElmanError
from elman.text.codec import Codec
from elman.text.tokenizers import TOKENIZERS, Units, clean, tokenizer, with_newlines
from elman.text.vocab import Vocab, read_vocab

texts = st.text(st.characters(exclude_categories=["Cs"]))


def test_cleaning_leaves_lower_case_letters_and_single_spaces() -> None:
    assert clean("The Time-Machine,\n\n1895 — étude!") == "the time machine tude "


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=texts)
def test_no_tokenizer_loses_anything(name: str, text: str) -> None:
    assert TOKENIZERS[name].join(TOKENIZERS[name].split(text)) == text


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=texts)
def test_token_sizes_add_up_to_the_bytes_of_the_text(name: str, text: str) -> None:
    used = TOKENIZERS[name]
    assert sum(map(used.size, used.split(text))) == len(text.encode())


def test_words_take_the_space_before_them_along() -> None:
    assert tokenizer("word").split('It has,  he said.\n"Yes"') == [
        *["It", " has", ",", "  ", "he", " said", ".", "\n", '"', "Yes", '"']
    ]


@given(texts)
def test_bytes_know_every_text(text: str) -> None:
    used = tokenizer("byte")
    vocab = used.vocab([])
    assert len(vocab) == 257
    assert all(token in vocab for token in used.split(text))


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


@pytest.mark.parametrize("name", ["byte", "char", "word"])
def test_bounds_that_no_vocabulary_has_are_refused(name: str) -> None:
    for bounds in ({"vocab_size": 1}, {"min_freq": 0}, {"vocab_size": 1.5}, {"min_freq": "2"}):
        with pytest.raises(ElmanError, match=r"vocab size|min freq"):
            tokenizer(name, **bounds)  # type: ignore[arg-type]


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


def test_vocab_flattens_lines_of_tokens() -> None:
    assert Vocab([["b"], ["a", "b"]]).token_freqs == [("b", 2), ("a", 1)]


@given(st.lists(st.text(max_size=3)))
def test_encoding_many_tokens_is_looking_up_each(tokens: list[str]) -> None:
    vocab = Vocab(tokens[::2])
    assert vocab.encode(tokens).tolist() == vocab[tokens]


def test_a_prefix_with_unknown_symbols_is_refused_by_name() -> None:
    codec = Codec(Vocab(list("abc")), "char", clean=True)
    assert codec.text(codec.prefix_ids("cab")) == "cab"
    with pytest.raises(ElmanError, match="does not know 'X', 'é' in the prefix"):
        codec.prefix_ids("aXé")


def test_a_message_says_how_many_tokens_of_the_vocabulary_it_leaves_out() -> None:
    characters = Codec(Vocab([chr(ord("a") + place) for place in range(100)]), "char", clean=False)
    with pytest.raises(ElmanError, match=r"it knows 'abc.* and 20 more tokens$"):
        characters.prefix_ids("Z")
    words = Codec(Vocab([f"{place:02}{'a' * 37}" for place in range(5)]), "word", clean=False)
    with pytest.raises(ElmanError, match=r"it knows '00a{37}01a{37}' and 3 more tokens$"):
        words.prefix_ids("Z")


def test_an_unknown_tokenizer_is_refused() -> None:
    with pytest.raises(
        ElmanError, match="tokenizer must be char, byte, word or bpe, got 'syllable'"
    ):
        tokenizer("syllable")


def test_a_vocabulary_of_another_size_is_not_even_made(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_vocab(["<unk>", "a"], "it", 2).idx_to_token == ["<unk>", "a"]
    monkeypatch.setattr("elman.text.vocab.Vocab", None)
    with pytest.raises(ElmanError, match="it must have 2 tokens, got 3"):
        read_vocab(["<unk>", "a", "b"], "it", 2)


def test_half_a_surrogate_pair_is_no_token() -> None:
    with pytest.raises(ElmanError, match="cannot read it: it contains half a surrogate pair"):
        read_vocab(["<unk>", "\ud800"], "it", 2)


def test_a_program_that_cannot_split_a_text_into_such_tokens_is_refused() -> None:
    used = tokenizer("word")
    used.require_units([Units.MATCHES], "a page")
    message = (
        "a page supports tokens that are bytes, got matches of the tokenizer word: choose another"
    )
    with pytest.raises(ElmanError, match=message):
        used.require_units([Units.BYTES], "a page")


def test_a_tokenizer_that_is_learned_has_no_definition_to_use_by_its_name() -> None:
    with pytest.raises(ElmanError, match="the tokenizer bpe must be learned from a text"):
        tokenizer("bpe")
