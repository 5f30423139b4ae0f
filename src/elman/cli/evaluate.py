"""`elman evaluate`: loss, perplexity and bits of a model on a text."""

from typing import Annotated

import typer

import elman
from elman.cli.options import Dynamic, Framework, Json, Run, with_settings
from elman.cli.output import print_json
from elman.core.experiments.settings import check_text


@with_settings
def evaluate(
    run: Run,
    text: Annotated[
        str,
        typer.Argument(help="UTF-8 text file, a store, - for standard input, or time-machine."),
    ],
    edition: str | None = None,
    framework: Framework = None,
    dynamic: Dynamic = False,
    as_json: Json = False,
) -> None:
    """Measure a model on a text.

    Prints loss, perplexity, bits per character and bits per byte.
    """
    from elman.core.experiments import adapting
    from elman.core.model.evaluation import evaluate_on

    check_text(text, edition)
    model = elman.load(run, framework)
    if dynamic:
        result = adapting.evaluate(run, model, text, edition)
    else:
        result = evaluate_on(model, text, edition)
    if as_json:
        print_json(result.fields())
        return
    for name, value in result.in_lines().items():
        print(f"{name:<20}{value}")
