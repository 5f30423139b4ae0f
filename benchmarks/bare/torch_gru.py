"""A plain PyTorch GRU of lines, each a sequence of its own, in padded batches with masks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from bare.characters import prepare, read, train
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

CHOICES: dict[str, tuple[Any, ...]] = {
    "hidden": (128, 192, 256, 384),
    "layers": (1, 2, 3),
    "embedding": (32, 64, 128),
    "dropout": (0.0, 0.1, 0.2, 0.3, 0.5),
    "output_dropout": (0.0, 0.0, 0.1, 0.25),
    "batch": (32, 64, 128, 256),
    "lr": (1e-3, 2e-3, 3e-3, 5e-3),
    "weight_decay": (0.0, 0.01, 0.1),
}
POOL = 50  # batches whose lines are sorted by length
READ = 256  # lines at a time
CHECKED = 4096  # lines of a check
PADDING = -100  # a target that does not count


class GRU(nn.Module):
    """Embedding, GRU with dropout between its layers, output layer."""

    def __init__(self, vocab: int, settings: dict[str, Any]) -> None:
        super().__init__()
        hidden, layers = settings["hidden"], settings["layers"]
        between = settings["dropout"] if layers > 1 else 0
        self.table = nn.Embedding(vocab, settings["embedding"])
        self.rnn = nn.GRU(settings["embedding"], hidden, layers, dropout=between)
        self.drop = nn.Dropout(settings["output_dropout"])
        self.linear = nn.Linear(hidden, vocab)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """The losses of all targets, (steps, batch) as the ids; 0 for padding."""
        logits = self.linear(self.drop(self.rnn(self.table(ids))[0]))
        return F.cross_entropy(
            logits.movedim(2, 1), targets, ignore_index=PADDING, reduction="none"
        )


def lines_of(ids: Tensor, line_end: int) -> list[Tensor]:
    """Each line between two line ends, the first of which is its start symbol; not empty lines.

    The text ends with a line end.
    """
    ends = (ids == line_end).nonzero().flatten().tolist()
    starts = [0, *(end + 1 for end in ends[:-1])]
    symbol = ids.new_tensor([line_end])
    return [
        torch.cat([symbol, ids[start : end + 1]])
        for start, end in zip(starts, ends, strict=True)
        if start < end
    ]


def padded(lines: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Ids and targets, (steps, batch), padded at their ends."""
    X = pad_sequence([line[:-1] for line in lines])
    return X, pad_sequence([line[1:] for line in lines], padding_value=PADDING)


def batches(lines: list[Tensor], batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of lines of about the same length, in random order for ever."""
    while True:
        order = torch.randperm(len(lines)).tolist()
        for at in range(0, len(order), POOL * batch):
            pool = sorted(order[at : at + POOL * batch], key=lambda row: len(lines[row]))
            groups = [pool[start : start + batch] for start in range(0, len(pool), batch)]
            for group in torch.randperm(len(groups)).tolist():
                yield padded([lines[row] for row in groups[group]])


@torch.inference_mode()
def lines_loss(model: GRU, lines: list[Tensor]) -> tuple[float, int]:
    """Nats of the characters of all lines, their ends included, and their number."""
    total, characters = 0.0, 0
    for start in range(0, len(lines), READ):
        X, Y = padded(lines[start : start + READ])
        total += model(X, Y).double().sum().item()
        characters += int((Y != PADDING).sum())
    return total, characters


def run(training: Path, validation: Path, minutes: float, settings: dict[str, Any]) -> Any:
    """Train for so many minutes; nats of the validation part, characters, and updates."""
    prepare()
    ids, held_out, vocab, _ = read(training, validation)
    line_end = int(ids[-1])
    model = GRU(vocab, settings)
    drawn = batches(lines_of(ids, line_end), settings["batch"])
    validated = lines_of(held_out, line_end)

    def loss() -> Tensor:
        X, Y = next(drawn)
        return model(X, Y).sum() / (Y != PADDING).sum()

    def check() -> float:
        nats, characters = lines_loss(model, validated[:CHECKED])
        return nats / characters

    decay = settings["weight_decay"]
    updates = train(model, loss, check, minutes, settings["lr"], decay, warmup=0.02)
    return *lines_loss(model, validated), updates
