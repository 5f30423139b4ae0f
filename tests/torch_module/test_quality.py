"""All contenders of the comparison of models are measured on the same characters, all of them."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # as for its programs
from bare import characters, torch_gpt, torch_gru, torch_lstm
from quality_texts import split

from elman import numba as engine
from elman.inference.evaluation import evaluate
from elman.model.weights import Architecture, initial
from elman.text.codec import Codec
from elman.text.vocab import Vocab

LINES = "".join(f"{'ab' * (n % 5)}c{n}é\n" for n in range(40))
SETTINGS = {"hidden": 8, "layers": 1, "embedding": 4, "dropout": 0.1, "output_dropout": 0.1}


def files(folder: Path, by_line: bool) -> tuple[Path, Path]:
    """Files of the parts of a text."""
    paths = folder / "train.txt", folder / "val.txt"
    for path, part in zip(paths, split(LINES, by_line), strict=True):
        path.write_text(part, encoding="utf-8", newline="")
    return paths


def model_of(module: Any, name: str, vocab: int) -> Any:
    """A small model of a bare contender, without dropout."""
    settings = SETTINGS | {"width": 8, "heads": 2, "context": 8}
    torch.manual_seed(0)
    return getattr(module, name)(vocab, settings).eval()


def engines_count(text: str, by_line: bool) -> int:
    """Characters that elman counts."""
    vocab = Vocab(list(LINES))
    arch = Architecture("rnn", len(vocab), 4)
    model = engine.build(arch, initial(arch))
    return evaluate(model, text, Codec(vocab, "char", clean=False, lines=by_line)).characters


@pytest.mark.parametrize("by_line", [False, True])
def test_same_characters(tmp_path, by_line):
    training, validation = files(tmp_path, by_line)
    ids, held_out, vocab, predicted = characters.read(training, validation)
    text = validation.read_text(encoding="utf-8")
    counts = [
        torch_lstm.stream_loss(model_of(torch_lstm, "LSTM", vocab), held_out)[1],
        torch_gpt.stream_loss(model_of(torch_gpt, "GPT", vocab), held_out)[1],
        engines_count(text, by_line),
        predicted,
    ]
    if by_line:
        lines = torch_gru.lines_of(held_out, int(ids[-1]))
        counts.append(torch_gru.lines_loss(model_of(torch_gru, "GRU", vocab), lines)[1])
    assert counts == [len(text) - 1] * len(counts)


@pytest.mark.parametrize("length", [2, 8, 9, 13, 61])
@torch.inference_mode()
def test_gpt_predicts_each_character_once_from_half_a_context_at_least(length):
    model, ids = model_of(torch_gpt, "GPT", 20), torch.arange(length) * 7 % 20
    expected = 0.0
    for place in range(1, length):  # its window ends with the fourth, or the eighth, of a half
        start = 0 if place <= 8 else (place - 5) // 4 * 4
        losses = model(ids[None, start:place], ids[None, start + 1 : place + 1])
        expected += losses[0, -1].item()
    assert torch_gpt.stream_loss(model, ids) == (pytest.approx(expected, rel=1e-5), length - 1)


@torch.inference_mode()
def test_padding_counts_nowhere():
    model = model_of(torch_gru, "GRU", 20)
    ids = torch.tensor([3, 0, 0, 5, 6, 7, 8, 0, 9, 0])
    lines = torch_gru.lines_of(ids, 0)
    assert [line.tolist() for line in lines] == [[0, 3, 0], [0, 5, 6, 7, 8, 0], [0, 9, 0]]
    alone = sum(torch_gru.lines_loss(model, [line])[0] for line in lines)
    assert torch_gru.lines_loss(model, lines) == (pytest.approx(alone, rel=1e-5), 9)
