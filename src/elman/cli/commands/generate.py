"""`elman generate`: texts that follow prefixes; `elman next`: the tokens that may follow one."""

from functools import partial
from math import exp
from typing import Annotated, Any

import typer

from elman.cli.options import Framework, Run, text, with_settings
from elman.cli.output import Table, show, show_as_written
from elman.inference.writing_options import Writing


@partial(with_settings, kind=Writing)
def generate(
    run: Run,
    prefixes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PREFIX",
            parser=text,
            help="Texts to continue. A model of lines needs none.",
        ),
    ] = None,
    *,
    lines: Annotated[
        int | None,
        typer.Option(help="Write N lines for each prefix."),
    ] = None,
    unique: Annotated[
        bool, typer.Option("--unique", help="Leave out lines written before.")
    ] = False,
    new: Annotated[
        bool, typer.Option("--new", help="Leave out lines of the training text.")
    ] = False,
    known: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="With --new, the text of known lines; may be repeated.",
        ),
    ] = None,
    framework: Framework = None,
    **options: Any,
) -> None:
    """Continue texts, or write lines.

    Only the texts go to standard output. A terminal shows them as they are written.
    """
    from elman.inference.writing import starts, write
    from elman.runs.loading import load_language_model
    from elman.runs.new_lines import LineOptions, write_wanted_lines

    asked = Writing(**options | {"stop": tuple(options["stop"])})  # checked before a run is read
    wanted = LineOptions(lines, unique, new, tuple(known or ()))
    model = load_language_model(run, framework)
    begun = starts(prefixes or (), model.codec.lines or wanted.any)
    if not wanted.any:
        show_as_written(write(model, begun, asked))
        return
    for line in write_wanted_lines(model, run, begun, asked, wanted):
        show(line)


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
