"""Arguments and options that several commands share, and options made from the settings."""

import inspect
import os
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_origin, get_type_hints

import typer

from elman.core.errors import ElmanError, alternatives
from elman.core.experiments.frameworks import FRAMEWORKS
from elman.core.experiments.settings import Settings

Command = TypeVar("Command", bound=Callable[..., None])


def _path(word: str) -> Path:
    """A path on the command line; an empty word would stand for the current folder."""
    if not word:
        raise typer.BadParameter("it is empty: give a path")
    return Path(word)


def text(word: str) -> str:
    """A text on the command line: UTF-8, if it is, even where the locale has no such characters."""
    try:
        return os.fsencode(word).decode()
    except UnicodeError:
        return word


PATH: dict[str, Any] = {"parser": _path, "metavar": "PATH"}
RUN = PATH | {"metavar": "RUN"}

Run = Annotated[Path, typer.Argument(help="A run directory, made by elman train.", **RUN)]
Framework = Annotated[
    str | None,
    typer.Option(
        help=f"Framework: {alternatives(FRAMEWORKS)}. [default: numba; numpy for a model that it "
        "cannot compute as saved]",
        show_default=False,
    ),
]
Dynamic = Annotated[
    bool,
    typer.Option(
        "--dynamic",
        help="Dynamic evaluation: the model adapts to what it has read, as fast as is best on the "
        "validation part of its training.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def with_settings(command: Command, kind: type = Settings) -> Command:
    """Make options of a command from the fields of a settings dataclass.

    A parameter that has the name of a field takes the field's place. It becomes the field's option
    with its own default, unless it has an option of its own. `**name` takes all other fields.
    """
    types = get_type_hints(kind)
    inherited = {
        field.name for base in kind.__bases__ if is_dataclass(base) for field in fields(base)
    }
    own_first = sorted(fields(kind), key=lambda field: field.name in inherited)
    options = {field.name: _option(field, types[field.name]) for field in own_first}
    parameters: list[inspect.Parameter] = []
    for own in inspect.signature(command).parameters.values():
        if own.kind is own.VAR_KEYWORD:
            parameters = [*options.values(), *parameters]
        else:
            from_field = options.pop(own.name, own).replace(default=own.default)
            has_option = get_origin(own.annotation) is Annotated
            parameters.append(own if has_option else from_field)
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
    from elman.core.experiments.origin import with_origin

    return with_origin({name: options[name] for name in given_options(context) if name in options})


def _option(field: "Field[Any]", kind: Any) -> inspect.Parameter:
    """A parameter for Typer: the option, or the argument, that gives a field its value."""
    shown = {name: field.metadata[name] for name in ("help", "metavar") if name in field.metadata}
    shown["show_default"] = field.default is not None  # else the help has it in words
    if isinstance(field.default, tuple):
        return _texts(field, shown)
    if field.metadata.get("argument"):
        option = typer.Argument(**shown)
    else:
        option = typer.Option("--" + field.name.replace("_", "-"), **shown)
    several = field.default_factory is not MISSING
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=[] if several else field.default,
        annotation=Annotated[kind | None if field.default is None else kind, option],
    )


def _texts(field: "Field[Any]", shown: dict[str, Any]) -> inspect.Parameter:
    """A parameter for Typer: an option for texts, which may be repeated."""
    option = typer.Option("--" + field.name, parser=text, metavar="TEXT", **shown)
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=[],
        annotation=Annotated[list[str], option],
    )
