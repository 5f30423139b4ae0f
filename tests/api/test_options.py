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
FUNCTIONS = (
    "train",
    "evaluate",
    "score",
    "compare",
    "sweep",
    "plan",
    "prepare",
    "export",
    "serve",
    "info",
)


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


def assert_described(function: str, option: str, default: Any) -> None:
    """Assert that help() says that an option is chosen, and what the book's recipe has."""
    lines = " ".join(getattr(elman, function).__doc__.split()).split("- `")
    (line,) = (each for each in lines if each.startswith(f"{option}`"))
    of_book = "chosen for the text; the book's is "
    assert of_book in line
    if default is not None:  # else it is in words
        assert f"{of_book}{default!r}]" in line


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_option_has_the_default_of_its_command(name: str) -> None:
    shared = set(keywords(name)) & set(command_options(name))
    if name == "score":
        shared.remove("text")  # a flag of the printed table, and here what is scored
    for option in shared - {"runs", "out"}:  # a run without a path is temporary in Python
        default, wanted = keywords(name)[option].default, command_options(name)[option].default
        if option in CHOSEN and name in ("train", "sweep", "plan"):  # of the book's recipe
            assert default is None
            assert_described(name, option, wanted)
        elif default is inspect.Parameter.empty:
            assert command_options(name)[option].required or option in ("to", "more_texts")
        else:
            assert (default or None) == (wanted or None), option


def test_the_types_that_editors_read_are_those_of_the_settings() -> None:
    assert Path(options.__file__).read_text() == source()


def test_help_describes_each_option() -> None:
    for name in ("train", "sweep", "plan"):
        text = getattr(elman, name).__doc__
        for option in options.TrainOptions.__annotations__:
            assert f"- `{option}`: " in text


def test_all_names_are_there() -> None:
    for name in elman.__all__:
        assert getattr(elman, name) is not None
        assert name in dir(elman)
