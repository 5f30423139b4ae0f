"""A plain PyTorch LSTM: truncated back-propagation with carried state."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from bare.characters import prepare, read, train
from torch import Tensor, nn
from torch.nn import functional as F

CHOICES: dict[str, tuple[Any, ...]] = {
    "hidden": (128, 192, 256, 384),
    "layers": (1, 2, 3),
    "embedding": (32, 64, 128),
    "dropout": (0.0, 0.1, 0.2, 0.3, 0.5),
    "output_dropout": (0.0, 0.0, 0.1, 0.25),
    "batch": (16, 32, 64),
    "steps": (64, 100, 150),
    "lr": (1e-3, 2e-3, 3e-3, 5e-3),
    "weight_decay": (0.0, 0.01, 0.1),
    "pairs": (0, 1024, 2048),  # byte pairs as tokens; 0 for characters
}
State = tuple[Tensor, Tensor] | None
CHECKED = 64, 512  # sequences and steps of a check
READ = 4096  # tokens at a time


class LSTM(nn.Module):
    """Embedding, LSTM with dropout between its layers, output layer."""

    def __init__(self, vocab: int, settings: dict[str, Any]) -> None:
        super().__init__()
        hidden, layers = settings["hidden"], settings["layers"]
        between = settings["dropout"] if layers > 1 else 0
        self.table = nn.Embedding(vocab, settings["embedding"])
        self.rnn = nn.LSTM(settings["embedding"], hidden, layers, dropout=between)
        self.drop = nn.Dropout(settings["output_dropout"])
        self.linear = nn.Linear(hidden, vocab)
        for layer in range(layers):  # it begins by remembering
            getattr(self.rnn, f"bias_ih_l{layer}").data[hidden : 2 * hidden] = 1

    def forward(self, ids: Tensor, targets: Tensor, state: State) -> tuple[Tensor, State]:
        """The losses of all targets, (steps, batch) as the ids, and the state after them."""
        hiddens, state = self.rnn(self.table(ids), state)
        logits = self.linear(self.drop(hiddens))
        return F.cross_entropy(logits.movedim(2, 1), targets, reduction="none"), state


def pieces(ids: Tensor, batch: int, steps: int) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Ids and targets, (steps, batch), in the text's order, and True for the first of an epoch.

    Epochs go on for ever, and each begins at another character.
    """
    batch = min(batch, max(1, len(ids) // (2 * steps)))
    while True:
        start = int(torch.randint(min(steps, len(ids) // 2), ()))
        length = (len(ids) - start - 1) // batch
        X = ids[start : start + batch * length].view(batch, length).T.contiguous()
        Y = ids[start + 1 : start + 1 + batch * length].view(batch, length).T.contiguous()
        for at in range(0, length, steps):
            yield X[at : at + steps], Y[at : at + steps], at == 0


@torch.inference_mode()
def stream_loss(model: nn.Module, ids: Tensor) -> tuple[float, int]:
    """Nats of all tokens but the first, read as one stream, and their number."""
    state: Any = None
    total = 0.0
    for X, Y in zip(ids[:-1, None].split(READ), ids[1:, None].split(READ), strict=True):
        losses, state = model(X, Y, state)
        total += losses.double().sum().item()
    return total, len(ids) - 1


def run(training: Path, validation: Path, minutes: float, settings: dict[str, Any]) -> Any:
    """Train for so many minutes; nats of the validation part, characters, and updates."""
    prepare()
    ids, held_out, vocab, characters = read(training, validation, settings.get("pairs", 0))
    model = LSTM(vocab, settings)
    batches, state = pieces(ids, settings["batch"], settings["steps"]), None
    checked = next(pieces(held_out[: CHECKED[0] * CHECKED[1]], *CHECKED))[:2]

    def loss() -> Tensor:
        nonlocal state
        X, Y, first = next(batches)
        before = None if first or state is None else (state[0].detach(), state[1].detach())
        losses, state = model(X, Y, before)
        return losses.mean()

    def check() -> float:
        return model(*checked, None)[0].mean().item()

    decay = settings["weight_decay"]
    updates = train(model, loss, check, minutes, settings["lr"], decay, warmup=0.02)
    return stream_loss(model, held_out)[0], characters, updates
