"""The command line. A function for each command calls and prints.

Heavy modules are imported by the command that needs them, so that `--help` is quick.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from elman import signals
from elman.cli import failures, help_pages, models, trainings
from elman.cli.options import path, shell_command
from elman.errors import ElmanError
from elman.files.system import open_standard_streams
from elman.inference.writing_options import Translating, Writing
from elman.model.registry import register_file
from elman.server.access import ServerOptions
from elman.valid_values import VERSION

ALONE = "prepare", "sweep", "plan"  # commands that workers do not share

app = typer.Typer(
    cls=help_pages.Pages,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS: dict[str, tuple[Any, ...]] = {  # a function, and the class of what else it takes
    "train": (trainings.train,),
    "prepare": (trainings.prepare,),
    "generate": (models.generate, Writing),
    "next": (models.next_tokens,),
    "translate": (models.translate, Translating),
    "evaluate": (models.evaluate,),
    "score": (models.score,),
    "export": (models.export,),
    "serve": (models.serve, ServerOptions),
    "sweep": (trainings.sweep,),
    "plan": (trainings.plan,),
    "compare": (trainings.compare,),
    "runs": (trainings.runs,),
    "info": (trainings.info,),
}
for name, command in COMMANDS.items():
    app.command(name, cls=help_pages.Page)(shell_command(name, *command))


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
        typer.Option(help="Python file that registers custom cells.", parser=path, metavar="PATH"),
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
