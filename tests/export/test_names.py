"""A path whose name is not UTF-8 works in every command, or is refused in a line."""

import os
from pathlib import Path

import pytest

from elman.formats import html
from tests.conftest import QUICK, STORY, Command
from tests.export.models import model_of, saved

STRANGE = os.fsdecode(b"strange-\xff")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with such a name, beside a text with such a name."""
    try:
        (tmp_path / f"{STRANGE}.txt").write_text(STORY)
    except OSError:
        pytest.skip("the file system has names in UTF-8 only")
    return saved(tmp_path, model_of("gru")).rename(tmp_path / STRANGE)


@pytest.mark.parametrize(
    "words",
    [
        ("export", STRANGE, "--to", "html"),
        ("export", STRANGE, "--to", "torch"),
        ("export", STRANGE, "--to", "onnx", "--out", "plain"),
        ("evaluate", STRANGE, f"{STRANGE}.txt"),
        ("score", STRANGE, f"{STRANGE}.txt", "--top", "1"),
        ("generate", STRANGE, "Once", "--tokens", "5"),
        ("next", STRANGE, "Once"),
        ("compare", STRANGE, STRANGE, "--plot", f"{STRANGE}.svg"),
        ("prepare", f"{STRANGE}.txt", "--out", f"{STRANGE}-store"),
        ("train", f"{STRANGE}.txt", "--out", f"{STRANGE}-2", *QUICK, "--log", "tensorboard"),
        ("train", f"{STRANGE}.txt", "--init", STRANGE, "--out", f"{STRANGE}-2", "--epochs", "1"),
        ("sweep", f"{STRANGE}.txt", "--space", "hidden=4..8", "--trials", "1", "--epochs", "1",
         "--out", f"{STRANGE}-2"),
    ],
    ids=lambda words: " ".join(words[:4]).encode(errors="replace").decode(),
)  # fmt: skip
def test_commands_read_and_write_it(
    elman_process: Command, run: Path, words: tuple[str, ...]
) -> None:
    done = elman_process(*words)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_an_onnx_folder_needs_another_name(elman_process: Command, run: Path) -> None:
    done = elman_process("export", run, "--to", "onnx")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "elman: onnx requires UTF-8 paths, got 'strange-\\udcff-onnx': choose another --out\n"
    )


def test_the_page_shows_what_can_be_shown_of_it(run: Path) -> None:
    assert "<title>strange-\ufffd</title>" in html.page(run)
