"""Milliseconds an epoch of the seed's job on PyTorch: elman, a bare loop, and d2l 1.0.3.

    python benchmarks/seed_job.py [EPOCHS]

The contenders take turns, epoch by epoch, in one process and on the same text, so that a change in
the machine's speed meets all of them; a ratio is the median over the epochs of each epoch's ratio.
An epoch is 10 updates at batch 1024 and 32 steps, and 5 validation batches; the first two are not
counted. d2l takes part where it is installed (it needs scipy and pandas too); its plotting is off.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from elman import torch as elman
from elman.core.corpus import time_machine
from elman.core.text import Vocab, clean

STEPS, BATCH, HIDDEN, TRAIN, VAL = 32, 1024, 32, 10_000, 5_000
WARM_UP = 2


def bare_loop() -> Iterator[None]:
    """The same updates and validation, and nothing else; yields after every epoch."""
    tokens = list(clean(time_machine()))
    vocab = Vocab(tokens)
    views = torch.tensor(vocab[tokens]).unfold(0, STEPS + 1, 1)
    train, val = views[:TRAIN], views[TRAIN : TRAIN + VAL]
    rnn, linear = nn.RNN(len(vocab), HIDDEN), nn.Linear(HIDDEN, len(vocab))
    parameters = [*rnn.parameters(), *linear.parameters()]
    optim = torch.optim.SGD(parameters, lr=1)

    def loss_of(rows: torch.Tensor) -> torch.Tensor:
        X, Y = rows[:, :-1].T, rows[:, 1:].T  # (steps, batch)
        one_hot = torch.zeros(*X.shape, len(vocab)).scatter_(2, X.unsqueeze(2), 1.0)
        hidden, _ = rnn(one_hot)
        return F.cross_entropy(linear(hidden).reshape(-1, len(vocab)), Y.reshape(-1))

    while True:
        for rows in train[torch.randperm(TRAIN)].split(BATCH):
            loss = loss_of(rows)
            optim.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1)
            optim.step()
        with torch.no_grad():
            for rows in val.split(BATCH):
                loss_of(rows)
        yield


def trainer_of(d2l: Any) -> Any:
    """A trainer that has begun the book's printed program with `d2l`, or what goes by that name."""

    class RNN(d2l.Module):
        def __init__(self, num_inputs: int, num_hiddens: int) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.rnn = nn.RNN(num_inputs, num_hiddens)

        def forward(self, inputs: torch.Tensor, H: Any = None) -> Any:
            return self.rnn(inputs, H)

    d2l.TimeMachine._download = lambda self: time_machine()
    data = d2l.TimeMachine(BATCH, STEPS, TRAIN, VAL)
    model = d2l.RNNLM(RNN(len(data.vocab), HIDDEN), vocab_size=len(data.vocab), lr=1)
    model.board.display = False
    trainer = d2l.Trainer(max_epochs=1, gradient_clip_val=1)
    trainer.fit(model, data)
    return trainer


def contenders() -> dict[str, Callable[[], Any]]:
    """What takes one epoch, by name."""
    bare = bare_loop()
    found = {"bare loop": lambda: next(bare), "elman": trainer_of(elman).fit_epoch}
    try:
        from d2l import torch as d2l
    except ImportError as error:
        print(f"without d2l: {error}")
    else:
        found["d2l 1.0.3"] = trainer_of(d2l).fit_epoch
    return found


def main() -> None:
    """Measure in turns and print a table."""
    epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    take = contenders()
    seconds: dict[str, list[float]] = {name: [] for name in take}
    for _ in range(WARM_UP + epochs):
        for name, epoch in take.items():
            began = time.perf_counter()
            epoch()
            seconds[name].append(time.perf_counter() - began)
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {epochs} epochs each")
    print("contender    median   lowest   times the bare loop   times elman")
    for name, values in seconds.items():
        values = values[WARM_UP:]
        to_bare, to_elman = (
            statistics.median(a / b for a, b in zip(values, seconds[peer][WARM_UP:], strict=True))
            for peer in ("bare loop", "elman")
        )
        middle, low = 1e3 * statistics.median(values), 1e3 * min(values)
        print(f"{name:10} {middle:6.0f} ms {low:6.0f} ms {to_bare:21.2f} {to_elman:13.2f}")


if __name__ == "__main__":
    main()
