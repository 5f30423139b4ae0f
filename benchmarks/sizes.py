"""Updates of the engine and of PyTorch: cells, batch sizes, models of words, and bfloat16.

    python benchmarks/sizes.py [--rounds N] [--torch INTERPRETER] [TABLE ...]

TABLE is cells, batches, words or bf16; without one, all are printed. An update is the forward and
backward pass with an output layer, clipping of the gradient's norm, and SGD. Models of characters
have one-hot input and 28 symbols; those of words have an embedding, and the sizes of Zaremba et al.
2014 (arXiv:1409.2329), or 65,536 tokens. The contenders take turns, each in a process of its own
that is stopped while another works, 5 turns at most where an update takes seconds.

Times are medians. Where PyTorch has several ways, the fastest is shown: for words the gradient of
the embedding dense or sparse; for bf16 autocast, or weights in bfloat16 beside those in single
precision that the updates are added to. The share of the peak is the engine's, of the machine's
best matrix product in single precision; a cell for which PyTorch has no layer has the engine's
numbers only.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
from measuring import (
    ENVIRONMENT,
    Job,
    Work,
    answer,
    peak,
    print_header,
    print_machine,
    print_row,
    started,
    take_turns,
)

from elman.data.batches import Batch
from elman.model.cells import CELLS
from elman.model.weights import Architecture, initial

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


def engine_update(job: Job, **settings: Any) -> Work:
    """An update of the engine, as its trainer takes it; `settings` are those of its `build`."""
    from elman import numba

    trainer = numba.Trainer(1, gradient_clip_val=1)
    trainer.model = model = built(job.arch, lr=0.1, **settings)
    trainer.optim = model.configure_optimizers()
    model.plot = lambda *values, **options: None
    pair = Batch.of(a_batch(job, numba.TimeMachine.id_type))
    return lambda: trainer.step.update(pair)


def torch_update(job: Job, **settings: Any) -> Work:
    """An update of a plain PyTorch loop; `settings` are those of its `training`."""
    from bare.torch_loop import training

    pair = a_batch(job, np.int64)
    update, _ = training(job.vocab, job.hidden, job.cell, job.layers, job.embedding, **settings)
    return lambda: update(*pair)


CONTENDERS = {
    "engine": engine_update,
    "engine, bf16": partial(engine_update, precision="bf16"),
    "torch": torch_update,
    "torch, sparse gradient": partial(torch_update, sparse=True),
    "torch, autocast": partial(torch_update, precision="autocast"),
    "torch, bf16 weights": partial(torch_update, precision="bf16"),
}


def measured(job: Job, names: Iterable[str], rounds: int, python: str) -> dict[str, float]:
    """Median seconds of an update for each contender that takes part.

    - `python`: interpreter of the environment with PyTorch.
    """
    commands = {
        name: [
            python if "torch" in name else sys.executable,
            __file__,
            "--update",
            name,
            *job.words,
        ]
        for name in names
    }
    if job.operations > LONG:
        rounds = min(rounds, ROUNDS_OF_LONG)
    seconds = take_turns(started(commands, ENVIRONMENT), rounds)
    return {name: statistics.median(values) for name, values in seconds.items()}


SIZES = [
    Job("rnn", 32, 1024, 32),
    Job("lstm", 32, 1024, 32),
    *(Job(cell, hidden, 64, 64) for cell in CELLS for hidden in (128, 256)),
]
BATCHES = [  # the first of each line is what the others are compared with
    [Job("lstm", 256, batch, 64) for batch in (64, 32, 16, 8, 1)],
    [Job("gru", 256, batch, 64) for batch in (64, 32, 16, 8, 1)],
    [Job("rnn", 32, batch, 32) for batch in (64, 1)],
]
WORDS = [
    *(
        Job("lstm", units, batch, steps, layers=2, embedding=units, vocab=10_000)
        for units, batch, steps in ((200, 20, 20), (200, 20, 35), (650, 20, 20), (650, 20, 35))
    ),
    Job("lstm", 1500, 20, 35, layers=2, embedding=1500, vocab=10_000),
    Job("lstm", 200, 64, 35, layers=2, embedding=200, vocab=10_000),
    Job("lstm", 512, 64, 35, layers=2, embedding=512, vocab=65_536),
]
BF16 = [Job(cell, hidden, 64, 64) for cell in ("lstm", "gru") for hidden in (128, 256, 512)]
MODEL = ("cell", "hidden", "batch", "steps")


def shown(value: float, form: str) -> str:
    """A number in a cell, or - for one that is not known."""
    return "-" if math.isnan(value) else form.format(value)


def fastest(seconds: Mapping[str, float], *names: str) -> float:
    """Seconds of the fastest of these contenders; NaN if none has taken part."""
    return min((seconds[name] for name in names if name in seconds), default=math.nan)


def milliseconds(seconds: float) -> str:
    """Seconds as a cell in milliseconds."""
    return shown(1e3 * seconds, "{:.1f} ms")


def sizes_of(job: Job) -> list[object]:
    """A job's cells in the columns MODEL."""
    return [job.cell, job.hidden, job.batch, job.steps]


def cells(rounds: int, python: str) -> None:
    """Cells and their sizes."""
    print_header([*MODEL, "engine", "PyTorch", "times", "share of the peak"])
    for job in SIZES:
        names = ["engine"] if CELLS[job.cell].layer == "Recurrent" else ["engine", "torch"]
        seconds = measured(job, names, rounds, python)
        mine, theirs = (fastest(seconds, name) for name in ("engine", "torch"))
        times, share = theirs / mine, job.operations / mine / peak()
        numbers = shown(times, "{:.1f}"), shown(share, "{:.2f}")
        print_row([*sizes_of(job), milliseconds(mine), milliseconds(theirs), *numbers])


def batches(rounds: int, python: str) -> None:
    """Batch sizes: tokens a second, and their share of those of the largest batch."""
    rates = [f"{name}{column}" for name in ("engine", "PyTorch") for column in (", tokens/s", "")]
    rates[1::2] = ["of the largest batch's"] * 2
    print_header([*MODEL, *rates, "times", "share of the peak"])
    for jobs in BATCHES:
        largest: list[float] = []
        for job in jobs:
            seconds = measured(job, ("engine", "torch"), rounds, python)
            found = [job.tokens / fastest(seconds, name) for name in ("engine", "torch")]
            largest = largest or found
            numbers = []
            for rate, most in zip(found, largest, strict=True):
                numbers += [shown(rate, "{:,.0f}"), shown(rate / most, "{:.2f}")]
            mine, theirs = found
            share = job.operations / job.tokens * mine / peak()
            ratios = shown(mine / theirs, "{:.1f}"), shown(share, "{:.2f}")
            print_row([*sizes_of(job), *numbers, *ratios])


def words(rounds: int, python: str) -> None:
    """Models of words: an embedding, two layers, and a large output layer."""
    print_header(["words", *MODEL, "engine", "PyTorch", "times", "share of the peak"])
    for job in WORDS:
        names = ("engine", "torch", "torch, sparse gradient")
        seconds = measured(job, names, rounds, python)
        mine, theirs = fastest(seconds, "engine"), fastest(seconds, *names[1:])
        times, share = theirs / mine, job.operations / mine / peak()
        numbers = shown(times, "{:.2f}"), shown(share, "{:.2f}")
        start = f"{job.vocab:,}", *sizes_of(job)
        print_row([*start, milliseconds(mine), milliseconds(theirs), *numbers])


def bf16(rounds: int, python: str) -> None:
    """Single precision and bfloat16."""
    titles = ("engine", "engine, bf16", "PyTorch", "PyTorch, bf16")
    ratios = ("engine's bf16 times faster", "times PyTorch", "times PyTorch, both bf16")
    print_header([*MODEL, *titles, *ratios, "share of the peak", "with bf16"])
    theirs_bf16 = ("torch, autocast", "torch, bf16 weights")
    names = ("engine", "engine, bf16", "torch", *theirs_bf16)
    for job in BF16:
        seconds = measured(job, names, rounds, python)
        single, half, torch = (fastest(seconds, name) for name in names[:3])
        torch_half, best = fastest(seconds, *theirs_bf16), peak()
        times = (single, half, torch, torch_half)
        found = single / half, torch / single, torch_half / half
        shares = (job.operations / mine / best for mine in (single, half))
        print_row(
            [
                *sizes_of(job),
                *map(milliseconds, times),
                *(shown(value, "{:.2f}") for value in (*found, *shares)),
            ]
        )


TABLES = {"cells": cells, "batches": batches, "words": words, "bf16": bf16}


def main() -> None:
    """Measure and print, or be a contender: update when told to."""
    if sys.argv[1:2] == ["--update"]:
        name, *words = sys.argv[2:]
        job = Job.of(words)
        answer(lambda: CONTENDERS[name](job), 5 if job.operations < LONG else 2)
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--torch", default=sys.executable)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(TABLES)}")
    asked = parser.parse_args()
    if unknown := [name for name in asked.tables if name not in TABLES]:
        parser.error(f"a table is one of {', '.join(TABLES)}, got {', '.join(unknown)}")
    print_machine({"numba": sys.executable, "torch": asked.torch})
    for name in asked.tables or TABLES:
        TABLES[name](asked.rounds, asked.torch)
        print()


if __name__ == "__main__":
    main()
