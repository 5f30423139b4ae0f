"""A run that the tests of the commands use."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import QUICK, STORY, command_line


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of thirty epochs of `story`, trained once for all tests."""
    folder = tmp_path_factory.mktemp("trained")
    story = folder / "story.txt"
    story.write_text(STORY, encoding="utf-8")
    done = command_line(folder)("train", story, *QUICK, "--epochs", "30", "--out", "run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    return Path(shutil.copytree(trained, tmp_path / "run"))
