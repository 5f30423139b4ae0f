"""The command line. A module for each command parses, calls and prints.

Heavy modules are imported by the command that needs them, so that `--help` is quick.
"""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from elman.cli import failures, help_pages, signals
from elman.cli.commands import (
    compare,
    evaluate,
    export,
    generate,
    info,
    plan,
    prepare,
    runs,
    score,
    serve,
    sweep,
    train,
    translate,
)
from elman.cli.options import PATH
from elman.errors import ElmanError
from elman.files.system import open_standard_streams
from elman.model.registry import register_file
from elman.valid_values import VERSION

ALONE = "prepare", "sweep", "plan"  # commands that workers do not share

app = typer.Typer(
    cls=help_pages.Pages,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS: dict[str, Callable[..., None]] = {
    "train": train.train,
    "prepare": prepare.prepare,
    "generate": generate.generate,
    "next": generate.next_tokens,
    "translate": translate.translate,
    "evaluate": evaluate.evaluate,
    "score": score.score,
    "export": export.export,
    "serve": serve.serve,
    "sweep": sweep.sweep,
    "plan": plan.plan,
    "compare": compare.compare,
    "runs": runs.runs,
    "info": info.info,
}
for name, command in COMMANDS.items():
    app.command(name, cls=help_pages.Page)(command)


def _show_version(requested: bool) -> None:
    if requested:
        print(f"elman {VERSION}")
        raise typer.Exit


@app.callback()
def _elman(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    cells: Annotated[
        Path | None,
        typer.Option(help="Python file that registers custom cells.", **PATH),
    ] = None,
) -> None:
    """Train, evaluate, export and serve small recurrent language models."""
    if context.invoked_subcommand in ALONE and "RANK" in os.environ:
        _check_alone(context.invoked_subcommand)
    if cells is not None:
        register_file(cells)


def _check_alone(command: str) -> None:
    """Raise an ElmanError if this is one of several workers: all would do the same."""
    from elman.experiments import launch

    if (number := launch.number_of_workers("numba")) > 1:
        raise ElmanError(
            f"elman {command} is a single process, got {number} workers: start it without torchrun"
        )


def main() -> None:
    """Run the command line; a failure is one line on standard error and an exit code."""
    open_standard_streams()
    signals.install_handlers()
    os.environ["MPLBACKEND"] = "agg"  # curves go into files, whatever a notebook has set
    # Settings of the user or of the current folder change nothing that is drawn or computed.
    os.environ["MATPLOTLIBRC"] = os.environ["KERAS_HOME"] = os.devnull
    logging.getLogger("matplotlib").setLevel(logging.CRITICAL)  # such as about its cache
    log = logging.getLogger("elman")
    log.setLevel(logging.INFO)
    log.addHandler(failures.Notices())
    code = failures.exit_code(app, sys.argv[1:] or ["--help"])
    signals.remove_handlers()
    launch = sys.modules.get("elman.experiments.launch")
    if launch is not None and launch.number_of_workers() > 1:
        # Threads of the collectives may outlive the interpreter, and abort the process then.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
