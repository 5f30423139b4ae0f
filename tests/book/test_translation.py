"""The pairs of MTFraEng are the book's: cleaned, cut or padded, and numbered."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

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
    assert words(longer.src_vocab, longer.arrays[0])[1] == "go . <eos> <pad> <pad>"
    one = made(monkeypatch, FEW, num_steps=1)  # where no sentence is padded
    assert one.tgt_vocab["<pad>"] != one.tgt_vocab.unk != one.tgt_vocab["<bos>"]


def test_a_batch_counts_the_targets_that_are_no_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    data = made(monkeypatch, FEW, num_steps=5)
    for batch in (*data.train_dataloader(), *data.val_dataloader()):
        padding = data.tgt_vocab["<pad>"]
        assert (batch.mask == (batch.targets != padding)).all()
        assert batch.num_targets == (batch.targets != padding).sum() < batch.targets.size
    rows = [len(loader.arrays[0]) for loader in (data.train_dataloader(), data.val_dataloader())]
    assert rows == [3, 2]


def test_any_number_of_sentences_is_built_in_the_vocabulary_of_the_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = made(monkeypatch, FEW, num_steps=4)
    for number in (0, 1, 100):
        arrays = data.build(["go home ."] * number, ["va ."] * number)
        assert [len(array) for array in arrays] == [number] * 4
    src, _, lengths, targets = arrays
    assert data.src_vocab.to_tokens(src[0]) == ["go", "<unk>", ".", "<eos>"]
    assert lengths.tolist() == [4] * 100
    assert data.tgt_vocab.to_tokens(targets[0]) == ["va", ".", "<eos>", "<pad>"]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_train": 9}, r"num_train \+ num_val is 10, and the text has 5 pairs"),
        ({"num_steps": 0}, "num steps must be 1 or more, got 0"),
    ],
)
def test_too_few_pairs_and_wrong_sizes_are_refused(
    monkeypatch: pytest.MonkeyPatch, sizes: dict[str, int], message: str
) -> None:
    with pytest.raises(ElmanError, match=message):
        made(monkeypatch, FEW, **sizes)


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

    monkeypatch.setattr(translation, "download", mock.Mock(side_effect=MachineError("no network")))
    (tmp_path / "fra-eng.zip").write_bytes(b"something else")
    with pytest.raises(MachineError):
        fra_eng(str(tmp_path))
