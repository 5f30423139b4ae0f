"""One contender of a comparison, in a process of its own.

    python benchmarks/contender.py FRAMEWORK CONTENDER WORK [HIDDEN]

CONTENDER is bare, elman or d2l; WORK is epoch (the reference job: 10 updates and 5 validation
batches), update (one of them), write (1,000 characters), or score (a million
characters); HIDDEN is 32 unless given. It says `ready`, and then answers every line on its standard
input with the seconds that the work took, the mean of as many times as fill a turn.
"""

import sys
from importlib import import_module
from typing import Any

import numpy as np
from measuring import Work, answer

from elman.text.time_machine import time_machine

SCORED = 1_000_000


def main() -> None:
    """Prepare, warm up, and work when told to."""
    framework, contender, work, *hidden = sys.argv[1:]
    number = int(hidden[0]) if hidden else 32

    def prepare() -> Work:
        if contender == "bare":
            return bare(framework, work, number)
        return program(framework, contender, work, number)

    answer(prepare, 3 if work != "score" else 1)


def bare(framework: str, work: str, hidden: int) -> Work:
    """The best plain loop in the framework."""
    from elman import numpy as specification

    data = specification.TimeMachine(1024, 32)
    vocab, module = len(data.vocab), import_module(f"bare.{framework}_loop")
    if work == "write":
        return module.writing(vocab, hidden)
    if work == "score":
        return module.scoring(vocab, hidden, long_text(data))
    update, validate = module.training(vocab, hidden)
    if work == "update":
        batch = data.X[:1024].copy(), data.Y[:1024].copy()
        return lambda: update(*batch)
    rng = np.random.default_rng(0)

    def epoch() -> None:
        order = rng.permutation(10_000)
        for start in range(0, 10_000, 1024):
            rows = order[start : start + 1024]
            update(data.X[rows], data.Y[rows])
        for start in range(10_000, 15_000, 1024):
            end = min(start + 1024, 15_000)
            validate(data.X[start:end], data.Y[start:end])

    return epoch


def program(framework: str, contender: str, work: str, hidden: int) -> Work:
    """The book's program with the module `framework` of elman, or of d2l."""
    if framework == "mxnet":  # as the book's code does
        import_module("mxnet").npx.set_np()
    d2l: Any = import_module(f"{contender}.{framework}")
    d2l.TimeMachine._download = lambda self: time_machine()
    data = d2l.TimeMachine(1024, 32)
    vocab = len(data.vocab)
    rnn = d2l.RNN(vocab, hidden) if framework in ("numba", "torch") else d2l.RNN(hidden)
    model = d2l.RNNLM(rnn, vocab, lr=1)
    model.board.display = False
    trainer = d2l.Trainer(max_epochs=1, gradient_clip_val=1)
    trainer.fit(model, data)
    if work == "write":
        params = [trainer.state.params] if framework == "jax" else []
        return lambda: model.predict("it has", 1000, data.vocab, *params)
    if work == "score":
        ids = long_text(data)
        return lambda: sum(losses.sum() for losses in model.score_ids(ids))
    if work == "update":
        batch = trainer.prepare_batch(next(iter(data.train_dataloader())))
        return lambda: trainer.step.update(batch)
    return trainer.fit_epoch


def long_text(data: Any) -> np.ndarray:
    """The ids of a million characters and one: The Time Machine over and over."""
    ids, _ = data.build(time_machine(), data.vocab)
    return np.resize(np.array(ids), SCORED + 1)


if __name__ == "__main__":
    main()
