"""`elman next`: the likeliest tokens after a prefix."""

from typing import Annotated

import typer

import elman
from elman.cli.generate import text
from elman.cli.options import Framework, Run
from elman.cli.output import show


def next_tokens(
    run: Run,
    prefix: Annotated[str, typer.Argument(parser=text, metavar="PREFIX", help="A text.")],
    top: Annotated[int, typer.Option(help="Number of tokens.")] = 10,
    framework: Framework = "numba",
) -> None:
    """List the likeliest next tokens, with their log-probabilities in nats.

    A row has the token, with control characters escaped, and its log-probability.
    """
    from elman.core.errors import require_at_least

    require_at_least(1, top=top)
    model = elman.load(run, framework)
    found = model.next(prefix, top)
    show(
        "\n".join(f"{model.codec.spelling(each.id)}\t{each.log_probability:.4f}" for each in found)
    )
