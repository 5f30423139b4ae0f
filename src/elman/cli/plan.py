"""`elman plan`: memory, exchange and speed of a training with workers, before it is started."""

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elman.cli.options import Json, settings_given, with_settings
from elman.cli.output import print_json
from elman.core.errors import require_at_least, require_at_most
from elman.core.valid_values import MAX_SHARDS

if TYPE_CHECKING:
    from elman.core.experiments.planning import Prediction, Task

WORKERS_OF_A_CORE = 8  # at most; all that share a machine measure at the same time
COLUMNS = ("workers", "tokens/s", "efficiency", "epoch", "compute", "exchange", "moved", "memory")


@with_settings
def plan(
    context: typer.Context,
    *,
    workers: Annotated[int, typer.Option(help="Workers of the largest plan.")] = 8,
    per_machine: Annotated[
        int | None,
        typer.Option(
            help="Workers that share a machine, and are measured together; 1 plans a machine for "
            "each. [default: as many as this machine has cores]",
            show_default=False,
        ),
    ] = None,
    bandwidth: Annotated[
        float,
        typer.Option(
            help="Gigabits a second between machines, to and from each worker at the same time."
        ),
    ] = 10.0,
    latency: Annotated[
        float, typer.Option(help="Microseconds that a message between machines takes.")
    ] = 50.0,
    tokens: Annotated[
        int | None,
        typer.Option(
            help="Tokens of a training part that is not there, whose vocabulary has --vocab-size.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Predict memory, exchange and speed of `elman train` with workers on machines like this one.

    A worker is a process. Those of a machine share its cores, unless each has a GPU. Efficiency
    compares a machine with one process that has all its cores.

    Options of `elman train` are those of the training, which is not started.
    """
    from elman.core.experiments import planning

    cores = os.cpu_count() or 1
    per_machine = cores if per_machine is None else per_machine
    require_at_least(1, workers=workers, per_machine=per_machine)
    require_at_most(WORKERS_OF_A_CORE * cores, per_machine=per_machine)
    network = planning.Network(bandwidth, latency)
    given = settings_given(context, options)
    # JAX would take most of a GPU's memory before the processes that measure want it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    task = planning.task(given, workers, tokens)
    found = planning.predictions(task, workers, network, per_machine)
    if as_json:
        print_json({"weights": task.weights, "predictions": [_as_json(one) for one in found]})
        return
    together = 1 if planning.on_gpus(task) else min(found[-1].workers, per_machine)
    _print_task(task)
    _print_worker(planning.on_gpus(task), together, cores)
    _print_table(found)
    _print_memory(found[-1], together)
    _print_end(found)
    if found[-1].workers < workers:
        _print_limit(task, found[-1].workers)


def _as_json(one: "Prediction") -> dict[str, Any]:
    return asdict(one) | {"peak": one.peak}


def _print_task(task: "Task") -> None:
    from elman.core.experiments.recipe import counted

    arch, layers = task.arch, counted(task.arch.layers, "layer")
    print(f"model    {arch.cell}, {layers} of {arch.hidden} units: {task.weights:,} weights")
    print(f"update   {task.update_tokens:,} tokens, {_scaled(task.operations)} operations")
    print(f"epoch    {task.tokens:,} tokens")


def _print_worker(has_gpu: bool, together: int, cores: int) -> None:
    from elman.core.experiments.recipe import counted

    shared = f"up to {together} on a machine" if together > 1 else "one on a machine"
    machine = "a GPU each" if has_gpu else f"{shared} of {counted(cores, 'core')}, like this one"
    print(f"worker   a process; {machine}")


def _print_table(found: "list[Prediction]") -> None:
    rows = [COLUMNS, *map(_cells, found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def _cells(one: "Prediction") -> tuple[str, ...]:
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


def _print_memory(one: "Prediction", together: int) -> None:
    from elman.core.files import memory

    print("\nmemory of the first worker" if one.workers > 1 else "\nmemory")
    for name, size in one.memory.items():
        print(f"  {name:<12} {_scaled(size) + 'B':>8}")
    here, size = memory.limit(), together * one.peak
    if here is not None and size > here:
        print(f"\na machine needs {_scaled(size)}B for that, and this one has {_scaled(here)}B")


def _print_end(found: "list[Prediction]") -> None:
    from elman.core.experiments.planning import WELL_USED, last_that_pays
    from elman.core.experiments.recipe import counted

    last = last_that_pays(found)
    if len(found) == 1:
        return
    if last is found[-1]:
        compared = "compared with one process that has all of a machine"
        print(f"\n{last.workers} workers have an efficiency of {last.efficiency:.0%}, {compared}")
    else:
        print(f"\nbeyond {counted(last.workers, 'worker')} the efficiency is below {WELL_USED:.0%}")


def _print_limit(task: "Task", most: int) -> None:
    if most == MAX_SHARDS:
        print(f"\na training has at most {MAX_SHARDS} workers")
        return
    cure = "a larger --batch-size"
    if shards := task.settings.shards:
        cure = "more --shards" if shards < task.settings.batch_size else f"more --shards and {cure}"
    print(f"\nworkers beyond {most} need {cure}")


def _scaled(number: float) -> str:
    """A number with a prefix of the SI."""
    for prefix in ("", "k", "M", "G"):
        if number < 999.5:
            return f"{number:.3g} {prefix}"
        number /= 1000
    return f"{number:,.3g} T"


def _time(seconds: float) -> str:
    """A duration in the largest unit that it has one of."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{1e6 * seconds:.3g} us"
