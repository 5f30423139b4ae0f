"""`elman evaluate`: loss, perplexity and bits of a model on a text."""

from pathlib import Path
from typing import Annotated, Any

import typer

from elman.cli.options import Dynamic, Framework, Json, Run, with_settings
from elman.cli.output import print_json
from elman.runs.settings import check_text


@with_settings
def evaluate(
    run: Run,
    text: Annotated[
        str,
        typer.Argument(
            metavar="TEXT",
            help="UTF-8 text file, a store, - for standard input, time-machine, or a file of "
            "pairs.",
        ),
    ],
    edition: str | None = None,
    framework: Framework = None,
    dynamic: Dynamic = False,
    as_json: Json = False,
) -> None:
    """Measure a model on a text or on pairs.

    Prints loss, perplexity, bits per character and bits per byte. Of a model of pairs it prints
    loss, exact matches, error rates and BLEU.
    """
    from elman.runs.loading import evaluate_pairs, is_of_pairs

    check_text(text, edition)
    result: Any
    if is_of_pairs(run):
        result = evaluate_pairs(run, text, framework, dynamic)
    else:
        result = _of_text(run, text, edition, framework, dynamic)
    if as_json:
        print_json(result.fields())
        return
    for name, value in result.in_lines().items():
        print(f"{name:<20}{value}")


def _of_text(
    run: Path, text: str, edition: str | None, framework: str | None, dynamic: bool
) -> Any:
    from elman.inference.evaluation import evaluate_on
    from elman.runs import adapting, loading

    model = loading.load_language_model(run, framework)
    if dynamic:
        return adapting.evaluate(run, model, text, edition)
    return evaluate_on(model, text, edition)
