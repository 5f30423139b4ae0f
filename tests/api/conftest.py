"""A run that the tests of the functions use, and the options that it was trained with."""

from typing import Any

import pytest

import elman
from elman import Run
from tests.conftest import STORY, Command

OPTIONS: dict[str, Any] = {"epochs": 2, "hidden": 8, "batch_size": 16, "seq_len": 16, "quiet": True}
BOOK: dict[str, Any] = {"recipe": "book", **OPTIONS}


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run with a path."""
    return elman.train(STORY, out=tmp_path_factory.mktemp("runs") / "a", **BOOK)


@pytest.fixture(name="command")
def _command(elman: Command) -> Command:
    """The command line, where `elman` is the package."""
    return elman


def weights(run: Run) -> bytes:
    """The weights of a run."""
    return (run.path / "model.safetensors").read_bytes()
