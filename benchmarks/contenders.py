"""The seed's job by one contender in this process: prints the median seconds an epoch as JSON.

    python benchmarks/contenders.py NAME TEXT EPOCHS

NAME is elman-torch, elman-numpy, bare-torch or d2l-torch; TEXT is the raw text that all read.
An epoch is 10 updates at batch 1024 and 32 steps, and 5 validation batches.
"""

import json
import math
import statistics
import sys
import time
from pathlib import Path

STEPS, BATCH, HIDDEN, TRAIN, VAL = 32, 1024, 32, 10_000, 5_000


def elman_numpy(text: str, epochs: int) -> list[float]:
    """`Trainer.fit` with the built-in model."""
    from elman import numpy as d2l

    d2l.TimeMachine._download = lambda self: text
    data = d2l.TimeMachine(BATCH, STEPS, TRAIN, VAL)
    model = d2l.RNNLM(d2l.RNN(len(data.vocab), HIDDEN), len(data.vocab), lr=1)
    return fit(d2l, model, data, epochs)


def elman_torch(text: str, epochs: int) -> list[float]:
    """`Trainer.fit` with the model that the book prints."""
    from torch import nn

    from elman import torch as d2l

    class RNN(d2l.Module):
        def __init__(self, num_inputs: int, num_hiddens: int) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.rnn = nn.RNN(num_inputs, num_hiddens)

        def forward(self, inputs, H=None):
            return self.rnn(inputs, H)

    d2l.TimeMachine._download = lambda self: text
    data = d2l.TimeMachine(BATCH, STEPS, TRAIN, VAL)
    model = d2l.RNNLM(RNN(len(data.vocab), HIDDEN), len(data.vocab), lr=1)
    return fit(d2l, model, data, epochs)


def fit(d2l, model, data, epochs: int) -> list[float]:
    """Seconds of each epoch."""
    trainer = d2l.Trainer(epochs, gradient_clip_val=1)
    trainer.fit(model, data)
    ends = [0.0, *(epoch.seconds for epoch in trainer.history)]
    return [end - start for start, end in zip(ends, ends[1:], strict=False)]


def bare_torch(text: str, epochs: int) -> list[float]:
    """The same updates and validation, and nothing else."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    from elman.core.text import Vocab, clean

    tokens = list(clean(text))
    vocab = Vocab(tokens)
    views = torch.tensor(vocab[tokens]).unfold(0, STEPS + 1, 1)
    train, val = views[:TRAIN], views[TRAIN : TRAIN + VAL]
    rnn, linear = nn.RNN(len(vocab), HIDDEN), nn.Linear(HIDDEN, len(vocab))
    parameters = [*rnn.parameters(), *linear.parameters()]
    optim = torch.optim.SGD(parameters, lr=1)

    def loss_of(rows: torch.Tensor) -> torch.Tensor:
        X, Y = rows[:, :-1].T, rows[:, 1:].T  # (steps, batch)
        zeros = torch.zeros(*X.shape, len(vocab))
        hidden, _ = rnn(zeros.scatter_(2, X.unsqueeze(2), 1.0))
        return F.cross_entropy(linear(hidden).reshape(-1, len(vocab)), Y.reshape(-1))

    times = []
    for _ in range(epochs):
        began = time.perf_counter()
        for rows in train[torch.randperm(TRAIN)].split(BATCH):
            loss = loss_of(rows)
            optim.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1)
            optim.step()
        with torch.no_grad():
            for rows in val.split(BATCH):
                loss = loss_of(rows)
        assert math.isfinite(loss.item())
        times.append(time.perf_counter() - began)
    return times


def d2l_torch(text: str, epochs: int) -> list[float]:
    """d2l 1.0.3 as in the book, its plotting off."""
    from d2l import torch as d2l

    d2l.TimeMachine._download = lambda self: text
    data = d2l.TimeMachine(BATCH, STEPS, TRAIN, VAL)
    model = d2l.RNNLM(d2l.RNN(len(data.vocab), HIDDEN), len(data.vocab), lr=1)
    model.board.display = False
    times = []

    class Trainer(d2l.Trainer):
        def fit_epoch(self) -> None:
            began = time.perf_counter()
            super().fit_epoch()
            times.append(time.perf_counter() - began)

    Trainer(epochs, gradient_clip_val=1).fit(model, data)
    return times


if __name__ == "__main__":
    name, path, epochs = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    raw = path.read_text(encoding="utf-8")
    contenders = {
        "elman-numpy": elman_numpy,
        "elman-torch": elman_torch,
        "bare-torch": bare_torch,
        "d2l-torch": d2l_torch,
    }
    seconds = contenders[name](raw, epochs)
    print(json.dumps(statistics.median(seconds)))
