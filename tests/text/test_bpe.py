"""Byte pair encoding: every text comes back, and files of others' are checked."""

import json
import re
import signal
import threading
from collections.abc import Callable, Iterator
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
import tokenizers
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


@given(text=texts)
def test_every_text_comes_back_and_its_pieces_have_the_ids_that_the_library_gives_the_whole(
    learned: Tokenizer, text: str
) -> None:
    tokens = learned.split(text)
    assert learned.join(tokens) == text
    assert sum(map(learned.size, tokens)) == len(text.encode())
    ids = learned.encoder().ids(text).tolist()
    library = tokenizers.Tokenizer.from_str(learned.model)
    assert ids == library.encode(text).ids == learned.vocab(())[tokens]
    assert library.decode(ids) == text


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


@pytest.mark.parametrize("early", [False, True])
def test_an_interrupt_ends_the_learning_and_its_thread(
    monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    """A thread that still learned while the interpreter exits would abort the process."""

    class Interrupted(threading.Thread):
        def start(self) -> None:
            super().start()
            raise KeyboardInterrupt

    def endless() -> Iterator[str]:
        for number in count():
            if number == 1000 and not early:
                signal.raise_signal(signal.SIGINT)
            yield f"It was {number}. "

    monkeypatch.setattr(threading, "Thread", Interrupted if early else threading.Thread)
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        bpe.learn(endless())
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.parametrize("bound", ["MAX_CACHED_PIECES", "MAX_CACHED_IDS"])
def test_pieces_that_are_forgotten_are_joined_again(
    learned: Tokenizer, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    first = learned.encoder().ids(STORY).tolist()
    monkeypatch.setattr(bpe, bound, 1000)
    encoder: Any = learned.encoder()
    for number in range(1100):
        encoder.ids(f" {number:x<{900 if bound == 'MAX_CACHED_IDS' else 1}}")
        assert min(len(encoder._ids), len(encoder._ends)) < 2000
    assert encoder.ids(STORY).tolist() == first


def test_it_has_as_many_tokens_as_asked_for_or_as_there_are(learned: Tokenizer) -> None:
    assert len(learned.vocab(())) == 280
    assert "Ġthe" in learned.vocab(())
    assert len(bpe.learn(["ab ab"], 1000).vocab(())) == 257 + 2
    assert len(bpe.learn([], 257).vocab(())) == 257


def test_the_unknown_symbol_is_no_token_of_a_text_but_a_replacement_character() -> None:
    learned = bpe.learn(["<unk> the <unk><unk>" * 99], 300)
    assert UNKNOWN not in learned.split("a <unk> b<unk>")
    assert learned.join([UNKNOWN, "a"]) == "�a"
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


def changed(**fields: Any) -> Callable[[Any], Any]:
    """Function that changes a file of byte pairs; `inner` are fields of its model."""
    inner = fields.pop("inner", {})
    return lambda value: value | {"model": value["model"] | inner} | fields


def with_tokens(*more: str, lacking: str = "") -> Callable[[Any], Any]:
    def change(value: Any) -> Any:
        tokens = [token for token in value["model"]["vocab"] if token != lacking]
        inner = {"vocab": Vocab([*tokens, *more]).token_to_idx, "merges": []}
        return value | {"model": value["model"] | inner}

    return change


NO_PAIRS, NOT_GPT2 = "is not a byte pair encoding", "must be a byte-level tokenizer"
MANY = ["".join(three) for three in product(bpe.ALPHABET[33:75], repeat=3)]
SPOILT: list[tuple[Callable[[Any], Any], str]] = [
    (lambda _: [], NO_PAIRS),
    (changed(model=3), NO_PAIRS),
    (changed(inner={"merges": [[1, 2]]}), NO_PAIRS),
    (changed(inner={"merges": 5}), NO_PAIRS),
    (changed(pre_tokenizer=None), NO_PAIRS),
    (changed(inner={"vocab": {"<unk>": 1, "a": 0}}), "must equal those in vocab.json"),
    (changed(inner={"merges": [["a", "𝄞"]]}), "must only merge tokens that it contains"),
    (changed(inner={"merges": [["z", "z"]]}), "must only merge tokens that it contains"),
    (changed(inner={"type": "Unigram"}), NOT_GPT2),
    (changed(normalizer={"type": "NFC"}), NOT_GPT2),
    (lambda value: value["pre_tokenizer"].update(add_prefix_space=True) or value, NOT_GPT2),
    (with_tokens("日"), "must write tokens in GPT-2's characters for bytes"),
    (with_tokens(lacking="z"), "a token for each of the 256 bytes"),
    (with_tokens(*MANY), "must have 65536 tokens or fewer, got 7"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_a_file_that_learning_cannot_have_made_is_refused(
    learned: Tokenizer, tmp_path: Path, spoil: Callable[[Any], Any], message: str
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(spoil(json.loads(learned.model))))
    with pytest.raises(ElmanError, match=message):
        bpe.read(path)


@pytest.mark.parametrize(
    ("bound", "message"), [(None, "must equal those in"), (10, "more than 10")]
)
def test_a_file_of_other_tokens_or_too_large_is_refused(
    learned: Tokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bound: int | None,
    message: str,
) -> None:
    (tmp_path / "tokenizer.json").write_text(learned.model)
    monkeypatch.setattr(bpe, "MAX_FILE_BYTES", bound or bpe.MAX_FILE_BYTES)
    with pytest.raises(ElmanError, match=message):
        bpe.read(tmp_path / "tokenizer.json", Vocab(["a"]))


def test_an_error_while_learning_byte_pairs_is_reported() -> None:
    def texts() -> Iterator[str]:
        yield "Once upon a time"
        raise ElmanError("the disk is gone")

    with pytest.raises(ElmanError, match="the disk is gone"):
        bpe.learn(texts(), 300)
