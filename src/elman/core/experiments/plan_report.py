"""A plan of a training in words and as JSON."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from elman.core.errors import require_at_least, require_at_most
from elman.core.experiments import planning
from elman.core.experiments.planning import (
    WELL_USED,
    Network,
    Prediction,
    Task,
    last_that_pays,
    on_gpus,
)
from elman.core.experiments.recipe import counted
from elman.core.files import memory
from elman.core.valid_values import MAX_SHARDS

WORKERS_OF_A_CORE = 8  # maximum; all workers on a machine measure concurrently
COLUMNS = ("workers", "tokens/s", "efficiency", "epoch", "compute", "exchange", "moved", "memory")


@dataclass(frozen=True, repr=False)
class Plan:
    """Predictions of a training for several numbers of workers; as a string, a table of them.

    `workers` is the largest requested number; `per_machine` is how many share a machine.
    """

    task: Task
    predictions: list[Prediction]
    workers: int
    per_machine: int

    def to_dict(self) -> dict[str, Any]:
        """Number of weights of the model, and each prediction."""
        predictions = [asdict(one) | {"peak": one.peak} for one in self.predictions]
        return {"weights": self.task.weights, "predictions": predictions}

    def __repr__(self) -> str:
        return "\n".join(lines(self.task, self.predictions, self.workers, self.per_machine))


def plan(
    given: Mapping[str, Any],
    workers: int,
    per_machine: int | None,
    network: Network,
    tokens: int | None,
) -> Plan:
    """Predict a training with these settings. `per_machine` defaults to the number of cores."""
    cores = os.cpu_count() or 1
    per_machine = cores if per_machine is None else per_machine
    require_at_least(1, workers=workers, per_machine=per_machine)
    require_at_most(WORKERS_OF_A_CORE * cores, per_machine=per_machine)
    task = planning.task(given, workers, tokens)
    found = planning.predictions(task, workers, network, per_machine)
    return Plan(task, found, workers, per_machine)


def lines(task: Task, found: list[Prediction], workers: int, per_machine: int) -> Iterator[str]:
    """Yield the lines of a plan for this many workers, up to `per_machine` on a machine."""
    largest = found[-1]
    has_gpu = on_gpus(task)
    together = 1 if has_gpu else min(largest.workers, per_machine)
    yield from _task(task)
    yield _worker(has_gpu, together)
    yield ""
    yield from _table(found)
    yield ""
    yield from _memory(largest, together)
    if len(found) > 1:
        yield from ("", _end(found))
    if largest.workers < workers:
        yield from ("", _limit(task, largest.workers))


def _task(task: Task) -> Iterator[str]:
    arch = task.arch
    layers = counted(arch.layers, "layer")
    yield f"model    {arch.cell}, {layers} of {arch.hidden} units: {task.weights:,} weights"
    yield f"update   {task.update_tokens:,} tokens, {_scaled(task.operations)} operations"
    yield f"epoch    {task.tokens:,} tokens"


def _worker(has_gpu: bool, together: int) -> str:
    cores = counted(os.cpu_count() or 1, "core")
    shared = f"up to {together} on a machine" if together > 1 else "one on a machine"
    return (
        f"worker   a process; {'a GPU each' if has_gpu else f'{shared} of {cores}, like this one'}"
    )


def _table(found: list[Prediction]) -> Iterator[str]:
    rows = [COLUMNS, *map(_cells, found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))


def _cells(one: Prediction) -> tuple[str, ...]:
    return (
        str(one.workers),
        f"{one.tokens_per_second:,.0f}",
        f"{one.efficiency:.0%}",
        _time(one.epoch),
        _time(one.compute),
        _time(one.exchange),
        _scaled(one.exchanged) + "B",
        _scaled(one.peak) + "B",
    )


def _memory(one: Prediction, together: int) -> Iterator[str]:
    yield "memory of the first worker" if one.workers > 1 else "memory"
    for name, size in one.memory.items():
        yield f"  {name:<12} {_scaled(size) + 'B':>8}"
    here = memory.limit()
    needed = together * one.peak
    if here is not None and needed > here:
        yield ""
        yield f"a machine needs {_scaled(needed)}B for this, but has {_scaled(here)}B"


def _end(found: list[Prediction]) -> str:
    last = last_that_pays(found)
    if last is found[-1]:
        compared = "compared with one process on all cores of a machine"
        return f"efficiency of {last.workers} workers: {last.efficiency:.0%}, {compared}"
    return f"efficiency is below {WELL_USED:.0%} beyond {counted(last.workers, 'worker')}"


def _limit(task: Task, most: int) -> str:
    if most == MAX_SHARDS:
        return f"a training has at most {MAX_SHARDS} workers"
    cure = "a larger --batch-size"
    if shards := task.settings.shards:
        cure = "more --shards" if shards < task.settings.batch_size else f"more --shards and {cure}"
    return f"more than {most} workers require {cure}"


def _scaled(number: float) -> str:
    """A number with an SI prefix."""
    for prefix in ("", "k", "M", "G"):
        if number < 999.5:
            return f"{number:.3g} {prefix}"
        number /= 1000
    return f"{number:,.3g} T"


def _time(seconds: float) -> str:
    """A duration in the largest unit that it contains."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{1e6 * seconds:.3g} us"
