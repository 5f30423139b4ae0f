"""The pairs of MTFraEng are the book's: cleaned, cut or padded, and numbered."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from elman.book import translation
from elman.book.translation import MTFraEng, fra_eng
from elman.errors import ElmanError, MachineError
from tests import pairs


class Data(MTFraEng):
    """Pairs of a text in memory."""

    __init__ = MTFraEng.build_pairs


def made(patch: pytest.MonkeyPatch, raw_text: str, **sizes: Any) -> Data:
    patch.setattr(Data, "_download", lambda self: raw_text)
    return Data(**({"batch_size": 2, "num_train": 3, "num_val": 1} | sizes))


FEW = "Go on.\tVa\u202f!\nGo.\tVa.\nStay.\tReste.\nGo.\tVa.\nGo.\tVa.\n"


def test_punctuation_becomes_words_and_spaces_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    data = made(monkeypatch, FEW)
    assert data._preprocess("Ah! Oui,\u202fNON\xa0?\tEh.\n.") == "ah ! oui , non ?\teh .\n ."
    assert data._preprocess("What?! ,a") == "what ? ! ,a"


def test_lines_without_one_tab_are_left_out_and_empty_tokens_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = made(monkeypatch, FEW)
    found = data._tokenize("a  b\tc\nno tab\nd\te\tf\n\tg")
    assert found == ([["a", "b", "<eos>"], ["<eos>"]], [["c", "<eos>"], ["g", "<eos>"]])
    assert (
        len(data._tokenize("a\tb\n" * 9, 3)[0]) == 4
    )  # as in the book, the last is counted from 0


def test_sentences_are_cut_or_padded_and_targets_are_a_token_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = made(monkeypatch, FEW, num_steps=3)
    src, inputs, lengths, targets = data.arrays

    def words(vocab: Any, array: Any) -> list[str]:
        return [" ".join(vocab.to_tokens(row)) for row in array]

    assert words(data.src_vocab, src)[:2] == ["go <unk> .", "go . <eos>"]
    assert lengths.tolist() == [3, 3, 3, 3, 3]
    assert words(data.tgt_vocab, inputs)[:2] == ["<bos> va <unk>", "<bos> va ."]
    assert words(data.tgt_vocab, targets)[:2] == ["va <unk> <eos>", "va . <eos>"]
    longer = made(monkeypatch, FEW, num_steps=5)
    assert longer.arrays[2].tolist() == [4, 3, 3, 3, 3]
    assert longer.src_vocab.to_tokens(longer.arrays[0][1]) == ["go", ".", "<eos>", "<pad>", "<pad>"]


def test_a_batch_counts_the_targets_that_are_no_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    data = made(monkeypatch, FEW, num_steps=5)
    for batch in (*data.train_dataloader(), *data.val_dataloader()):
        padding = data.tgt_vocab["<pad>"]
        assert (batch.mask == (batch.targets != padding)).all()
        assert batch.num_targets == (batch.targets != padding).sum() < batch.targets.size
    rows = [len(loader.arrays[0]) for loader in (data.train_dataloader(), data.val_dataloader())]
    assert rows == [3, 2]


def test_built_sentences_have_the_vocabulary_of_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    data = made(monkeypatch, FEW, num_steps=4)
    src, _, lengths, targets = data.build(["go home ."], ["va ."])
    assert data.src_vocab.to_tokens(src[0]) == ["go", "<unk>", ".", "<eos>"]
    assert lengths.tolist() == [4]
    assert data.tgt_vocab.to_tokens(targets[0]) == ["va", ".", "<eos>", "<pad>"]


def test_any_number_of_sentences_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    data = made(monkeypatch, FEW, num_steps=4)
    for number in (0, 1, 100):
        arrays = data.build(["go ."] * number, ["va ."] * number)
        assert [len(array) for array in arrays] == [number] * 4


def test_padding_has_an_id_where_no_sentence_is_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = made(monkeypatch, FEW, num_steps=1)
    assert data.tgt_vocab["<pad>"] != data.tgt_vocab.unk != data.tgt_vocab["<bos>"]


def test_too_few_pairs_and_wrong_sizes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ElmanError, match=r"num_train \+ num_val is 10, and the text has 5 pairs"):
        made(monkeypatch, FEW, num_train=9)
    with pytest.raises(ElmanError, match="num steps must be 1 or more, got 0"):
        made(monkeypatch, FEW, num_steps=0)


def zipped(folder: Path) -> str:
    """An archive in the form of the book's, and its digest."""
    path = folder / "fra-eng.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("fra-eng/fra.txt", pairs.text())
    return hashlib.sha1(path.read_bytes()).hexdigest()


def test_the_books_pairs_are_read_from_the_folder_of_data_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translation, "FRA_ENG_SHA1", zipped(tmp_path))
    assert fra_eng(str(tmp_path)) == pairs.text()

    def no_network(*words: str) -> str:
        raise MachineError("no network")

    monkeypatch.setattr(translation, "download", no_network)
    (tmp_path / "fra-eng.zip").write_bytes(b"something else")
    with pytest.raises(MachineError, match="no network"):
        fra_eng(str(tmp_path))


def test_the_generated_pairs_are_numbers() -> None:
    words = [pairs.french(n) for n in (71, 81, 99, 100, 231, 980)]
    assert words == [
        *("soixante et onze", "quatre-vingt un", "quatre-vingt dix-neuf", "cent"),
        *("deux cent trente et un", "neuf cent quatre-vingts"),
    ]
    assert pairs.english(919) == "nine hundred nineteen"
    assert len({target for _, target in pairs.sentences()}) == 1000
