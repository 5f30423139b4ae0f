"""One contender of the comparison of frameworks, in a process of its own.

    python benchmarks/contender.py FRAMEWORK CONTENDER WORK

CONTENDER is bare, elman or d2l; WORK is epoch (the seed's job: 10 updates and 5 validation batches)
or predict (1,000 characters after "it has"). It says `ready`, and then answers every line on its
standard input with the seconds that the work took.
"""

import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from elman.core.corpus import time_machine

Work = Callable[[], Any]


def main() -> None:
    """Prepare, warm up, and work when told to."""
    framework, contender, work = sys.argv[1:]
    try:
        take = (bare if contender == "bare" else program)(framework, contender)[work]
        for _ in range(3):
            take()
    except Exception as error:
        print(f"{type(error).__name__}: {error}".splitlines()[0])
        sys.exit()
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        take()
        print(time.perf_counter() - began, flush=True)


def bare(framework: str, _: str) -> dict[str, Work]:
    """The best plain loop in the framework."""
    from elman import numpy as specification

    data = specification.TimeMachine(1024, 32)
    module = import_module(f"bare.{framework}_loop")
    return {"epoch": module.epoch(data), "predict": module.predict(data)}


def program(framework: str, contender: str) -> dict[str, Work]:
    """The book's program with the module `framework` of elman, or of d2l."""
    if framework == "mxnet":  # as the book's code does
        import_module("mxnet").npx.set_np()
    d2l: Any = import_module(f"{contender}.{framework}")
    d2l.TimeMachine._download = lambda self: time_machine()
    data = d2l.TimeMachine(1024, 32)
    vocab = len(data.vocab)
    rnn = d2l.RNN(vocab, 32) if framework in ("numba", "torch") else d2l.RNN(32)
    model = d2l.RNNLM(rnn, vocab, lr=1)
    model.board.display = False
    trainer = d2l.Trainer(max_epochs=1, gradient_clip_val=1)
    trainer.fit(model, data)
    params = [trainer.state.params] if framework == "jax" else []
    return {
        "epoch": trainer.fit_epoch,
        "predict": lambda: model.predict("it has", 1000, data.vocab, *params),
    }


if __name__ == "__main__":
    main()
