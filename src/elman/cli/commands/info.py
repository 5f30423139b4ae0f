"""`elman info`: a run, or the frameworks with their versions and devices."""

import textwrap
from pathlib import Path
from typing import Annotated

import typer

from elman.cli.options import RUN, Json
from elman.cli.output import print_json, show
from elman.errors import printable

TITLE_WIDTH, WIDTH = 16, 100  # characters of the first column, and of a line


def info(
    run: Annotated[
        Path | None, typer.Argument(help="Run directory, made by elman train.", **RUN)
    ] = None,
    speed: Annotated[
        bool, typer.Option("--speed", help="Measure the engine on this machine, in two seconds.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Describe a run, or the installed frameworks.

    Without a run it lists the frameworks that can be used, their versions and devices.
    """
    from elman.api import commands

    if run is not None and not speed:
        _describe_run(run, as_json)
        return
    facts = commands.info(run, speed)
    if as_json:
        print_json(facts)
    else:
        print(facts)


def _describe_run(run: Path, as_json: bool) -> None:
    from elman.runs.describe import describe, in_lines

    facts = describe(run)
    if as_json:
        print_json(facts)
        return
    for title, text in in_lines(facts):
        indent = " " * TITLE_WIDTH
        lines = textwrap.wrap(
            printable(text),
            WIDTH,
            initial_indent=title.ljust(TITLE_WIDTH),
            subsequent_indent=indent,
        )
        show("\n".join(lines))
