"""`elman next`: the likeliest tokens after a prefix."""

from math import exp
from typing import Annotated

import typer

from elman.cli.options import Framework, Run, text
from elman.cli.output import Table


def next_tokens(
    run: Run,
    prefix: Annotated[str, typer.Argument(parser=text, metavar="PREFIX", help="Text to continue.")],
    top: Annotated[int, typer.Option(help="Number of tokens.")] = 10,
    framework: Framework = None,
) -> None:
    """List the likeliest next tokens.

    A row contains the token, its probability in percent and its log-probability in nats. Control
    characters are escaped. A terminal shows a table, a pipe receives values separated by tabs.
    """
    from elman.errors import require_at_least
    from elman.runs.loading import load_language_model

    require_at_least(1, top=top)
    model = load_language_model(run, framework)
    found = model.next(prefix, top)
    tokens = [model.codec.spelling(each.id) for each in found]
    width = max(len("token"), *map(len, tokens))
    table = Table({"token": f"<{width}", "probability": ">11", "nats": ">9"})
    table.show(
        (token, f"{exp(each.log_probability):.2%}", f"{each.log_probability:.4f}")
        for token, each in zip(tokens, found, strict=True)
    )
