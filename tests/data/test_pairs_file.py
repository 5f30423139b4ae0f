"""A file of pairs is read whole and within bounds, and equal sources are in one part."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.book import translation
from elman.book.translation import PairsFile
from elman.data.text import read_pair_texts
from elman.errors import ElmanError
from elman.text import in_memory
from elman.text.in_memory import read_pairs


def file_of(folder: Path, content: str | bytes) -> str:
    path = folder / "pairs.tsv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


WORDS = ["cat", "dog", "bird", "cow", "hen", "pig", "fox", "ant", "bee"]
PLURALS = "".join(f"{word}\t{word}s\n" for word in WORDS)


def test_characters_are_tokens_and_the_longest_text_sets_the_steps(tmp_path: Path) -> None:
    data = PairsFile(file_of(tmp_path, PLURALS), batch_size=4, val_share=0.3)
    assert data.num_steps == len("birds") + 1
    src, inputs, lengths, targets = data.build(["cow"], ["cows"])
    assert data.src_vocab.to_tokens(src[0]) == [*"cow", "<eos>", "<pad>", "<pad>"]
    assert data.tgt_vocab.to_tokens(inputs[0]) == ["<bos>", *"cows", "<eos>"]
    assert data.tgt_vocab.to_tokens(targets[0]) == [*"cows", "<eos>", "<pad>"]
    assert lengths.tolist() == [4]


def test_words_are_tokens_if_they_are_asked_for(tmp_path: Path) -> None:
    path = file_of(tmp_path, "one  two\tun deux\r\n\n" * 3 + "three\ttrois\nfour\tquatre deux\n")
    data = PairsFile(path, 1, tokenizer="word", val_share=0.4)
    assert data.num_steps == 3
    assert "deux" in data.tgt_vocab
    assert (data.separator, len(data.arrays[0])) == (" ", 5)


def test_tokens_are_learned_from_the_training_pairs_only(tmp_path: Path) -> None:
    content = "".join(f"{chr(0x4E00 + n)}a\t{chr(0x5E00 + n)}\n" for n in range(40))
    data = PairsFile(file_of(tmp_path, content), 8, val_share=0.25)
    held = data.texts.num_train
    for vocab, texts in (
        (data.src_vocab, data.texts.sources),
        (data.tgt_vocab, data.texts.targets),
    ):
        assert all(tokens[0] in vocab for tokens in texts[:held])
        assert not any(tokens[0] in vocab for tokens in texts[held:])
    targets = np.concatenate([batch.targets for batch in data.val_dataloader()])
    assert (targets[:, 0] == data.tgt_vocab.unk).all()
    size = data.validated(len(data.val_dataloader()))
    assert (size.unknown, size.tokens) == (40 - held, 2 * (40 - held))
    assert size.spelling > 0
    assert data.trained().unknown == 0


def test_merges_are_learned_from_the_training_pairs_only(tmp_path: Path) -> None:
    held = {n for n in range(40) if zlib.crc32(str(n).encode()) < 0.25 * (1 << 32)}
    content = "".join(f"{n}\t{'held' if n in held else 'learned'}\n" for n in range(40))
    texts = read_pair_texts(Path(file_of(tmp_path, content)), ("char", "bpe"), 0.25)
    split = texts.tokenizers[1].split
    assert (split("learned"), split("held")) == (["learned"], [*"held"])


def test_pairs_of_equal_sources_are_in_one_part(tmp_path: Path) -> None:
    content = "".join(f"word {n % 40}\t{n}\n" for n in range(200))
    data = PairsFile(file_of(tmp_path, content), 8, val_share=0.25)
    parts = [set(map(bytes, part)) for part in np.split(data.arrays[0], [data.num_train])]
    assert not parts[0] & parts[1]
    assert 100 <= data.num_train <= 190
    assert sum(len(batch.targets) for batch in data.val_dataloader()) == 200 - data.num_train


RESERVED = "one <pad> two\tun\nthree\ttrois\nfour <pad>\tquatre\n"


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("a\tb\nno tab\n", {}, "a source, a tab and a target, got 'no tab' in line 2 of .*pairs"),
        ("a\tb\tc\n", {}, r"a source, a tab and a target, got 'a\\tb\\tc' in line 1"),
        ("\tb\n", {}, r"a source, a tab and a target, got '\\tb' in line 1"),
        ("a\t \n", {}, r"a source, a tab and a target, got 'a\\t ' in line 1"),
        (b"a\t\xff\n", {}, "pairs are UTF-8 text .* got byte 0xff in line 1 of .*: convert"),
        ("a\t" + "b" * (1 << 16), {}, "at most 65,536 bytes, got more in line 1"),
        (PLURALS * 2, {}, "a file of pairs has at most 90 bytes, got 166"),
        ("", {}, "has 0 pairs for training and 0 for validation, and each part needs one"),
        ("a\tb\n", {}, "and each part needs one: give more pairs, or another share"),
        (PLURALS, {"path": "none.tsv"}, "there is no file none.tsv"),
        (PLURALS, {"tokenizer": "bpe"}, "tokenizer must be char or word, got 'bpe'"),
        (PLURALS, {"val_share": 1}, "val share must be above 0 and below 1, got 1"),
        (PLURALS, {"num_steps": 0}, "num steps must be 1 or more, got 0"),
        (PLURALS, {"num_steps": 7}, "must be 54 or less, got 9 times 7: give a smaller num_"),
        (RESERVED, {"tokenizer": "word"}, "must not contain the reserved word <pad>"),
    ],
)
def test_what_is_no_file_of_pairs_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | bytes,
    options: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setattr(translation, "MAX_IDS", 9 * 6)
    monkeypatch.setattr(in_memory, "MAX_FILE_BYTES", 90 if content == PLURALS * 2 else 1 << 20)
    given = {"path": file_of(tmp_path, content), "batch_size": 4, "val_share": 0.3} | options
    with pytest.raises(ElmanError, match=message):
        PairsFile(**given)


def test_characters_of_reserved_words_may_be_read(tmp_path: Path) -> None:
    assert "<" in PairsFile(file_of(tmp_path, RESERVED), 1, val_share=0.4).src_vocab


def test_a_byte_order_mark_is_dropped_only_at_the_start_of_a_file(tmp_path: Path) -> None:
    mark = "\ufeff"
    content = f"{mark}one\tun\n{mark}two\t{mark}deux\nthree\ttrois\n"
    found = read_pairs(Path(file_of(tmp_path, content)))
    assert found == [("one", "un"), (f"{mark}two", f"{mark}deux"), ("three", "trois")]
