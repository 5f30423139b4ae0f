"""`elman --cells FILE COMMAND`: commands train and open models of custom cells."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from elman.experiments import compare
from elman.model import registry
from elman.model.cell_checks import fingerprint
from elman.model.registry import cell_named
from tests.conftest import QUICK, Command

CELLS = """\
import elman

def half_step(xp, x, r, state):
    return ((state[0] + xp.tanh(x + r)) / 2,)

elman.register(elman.Cell("half", ("h",), half_step))
"""
UNKNOWN = (
    "the cell 'half' is not registered: import the module that registers it, or give "
    "elman --cells FILE.py"
)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that registers the cell half; none is registered yet."""
    monkeypatch.setattr(registry, "_registered", {})
    (tmp_path / "cells.py").write_text(CELLS)
    return tmp_path / "cells.py"


@pytest.fixture
def half(run: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of the cell half, which has the weights of an rnn."""
    registry.register_file(file)
    config = json.loads((run / "config.json").read_text())
    kept = {"cell_fingerprint": fingerprint(cell_named("half"))}
    config["architecture"]["cell"] = config["training"]["settings"]["cell"] = "half"
    config["training"]["settings"]["framework"] = "torch"
    config["training"] |= kept
    (run / "config.json").write_text(json.dumps(config | kept))
    monkeypatch.setattr(registry, "_registered", {})
    return run


def test_a_run_of_a_cell_that_is_not_registered_is_one_short_line_beside_the_other_runs(
    ok: Command, trained: Path, half: Path, tmp_path: Path
) -> None:
    shutil.copytree(half, tmp_path / "runs" / "half")
    shutil.copytree(trained, tmp_path / "runs" / "rnn")
    done = ok("runs")
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["runs/rnn"]
    assert done.stderr == f"elman: runs/half/config.json: {UNKNOWN}; skipping it\n"
    done = ok("--cells", "cells.py", "runs")
    assert done.stderr == ""
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["runs/half", "runs/rnn"]


@pytest.mark.parametrize(
    "words",
    [
        ["generate", "run", "Once", "--tokens", "3"],
        ["compare", "run"],
        ["export", "run", "--to", "torch"],
    ],
    ids=lambda words: words[0],
)
@pytest.mark.usefixtures("half", "story")
def test_a_command_opens_a_run_of_a_custom_cell_with_its_file(
    elman: Command, ok: Command, words: list[str]
) -> None:
    done = elman(*words)
    assert (done.returncode, done.stderr) == (2, f"elman: run/config.json: {UNKNOWN}\n")
    done = ok("--cells", "cells.py", *words)
    assert done.stdout


@pytest.mark.usefixtures("file")
def test_a_comparison_of_frameworks_trains_with_the_same_cells(
    elman: Command, story: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = []

    def run(command: list[str]) -> int:
        commands.append(command)
        return 1

    monkeypatch.setattr(compare, "_run", run)
    words = ["train", story, *QUICK, "--framework", f"torch={sys.executable},jax={sys.executable}"]
    elman("--cells", "cells.py", *words, "--cell", "half")
    assert len(commands) == 2
    for command in commands:
        assert command[2:7] == ["-m", "elman", "--cells", "cells.py", "train"]
        assert command[command.index("--cell") + 1] == "half"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 / 0", "the cells of cells.py do not load: ZeroDivisionError: division by zero"),
        ("exit()", "the cells of cells.py do not load: SystemExit: None"),
        (
            CELLS.replace('"half"', '"gru"'),
            "the name gru is already used by a cell of elman.model.cells: choose another",
        ),
    ],
)
def test_a_file_without_cells_is_refused_in_one_line(
    elman: Command, file: Path, content: str, message: str
) -> None:
    file.write_text(content)
    done = elman("--cells", "cells.py", "runs")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"elman: {message}\n")
