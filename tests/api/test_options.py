"""The options of the commands are keywords of the functions, with the same defaults."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import typer

import elman
from elman.api import options
from elman.cli import app
from elman.runs.settings import CHOSEN
from tests.api.typed_options import source

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
# What has no sense in Python: printing, and what a function or an argument of another name does.
ONLY_COMMAND = {
    "train": {"resume", "help_all"},  # elman.resume
    "evaluate": {"as_json"},
    "score": {"by", "top", "file"},  # of the printed table; file is `text`
    "compare": {"as_json", "everything", "plot"},  # to_json(), to_dict() and plot()
    "sweep": {"help_all"},
    "plan": {"as_json", "help_all"},
    "prepare": {"texts"},  # `text`, `more_texts`
    "info": {"as_json"},
}
ONLY_PYTHON = {
    "train": {"callbacks", "on_epoch", "quiet"},
    "prepare": {"text", "more_texts", "quiet"},
}
FUNCTIONS = [
    *("train", "evaluate", "score", "compare", "sweep"),
    *("plan", "prepare", "export", "serve", "info"),
]


def keywords(name: str) -> dict[str, inspect.Parameter]:
    """Parameters of a function by name."""
    return dict(inspect.signature(getattr(elman, name)).parameters)


def command_options(name: str) -> dict[str, Any]:
    """Options and arguments of a command by name."""
    return {each.name: each for each in COMMANDS[name].params}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_takes_the_options_of_its_command(name: str) -> None:
    own, known = set(keywords(name)), set(command_options(name))
    assert known - own == ONLY_COMMAND.get(name, set())
    assert own - known == ONLY_PYTHON.get(name, set())


@pytest.mark.parametrize("name", ["train", "sweep", "plan"])
def test_help_describes_each_option_and_says_what_is_chosen(name: str) -> None:
    lines = " ".join(getattr(elman, name).__doc__.split()).split("- `")
    described = dict(line.split("`", 1) for line in lines[1:])
    assert options.TrainOptions.__annotations__.keys() <= described.keys()
    for option in CHOSEN:
        default = command_options(name)[option].default  # of the book's recipe
        ending = "" if default is None else f"{default!r}]"  # else it is in words
        assert f"chosen for the text; the book's is {ending}" in described[option]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_option_has_the_default_of_its_command(name: str) -> None:
    shared = set(keywords(name)) & set(command_options(name))
    if name == "score":
        shared.remove("text")  # a flag of the printed table, and here what is scored
    for option in shared - {"runs", "out"}:  # a run without a path is temporary in Python
        default, wanted = keywords(name)[option].default, command_options(name)[option].default
        if option in CHOSEN and name in ("train", "sweep", "plan"):  # of the book's recipe
            assert default is None
        elif default is inspect.Parameter.empty:
            assert command_options(name)[option].required or option in ("to", "more_texts")
        else:
            assert (default or None) == (wanted or None), option


def test_the_types_that_editors_read_are_those_of_the_settings() -> None:
    assert Path(options.__file__).read_text() == source()


def test_an_editor_is_offered_the_names_of_the_package_and_no_imports() -> None:
    offered = {name for name in dir(elman) if not name.startswith("__")}
    assert {"open", "train", "torch"} <= offered
    assert not {"Any", "Sequence", "TYPE_CHECKING"} & offered
    assert {*elman.__all__} <= {*dir(elman)}
    assert all(getattr(elman, name) is not None for name in elman.__all__)
