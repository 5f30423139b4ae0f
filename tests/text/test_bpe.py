"""Byte pair encoding: every text comes back, and files of others' are checked."""

import json
import re
import signal
import threading
import tracemalloc
from collections.abc import Iterator
from itertools import count, product, repeat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.errors import ElmanError
from elman.text import bpe
from elman.text.codec import BEGIN, END, PADDING, ended, of_pairs
from elman.text.tokenizers import Tokenizer
from elman.text.vocab import UNKNOWN, Vocab

# What some call white space and some do not, and what GPT-2's borders of words depend on.
ODD = " \t\r\n\x0b\x0c\x1c\x1f\x85\xa0\u180e\u200b\u2028\u3000\ufeff'sdmtlvre1a,\u0301é日𝄞"
texts = st.text(st.one_of(st.sampled_from(ODD), st.characters(exclude_categories=["Cs"])))
STORY = "It's the time, said the traveller; they'll see 日本 and the thé.\n\n" * 20


@pytest.fixture(scope="module")
def learned() -> Tokenizer:
    return bpe.learn([STORY], 280)


def library_of(learned: Tokenizer) -> Any:
    import tokenizers

    return tokenizers.Tokenizer.from_str(learned.model)


@given(text=texts)
def test_every_text_comes_back(learned: Tokenizer, text: str) -> None:
    tokens = learned.split(text)
    assert learned.join(tokens) == text
    assert sum(map(learned.size, tokens)) == len(text.encode())
    assert library_of(learned).decode(library_of(learned).encode(text).ids) == text


@given(text=texts)
def test_pieces_have_the_ids_that_the_library_gives_the_whole(
    learned: Tokenizer, text: str
) -> None:
    ids = learned.encoder().ids(text).tolist()
    assert ids == library_of(learned).encode(text).ids
    assert ids == learned.vocab(())[learned.split(text)]


@given(st.lists(st.tuples(st.sampled_from("a \n時"), st.integers(1, 5000)), max_size=4))
def test_it_learns_from_runs_of_a_bounded_length(runs: list[tuple[str, int]]) -> None:
    whole = "".join(symbol * length for symbol, length in runs)
    parts = list(bpe._in_short_runs([whole, "ab c"]))
    assert "".join(parts) == whole + "ab c"
    assert all(
        len(run) <= bpe.MAX_RUN_CHARACTERS for part in parts for run in re.findall(r"\S+|\s+", part)
    )
    short = "ab cd\n" * 1000
    assert list(bpe._in_short_runs([short])) == [short]


def test_an_interrupt_ends_the_learning_and_its_thread() -> None:
    """A thread that still learned while the interpreter exits would abort the process."""

    def endless() -> Iterator[str]:
        for number in count():
            if number == 1000:
                signal.raise_signal(signal.SIGINT)
            yield f"It was {number}. "

    assert_an_interrupt_ends_the_thread_that_learns(endless())


def test_an_interrupt_while_the_thread_starts_ends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(threading.Thread):
        def start(self) -> None:
            super().start()
            raise KeyboardInterrupt

    monkeypatch.setattr(threading, "Thread", Interrupted)
    assert_an_interrupt_ends_the_thread_that_learns(f"It was {number}. " for number in count())


def assert_an_interrupt_ends_the_thread_that_learns(texts: Iterator[str]) -> None:
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        bpe.learn(texts)
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive()


def test_a_text_is_joined_without_its_tokens_in_memory() -> None:
    tracemalloc.start()
    assert bpe._join(repeat("Ġthe", 100_000)) == " the" * 100_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 400_000


@pytest.mark.parametrize("bound", ["MAX_CACHED_PIECES", "MAX_CACHED_IDS"])
def test_pieces_that_are_forgotten_are_joined_again(
    learned: Tokenizer, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(bpe, bound, 3)
    encoder = learned.encoder()
    first = encoder.ids(STORY).tolist()
    assert encoder.ids("They see").tolist() == learned.vocab(())[learned.split("They see")]
    assert encoder.ids(STORY).tolist() == first


def test_few_but_long_pieces_are_forgotten_too(
    learned: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bpe, "MAX_CACHED_IDS", 1000)
    encoder: Any = learned.encoder()
    for number in range(20):
        encoder.ids(f" {number:x<900}")
        assert len(encoder._ids) < 2000


def test_it_has_as_many_tokens_as_asked_for_or_as_there_are(learned: Tokenizer) -> None:
    assert len(learned.vocab(())) == 280
    assert "Ġthe" in learned.vocab(())
    assert len(bpe.learn(["ab ab"], 1000).vocab(())) == 257 + 2
    assert len(bpe.learn([], 257).vocab(())) == 257


@pytest.mark.parametrize(("size", "message"), [(256, "257 or more"), (65_537, "65536 or less")])
def test_a_vocabulary_out_of_bounds_is_refused(size: int, message: str) -> None:
    with pytest.raises(ElmanError, match=f"vocab size must be {message}, got {size}"):
        bpe.check_size(size)


def test_the_unknown_symbol_is_no_token_of_a_text() -> None:
    learned = bpe.learn(["<unk> <unk><unk>" * 99], 300)
    assert UNKNOWN not in learned.split("a <unk> b<unk>")
    assert learned.join([UNKNOWN, "a"]) == "�a"


def test_the_unknown_symbol_of_a_target_is_a_replacement_character(learned: Tokenizer) -> None:
    codec = of_pairs([learned, learned], [], ended(learned, ["the end"]), 9)
    ids = codec.vocab[[BEGIN, *learned.split("the"), UNKNOWN, END, PADDING]]
    assert codec.text(ids) == "the�"


def test_learned_byte_pairs_are_read_from_a_file(learned: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(learned.model, encoding="utf-8")
    again = bpe.read(path, learned.vocab(()))
    assert again.model == learned.model
    assert again.split(STORY) == learned.split(STORY)
    assert bpe.read(path).alphabet == learned.alphabet


def test_more_tokens_than_16_bits_can_hold_are_refused(learned: Tokenizer, tmp_path: Path) -> None:
    more = (one + two + three for one, two, three in product(bpe.ALPHABET[33:75], repeat=3))
    vocab = Vocab([*learned.vocab(()).idx_to_token, *more])
    model = json.loads(learned.model)
    model["model"]["vocab"] = vocab.token_to_idx
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(model))
    for given_vocab in (vocab, None):
        with pytest.raises(ElmanError, match=f"must have 65536 tokens or fewer, got {len(vocab)}"):
            bpe.read(path, given_vocab)


def spoilt(model: dict[str, Any]) -> Iterator[tuple[Any, str]]:
    inner, vocab = model["model"], model["model"]["vocab"]
    yield [], "is not a byte pair encoding"
    yield model | {"model": 3}, "is not a byte pair encoding"
    yield model | {"model": inner | {"vocab": ["a"]}}, "must equal those in vocab.json"
    yield model | {"model": inner | {"vocab": vocab | {"a": 0}}}, "must equal those in vocab.json"
    yield (
        model | {"model": inner | {"vocab": vocab | {"zz": 280}}},
        "must equal those in vocab.json",
    )
    yield (
        model | {"model": inner | {"merges": [["a", "𝄞"]]}},
        "must only merge tokens that it contains",
    )
    yield (
        model | {"model": inner | {"merges": [["z", "z"]]}},
        "must only merge tokens that it contains",
    )
    yield model | {"model": inner | {"merges": [[1, 2]]}}, "is not a byte pair encoding"
    yield model | {"model": inner | {"merges": 5}}, "is not a byte pair encoding"
    yield model | {"model": inner | {"type": "Unigram"}}, "must be a byte-level tokenizer"
    foreign = Vocab([*vocab, "日"]).token_to_idx
    yield model | {"model": inner | {"vocab": foreign}}, "must equal those in vocab.json"
    yield model | {"normalizer": {"type": "NFC"}}, "must be a byte-level tokenizer"
    yield model | {"pre_tokenizer": None}, "is not a byte pair encoding"
    other = model["pre_tokenizer"] | {"add_prefix_space": True}
    yield model | {"pre_tokenizer": other}, "must be a byte-level tokenizer"


def test_a_file_that_learning_cannot_have_made_is_refused(
    learned: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, vocab = tmp_path / "tokenizer.json", learned.vocab(())
    for value, message in spoilt(json.loads(learned.model)):
        path.write_text(json.dumps(value))
        with pytest.raises(ElmanError, match=message):
            bpe.read(path, vocab)
    path.write_text(learned.model)
    with pytest.raises(ElmanError, match=r"must equal those in vocab.json"):
        bpe.read(path, Vocab(["a"]))
    no_byte = Vocab([token for token in vocab.idx_to_token if token != "z"])
    model = json.loads(learned.model)
    model["model"] |= {"vocab": no_byte.token_to_idx, "merges": []}
    path.write_text(json.dumps(model))
    with pytest.raises(ElmanError, match="a token for each of the 256 bytes"):
        bpe.read(path, no_byte)
    path.write_text("{")
    with pytest.raises(ElmanError, match="cannot read"):
        bpe.read(path, vocab)
    monkeypatch.setattr(bpe, "MAX_FILE_BYTES", 10)
    path.write_text(learned.model)
    with pytest.raises(ElmanError, match="more than 10 bytes"):
        bpe.read(path, vocab)


def test_an_error_while_learning_byte_pairs_is_reported() -> None:
    def texts() -> Iterator[str]:
        yield "Once upon a time"
        raise ElmanError("the disk is gone")

    with pytest.raises(ElmanError, match="the disk is gone"):
        bpe.learn(texts(), 300)
