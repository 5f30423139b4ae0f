"""Settings are one list, from which options, help, checks and files follow."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from elman.cli import app
from elman.cli.options import shell_command
from elman.errors import ElmanError
from elman.model.weights import Architecture
from elman.runs import records, run
from elman.runs.settings import Settings
from elman.setting_fields import choice, whole
from elman.text import tokenizers
from elman.valid_values import BPE, TOKENIZERS


@dataclass(frozen=True)
class MoreSettings(Settings):
    """The settings with two more, declared as those in the list are."""

    accumulate: int = whole(1, "Batches of an update.", at_least=1, at_most=8)
    averaging: str | None = choice(None, "Average: {choices}.", ("ema", "swa"), unset="none")


def command(done: Callable[[dict[str, Any]], None]) -> typer.Typer:
    """A command line with the options of MoreSettings."""

    def learn(**options: Any) -> None:
        done(options)

    app = typer.Typer(rich_markup_mode=None)
    app.command()(shell_command("learn", learn, MoreSettings))
    return app


def test_a_setting_that_is_added_to_the_list_becomes_an_option_with_its_help() -> None:
    given: list[dict[str, Any]] = []
    app = command(given.append)
    shown = " ".join(CliRunner().invoke(app, ["--help"], terminal_width=300).stdout.split())
    assert re.search(r"--accumulate <?int>?.* Batches of an update. \[default: 1\]", shown, re.I)
    assert "Average: ema or swa. [default: none]" in shown
    done = CliRunner().invoke(app, ["--accumulate", "4", "--hidden", "8"])
    assert done.exit_code == 0, done.output
    assert MoreSettings(**given[0]) == MoreSettings(accumulate=4, hidden=8)


def test_the_options_of_train_are_the_settings_and_those_that_change_no_result() -> None:
    train = typer.main.get_command(app).commands["train"]  # type: ignore[attr-defined]
    options = {each.name for each in train.params}
    assert options - {field.name for field in fields(Settings)} == {
        *("out", "checkpoint_every", "sample_every", "resume", "help_all")
    }
    assert {field.name for field in fields(Settings)} <= options


def test_each_setting_has_a_help_text_and_a_default_that_is_valid() -> None:
    for field in fields(Settings):
        assert field.metadata["help"]
    settings = Settings()
    assert (settings.lr, settings.epochs, settings.edition) == (1.0, 100, "gutenberg")
    assert Settings(optimizer="adam").lr == Settings(optimizer="adamw").lr == 0.005
    assert (settings.weight_decay, Settings(optimizer="adamw").weight_decay) == (None, 0.01)
    assert Settings(optimizer="adamw", weight_decay=0.0).weight_decay == 0
    assert Settings(minutes=1.0).epochs is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": 1.5}, "hidden must be a whole number, got 1.5"),
        ({"tied": 1}, "tied must be true or false, got 1"),
        ({"dropout": 1.0}, "dropout must be a finite number at least 0 and below 1, got 1.0"),
        ({"minutes": float("nan")}, "minutes must be a finite number above 0, got nan"),
        ({"clip": float("inf")}, "clip must be a finite number at least 0, got inf"),
        ({"init": ""}, "init must be a path, got ''"),
        ({"embedding": 8, "tied": True}, "tied weights require an embedding as large as"),
        ({"momentum": 0.5, "optimizer": "adam"}, "momentum requires sgd, got 0.5 with adam"),
        ({"weight_decay": 0.5}, "weight decay requires adamw, got 0.5 with sgd: leave it out"),
        ({"recurrent_lr": 0.5}, "recurrent lr requires adamw, got 0.5 with sgd: leave it out"),
        ({"recurrent_lr": 0, "optimizer": "adamw"}, "recurrent lr must be a finite number above 0"),
        ({"recipe": "auto"}, "The Time Machine is trained as in the book, got recipe auto"),
        ({"batching": "contiguous"}, "The Time Machine is read in random windows"),
    ],
)
def test_settings_that_are_not_valid_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ElmanError, match=f"^{re.escape(message)}"):
        Settings(**changes)


def test_the_tokenizers_that_can_be_chosen_are_those_that_there_are() -> None:
    assert {*TOKENIZERS} == {*tokenizers.TOKENIZERS, BPE}


def test_a_run_of_an_earlier_version_is_refused_with_the_cure(tmp_path: Path) -> None:
    earlier = asdict(records.Config(Architecture("rnn", 28, 6), "char", True))
    (tmp_path / "config.json").write_text(json.dumps(earlier | {"training": {"steps": 32}}))
    with pytest.raises(ElmanError) as refused:
        run.read_config(tmp_path)
    assert str(refused.value).endswith(
        "if another version of elman made this run, train it again, or set "
        '"training": null to keep only the model'
    )
    (tmp_path / "config.json").write_text(json.dumps(earlier))
    assert run.read_config(tmp_path).training is None
