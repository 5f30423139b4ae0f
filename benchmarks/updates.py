"""One contender of a comparison of updates, in a process of its own.

    python benchmarks/updates.py CONTENDER CELL HIDDEN BATCH STEPS LAYERS EMBEDDING VOCAB

An update is the forward and backward pass with an output layer, clipping of the gradient's norm,
and SGD. It says `ready`, and then answers as turns.py describes.
"""

import statistics
import sys
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
from limits import Job
from turns import Work, answer, started, take_turns

from elman.data.batches import Batch
from elman.model.weights import Architecture, initial
from frameworks import ENVIRONMENT

LONG = 10**11  # operations of an update that takes a second or so
ROUNDS_OF_LONG = 5


def a_batch(job: Job, id_type: Any) -> tuple[np.ndarray, np.ndarray]:
    """Ids and targets, as a module's data gives them.

    Symbols are drawn evenly. Words are drawn as Zipf's law has them: the n-th with a probability in
    proportion to 1 / n.
    """
    weights = 1 / np.arange(1.0, job.vocab + 1) if job.embedding else np.ones(job.vocab)
    shape = job.batch, job.steps + 1
    drawn = np.random.default_rng(0).choice(job.vocab, shape, p=weights / weights.sum())
    ids = drawn.astype(id_type)
    return ids[:, :-1].copy(), ids[:, 1:].copy()


def built(arch: Architecture, **settings: Any) -> Any:
    """A model of the engine; a RuntimeError if it is to have a precision that changes nothing."""
    from elman import numba

    model = numba.build(arch, initial(arch), **settings)
    if "precision" in settings:
        ids = a_batch(Job(arch.cell, arch.hidden, 4, 8, vocab=arch.vocab), np.int32)
        results = []
        for chosen in ({}, settings):
            other = numba.build(arch, initial(arch), **chosen)
            other.plot = lambda *values, **options: None
            results.append((other.training_step(ids), other.step(ids[0])[0].tobytes()))
        if any(single == chosen for single, chosen in zip(*results, strict=True)):
            raise RuntimeError(f"the engine ignores the precision {settings['precision']}")
    return model


def engine(job: Job, **settings: Any) -> Work:
    """An update of the engine, as its trainer takes it; `settings` are those of its `build`."""
    from elman import numba

    trainer = numba.Trainer(1, gradient_clip_val=1)
    trainer.model = model = built(job.arch, lr=0.1, **settings)
    trainer.optim = model.configure_optimizers()
    model.plot = lambda *values, **options: None
    pair = Batch.of(a_batch(job, numba.TimeMachine.id_type))
    return lambda: trainer.step.update(pair)


def torch(job: Job, **settings: Any) -> Work:
    """An update of a plain PyTorch loop; `settings` are those of its `training`."""
    from bare.torch_loop import training

    pair = a_batch(job, np.int64)
    update, _ = training(job.vocab, job.hidden, job.cell, job.layers, job.embedding, **settings)
    return lambda: update(*pair)


CONTENDERS = {
    "engine": engine,
    "engine, bf16": partial(engine, precision="bf16"),
    "torch": torch,
    "torch, sparse gradient": partial(torch, sparse=True),
    "torch, autocast": partial(torch, precision="autocast"),
    "torch, bf16 weights": partial(torch, precision="bf16"),
}


def measured(job: Job, names: Iterable[str], rounds: int, python: str) -> dict[str, float]:
    """Median seconds of an update for each contender that takes part.

    - `python`: interpreter of the environment with PyTorch.
    """
    commands = {
        name: [python if "torch" in name else sys.executable, __file__, name, *job.words]
        for name in names
    }
    if job.operations > LONG:
        rounds = min(rounds, ROUNDS_OF_LONG)
    seconds = take_turns(started(commands, ENVIRONMENT), rounds)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Prepare, warm up, and work when told to."""
    name, *words = sys.argv[1:]
    job = Job.of(words)
    answer(lambda: CONTENDERS[name](job), 5 if job.operations < LONG else 2)


if __name__ == "__main__":
    main()
