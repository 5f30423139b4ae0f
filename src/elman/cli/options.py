"""Arguments and options that several commands share, and options made from the settings."""

import inspect
import os
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_origin, get_type_hints

import typer

from elman.cli.help_pages import show_all
from elman.errors import ElmanError, alternatives
from elman.model.optimizers import Optimizer
from elman.model.options import ModelOptions
from elman.runs.settings import (
    CHOSEN,
    LoopSettings,
    PairSettings,
    PlaceSettings,
    Settings,
    SizeSettings,
    TextSettings,
)
from elman.valid_values import FRAMEWORKS

GROUPS = {  # of options in the help
    TextSettings: "Data",
    PairSettings: "Data",
    SizeSettings: "Model",
    ModelOptions: "Model",
    LoopSettings: "Training",
    Optimizer: "Training",
    PlaceSettings: "Machine",
}
GROUP_OF = {field.name: group for kind, group in GROUPS.items() for field in fields(kind)}
GROUP_OF |= {"seed": "Training", "init": "Training", "log": "Output"}

Command = TypeVar("Command", bound=Callable[..., None])


def _path(word: str) -> Path:
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


PATH: dict[str, Any] = {"parser": _path, "metavar": "PATH"}
RUN = PATH | {"metavar": "RUN"}

Run = Annotated[Path, typer.Argument(help="Run directory, made by elman train.", **RUN)]
Framework = Annotated[
    str | None,
    typer.Option(
        help=f"{alternatives(FRAMEWORKS)}. [default: numba, or numpy where needed]",
        show_default=False,
    ),
]
Dynamic = Annotated[
    bool,
    typer.Option(
        "--dynamic",
        help="Adapt the model to the text while it reads (dynamic evaluation).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print a JSON object.")]


HELP_ALL = inspect.Parameter(
    "help_all",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool,
        typer.Option(
            "--help-all",
            is_eager=True,
            expose_value=False,
            callback=show_all,
            help="Show all options and exit.",
        ),
    ],
)


def with_settings(command: Command, kind: type = Settings) -> Command:
    """Make options of a command from the fields of a settings dataclass.

    A parameter that has the name of a field takes the field's place. It becomes the field's option
    with its own default, unless it declares an option. `**name` takes all other fields. The options
    of a training come with --help-all.
    """
    types = get_type_hints(kind)
    inherited = {
        field.name for base in kind.__bases__ if is_dataclass(base) for field in fields(base)
    }
    own_first = sorted(fields(kind), key=lambda field: field.name in inherited)
    declared = inspect.signature(command).parameters.values()
    takes_all = any(own.kind is own.VAR_KEYWORD for own in declared)
    of_training = takes_all and kind is Settings
    options = {field.name: _option(field, types[field.name], of_training) for field in own_first}
    parameters: list[inspect.Parameter] = []
    for own in declared:
        if own.kind is own.VAR_KEYWORD:
            parameters = [*options.values(), *parameters]
        else:
            from_field = options.pop(own.name, own).replace(default=own.default)
            has_option = get_origin(own.annotation) is Annotated
            parameters.append(own if has_option else from_field)
    if of_training:
        parameters.append(HELP_ALL)
    parameters.sort(key=lambda each: each.kind)  # keyword-only ones last
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def given_options(context: typer.Context) -> list[str]:
    """The parameters that the command line names."""
    sources = {name: str(context.get_parameter_source(name)) for name in context.params}
    return [name for name, source in sources.items() if "COMMANDLINE" in source]


def check_alone(context: typer.Context, rule: str, *own: str) -> None:
    """Raise an ElmanError for options beside --resume, other than its `own`."""
    if others := [name for name in given_options(context) if name not in own]:
        raise ElmanError(f"{rule}, got {', '.join(others)} with --resume: leave that out")


def settings_given(context: typer.Context, options: dict[str, Any]) -> dict[str, Any]:
    """Settings that the command line names, and those that a run to start from fixes."""
    from elman.experiments.origin import with_origin

    return with_origin({name: options[name] for name in given_options(context) if name in options})


def _option(field: "Field[Any]", kind: Any, of_training: bool) -> inspect.Parameter:
    """A parameter for Typer: the option, or the argument, that gives a field its value.

    Options of a training are in groups. Where they are chosen for a text, the help shows the value
    of the book's recipe.
    """
    shown = {name: field.metadata[name] for name in ("help", "metavar") if name in field.metadata}
    shown["show_default"] = field.default is not None  # else the help has it in words
    if of_training and field.name in CHOSEN:
        if field.default is not None:
            shown["help"] += f" [default: {field.default}]"
        shown |= {"help": shown["help"].replace("[default: ", "[book: "), "show_default": False}
    if isinstance(field.default, tuple):
        return _texts(field, shown)
    if field.metadata.get("argument"):
        shown.setdefault("metavar", field.name.upper())
        option = typer.Argument(**shown)
    else:
        name = "--" + field.name.replace("_", "-")
        group = GROUP_OF[field.name] if of_training else None
        option = typer.Option(name, rich_help_panel=group, **shown)
    several = field.default_factory is not MISSING
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=[] if several else field.default,
        annotation=Annotated[kind | None if field.default is None else kind, option],
    )


def _texts(field: "Field[Any]", shown: dict[str, Any]) -> inspect.Parameter:
    """A parameter for Typer: an option for texts that may be repeated."""
    option = typer.Option("--" + field.name, parser=text, metavar="TEXT", **shown)
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=[],
        annotation=Annotated[list[str], option],
    )
