"""`elman plan`: memory, exchange and speed of a training with workers, before it is started."""

import os
from typing import Annotated, Any

import typer

from elman.cli.options import Json, settings_given, with_settings
from elman.cli.output import print_json


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
    from elman.core.experiments import plan_report, planning

    network = planning.Network(bandwidth, latency)
    given = settings_given(context, options)
    # JAX would take most of a GPU's memory before the processes that measure want it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    made = plan_report.plan(given, workers, per_machine, network, tokens)
    if as_json:
        print_json(made.to_dict())
    else:
        print(made)
