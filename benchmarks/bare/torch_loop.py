"""The seed's job as a plain PyTorch loop."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


def epoch(data: Any) -> Callable[[], None]:
    """A function that trains one epoch and validates."""
    vocab = len(data.vocab)
    X, Y = torch.from_numpy(data.X), torch.from_numpy(data.Y)
    rnn, linear, table = nn.RNN(vocab, 32), nn.Linear(32, vocab), torch.eye(vocab)
    parameters = [*rnn.parameters(), *linear.parameters()]
    optim = torch.optim.SGD(parameters, lr=1)

    def loss_of(rows: torch.Tensor) -> torch.Tensor:
        ids, targets = X[rows].T, Y[rows].T  # (steps, batch)
        hidden, _ = rnn(F.embedding(ids, table))
        return F.cross_entropy(linear(hidden).reshape(-1, vocab), targets.reshape(-1))

    def run() -> None:
        for rows in torch.randperm(10_000).split(1024):
            loss = loss_of(rows)
            optim.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1)
            optim.step()
            loss.item()
        with torch.no_grad():
            for rows in torch.arange(10_000, 15_000).split(1024):
                loss_of(rows).item()

    return run


def predict(data: Any) -> Callable[[], None]:
    """A function that writes 1,000 characters."""
    vocab = len(data.vocab)
    rnn, linear = nn.RNN(vocab, 32), nn.Linear(32, vocab)
    table = torch.eye(vocab)

    @torch.inference_mode()
    def run() -> None:
        state, token = torch.zeros(1, 1, 32), 0
        for _ in range(1000):
            outputs, state = rnn(table[token].view(1, 1, vocab), state)
            token = int(linear(outputs).argmax())

    return run
