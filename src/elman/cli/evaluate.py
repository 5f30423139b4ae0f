"""`elman evaluate`: loss, perplexity and bits of a model on a text."""

from typing import TYPE_CHECKING, Annotated

import typer

import elman
from elman.cli.options import Framework, Json, Run, with_settings
from elman.cli.output import print_json
from elman.core.experiments.settings import check_text

if TYPE_CHECKING:
    from elman.core.model.metrics import Evaluation


@with_settings
def evaluate(
    run: Run,
    text: Annotated[
        str,
        typer.Argument(
            help="time-machine, the path of a UTF-8 text file, a store, or - for standard input."
        ),
    ],
    edition: str | None = None,
    framework: Framework = None,
    as_json: Json = False,
) -> None:
    """Measure a model on a text: loss, perplexity, bits per character and per byte."""
    from elman.core.data import splits
    from elman.core.model.evaluation import evaluate_on

    check_text(text, edition)
    result = evaluate_on(elman.load(run, framework), text, edition)
    splits.warn_of_unknown({"text": (result.unknown, result.tokens)})
    if as_json:
        print_json(result.fields())
        return
    print(f"loss                {result.loss:.4f} nats per token")
    print(f"perplexity          {result.perplexity:.3f}")
    print(f"bits per character  {result.bits_per_character:.4f}")
    print(f"bits per byte       {result.bits_per_byte:.4f}")
    print(f"tokens              {result.tokens}")
    print(f"unknown tokens      {_unknown(result)}")


def _unknown(result: "Evaluation") -> str:
    """Number of unknown tokens, and what their spelling takes."""
    from elman.core.model.metrics import bits_per

    if not result.unknown:
        return "0"
    bits = bits_per(result.spelling, result.characters)
    share = f"{result.unknown_share:.2%}"
    return f"{result.unknown}  ({share}; spelling them takes {bits:.4f} of the bits per character)"
