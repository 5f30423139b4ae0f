"""`elman generate`: text that follows prefixes."""

from functools import partial
from typing import Annotated, Any

import typer

from elman.cli.options import Framework, Run, text, with_settings
from elman.cli.output import show, show_as_written
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
    from elman.experiments.new_lines import LineOptions, write_wanted_lines
    from elman.inference.writing import starts, write
    from elman.runs.loading import load_language_model

    asked = Writing(**options | {"stop": tuple(options["stop"])})  # checked before a run is read
    wanted = LineOptions(lines, unique, new, tuple(known or ()))
    model = load_language_model(run, framework)
    begun = starts(prefixes or (), model.codec.lines or wanted.any)
    if not wanted.any:
        show_as_written(write(model, begun, asked))
        return
    for line in write_wanted_lines(model, run, begun, asked, wanted):
        show(line)
