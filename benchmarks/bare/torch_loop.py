"""Plain PyTorch loops: training, writing, scoring."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

Step = Callable[[np.ndarray, np.ndarray], float]
CELLS = {
    "rnn": nn.RNN,
    "rnn-relu": partial(nn.RNN, nonlinearity="relu"),
    "gru": nn.GRU,
    "lstm": nn.LSTM,
}
SCORED = 4096  # characters at a time


def training(vocab: int, hidden: int, cell: str = "rnn") -> tuple[Step, Step]:
    """Functions of ids and targets, (batch, steps), that take an update, and validate."""
    rnn, linear, table = CELLS[cell](vocab, hidden), nn.Linear(hidden, vocab), torch.eye(vocab)
    parameters = [*rnn.parameters(), *linear.parameters()]
    optim = torch.optim.SGD(parameters, lr=1)

    def loss_of(X: np.ndarray, Y: np.ndarray) -> torch.Tensor:
        ids, targets = torch.from_numpy(X).T, torch.from_numpy(Y).T  # (steps, batch)
        hiddens, _ = rnn(F.embedding(ids, table))
        return F.cross_entropy(linear(hiddens).reshape(-1, vocab), targets.reshape(-1))

    def update(X: np.ndarray, Y: np.ndarray) -> float:
        loss = loss_of(X, Y)
        optim.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1)
        optim.step()
        return loss.item()

    @torch.no_grad()
    def validate(X: np.ndarray, Y: np.ndarray) -> float:
        return loss_of(X, Y).item()

    return update, validate


def writing(vocab: int, hidden: int) -> Callable[[], Any]:
    """A function that writes 1,000 characters."""
    rnn, linear, table = nn.RNN(vocab, hidden), nn.Linear(hidden, vocab), torch.eye(vocab)

    @torch.inference_mode()
    def run() -> None:
        state, token = torch.zeros(1, 1, hidden), 0
        for _ in range(1000):
            outputs, state = rnn(table[token].view(1, 1, vocab), state)
            token = int(linear(outputs).argmax())

    return run


def scoring(vocab: int, hidden: int, ids: np.ndarray) -> Callable[[], Any]:
    """A function that reads a text, and sums up the losses of its characters."""
    rnn, linear, table = nn.RNN(vocab, hidden), nn.Linear(hidden, vocab), torch.eye(vocab)
    text = torch.from_numpy(ids)

    @torch.inference_mode()
    def run() -> float:
        state, total = torch.zeros(1, hidden), 0.0
        for piece, targets in zip(text[:-1].split(SCORED), text[1:].split(SCORED), strict=True):
            hiddens, state = rnn(F.embedding(piece, table), state)
            total += F.cross_entropy(linear(hiddens), targets, reduction="sum").item()
        return total

    return run
