"""`elman plan`: memory and speed of a training with workers, before it is started."""

from typing import Annotated, Any

import typer

from elman.cli.options import Json, settings_given, with_settings
from elman.cli.output import print_json
from elman.terms import in_shell


@with_settings
def plan(
    context: typer.Context,
    *,
    workers: Annotated[
        int, typer.Option(rich_help_panel="Plan", help="Workers of the largest plan.")
    ] = 8,
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
    """Predict memory and speed of a training with workers, without starting it.

    A worker is a process with a machine like this one, or a GPU. The options describe a training of
    `elman train`. The speed is measured here; the time of an exchange between workers is left out.
    """
    from elman.experiments import planning

    given = settings_given(context, options)
    made = planning.plan(given, workers, tokens)
    if as_json:
        print_json(made.to_dict())
    else:
        print(made.table(in_shell))
