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
    workers: Annotated[
        int, typer.Option(rich_help_panel="Plan", help="Workers of the largest plan.")
    ] = 8,
    per_machine: Annotated[
        int | None,
        typer.Option(
            rich_help_panel="Plan",
            help="Workers on each machine. [default: the cores of this machine]",
            show_default=False,
        ),
    ] = None,
    bandwidth: Annotated[
        float,
        typer.Option(
            rich_help_panel="Plan",
            help="Gigabits per second to and from each worker.",
        ),
    ] = 10.0,
    latency: Annotated[
        float,
        typer.Option(rich_help_panel="Plan", help="Microseconds of a message between machines."),
    ] = 50.0,
    tokens: Annotated[
        int | None,
        typer.Option(
            rich_help_panel="Plan",
            help="Plan for this number of training tokens without a text; needs --vocab-size.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Predict memory and speed of a training with many workers.

    A worker is a process. The workers of a machine share its cores, unless each has a GPU. The
    machines are assumed to be like this one. Efficiency compares them with one process on all cores
    of a machine. The options describe a training of `elman train`. It is not started.
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
