"""The shell's side of a command: arguments and options from a function's signature.

A command is a function. Its arguments are those of the shell, its keywords the options, and
`**name` stands for the fields of a settings dataclass. The functions receive what the command line
names: their own defaults apply to the rest, and the help shows them.
"""

import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from elman.cli.help_pages import show_all
from elman.cli.words import HELP, METAVARS, NAMES, TEXTS
from elman.errors import ElmanError
from elman.runs.settings import CHOSEN, Settings
from elman.setting_fields import ordered

GROUP_OF = {  # settings of a class: their group in the help
    "TextSettings": "Data",
    "PairSettings": "Data",
    "SizeSettings": "Model",
    "ModelOptions": "Model",
    "LoopSettings": "Training",
    "Optimizer": "Training",
    "PlaceSettings": "Machine",
}
GROUPS = {
    field.name: GROUP_OF[kind.__name__] for kind in Settings.__bases__ for field in fields(kind)
}
GROUPS |= dict.fromkeys(("seed", "init", "train resume"), "Training")
GROUPS |= dict.fromkeys(
    ("log", "train out", "train checkpoint_every", "train sample_every"), "Output"
)
GROUPS |= {f"sweep {name}": "Sweep" for name in ("space", "trials", "storage", "out", "resume")}
GROUPS |= {f"plan {name}": "Plan" for name in ("workers", "tokens")}
RESUMED = {"train": "a training resumes", "sweep": "a sweep goes on"}
BESIDE_RESUME = "resume", "checkpoint_every", "sample_every"


HELP_ALL = typer.Option(
    "--help-all",
    is_eager=True,
    expose_value=False,
    callback=show_all,
    help="Show all options and exit.",
)


def shell_command(
    name: str, function: Callable[..., None], kind: type = Settings
) -> Callable[..., None]:
    """A command for Typer; `kind` is the dataclass of the fields that `**options` stand for.

    A parameter that has the name of a field has its help, too. The options of a training are in
    groups, and --help-all shows all of them.
    """

    def command(context: typer.Context, **options: Any) -> None:
        sources = {each: str(context.get_parameter_source(each)) for each in options}
        given = {each: options[each] for each in options if "COMMANDLINE" in sources[each]}
        others = [each for each in given if each not in BESIDE_RESUME]
        if "resume" in given and others:
            raise ElmanError(
                f"{RESUMED[name]} with the settings it began with, got {', '.join(others)} with "
                "--resume: leave that out"
            )
        function(context, **given) if name == "train" else function(**given)

    command.__doc__ = function.__doc__
    context, _ = inspect.signature(command).parameters.values()
    parameters = [context, *_parameters(name, function, kind)]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def _parameters(
    command: str, function: Callable[..., None], kind: type
) -> Iterator[inspect.Parameter]:
    """The parameters of a command for Typer: those of the fields, then its own."""
    declared = dict(inspect.signature(function).parameters)
    declared.pop("context", None)
    takes_all = declared.pop("options", None) is not None
    of_training = takes_all and kind is Settings
    types = get_type_hints(kind) | get_type_hints(function)
    known = {field.name: field for field in ordered(kind)}
    names = [each for each in known if takes_all and each not in declared]
    for name in [*names, *declared]:
        own = declared.get(name)
        shown: dict[str, Any] = {
            "help": HELP.get(f"{command} {name}", HELP.get(name) if own else None)
        }
        if name in known and shown["help"] is None:
            shown = _words(known[name], of_training)
        default = known[name].default if own is None else own.default
        several = default in (MISSING, ())
        annotation = (
            list[str] if several else types[name] | None if default is None else types[name]
        )
        place = f"{command} {name}"
        if place in TEXTS:
            shown["parser"] = text
        if "Path" in str(annotation):
            shown |= {"parser": path, "metavar": "PATH"}
        if metavar := METAVARS.get(place, METAVARS.get(name)):
            shown["metavar"] = metavar
        if "argument" in known[name].metadata if own is None else own.kind is not own.KEYWORD_ONLY:
            option = typer.Argument(**{"metavar": name.upper()} | shown)
        else:
            group = GROUPS.get(place, GROUPS.get(name)) if of_training else None
            word = NAMES.get(name, name.replace("_", "-"))
            option = typer.Option(f"--{word}", rich_help_panel=group, **shown)
        yield _parameter(name, [] if several else default, annotation, option)
    if of_training:
        yield _parameter("help_all", False, bool, HELP_ALL)


def _parameter(name: str, default: Any, kind: Any, option: Any) -> inspect.Parameter:
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=default, annotation=Annotated[kind, option])


def _words(field: "Field[Any]", of_training: bool) -> dict[str, Any]:
    """Help of a field, the name of its value, and whether the default is to be added.

    Where the value is chosen for a text, the help shows the one of the book's recipe.
    """
    shown = {name: field.metadata[name] for name in ("help", "metavar") if name in field.metadata}
    shown["show_default"] = field.default is not None  # else the help has it in words
    if of_training and field.name in CHOSEN:
        if field.default is not None:
            shown["help"] += f" [default: {field.default}]"
        shown |= {"help": shown["help"].replace("[default: ", "[book: "), "show_default": False}
    return shown


def path(word: str) -> Path:
    """A path on the command line; an empty word would stand for the current folder."""
    if not word:
        raise typer.BadParameter("it is empty: give a path")
    return Path(word)


def text(word: str) -> str:
    """A text on the command line: UTF-8, if it is, even where the locale lacks its characters."""
    try:
        return os.fsencode(word).decode()
    except UnicodeDecodeError as error:
        if not any("\udc80" <= character <= "\udcff" for character in word):
            return word  # in the encoding of the locale, which has a character for each byte
        raise typer.BadParameter(
            f"it must be UTF-8, got the byte 0x{error.object[error.start]:02x}: convert it"
        ) from error
