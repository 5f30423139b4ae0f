"""The program of an export writes elman's text, and imports no elman."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elman
from elman.formats import torch as export
from elman.model.cells import CELLS, FRAMEWORK_LAYERS
from tests.conftest import Done
from tests.export.custom_cells import CUSTOM
from tests.export.models import ARCHITECTURES, model_of, saved

# Asks a program of each line for logits and a text; prints them, and modules that it imported.
ASK = """\
import json, sys, traceback
import torch

def answer(folder, ids, prefix, options):
    sys.path.insert(0, folder)
    try:
        import model
        made = model.load()
        logits, _ = made(torch.tensor(ids))
        text = model.generate(made, prefix, **options)
        modules = [name for name in sys.modules if name.split(".")[0] == "elman"]
        return [logits.tolist(), text, modules]
    except Exception:
        return traceback.format_exc()
    finally:
        sys.path.remove(folder)
        sys.modules.pop("model", None)

for line in sys.stdin:
    print(json.dumps(answer(*json.loads(line))), flush=True)
"""
ALONE = (sys.executable, "-I")  # Python without the user's paths, as on a machine of a stranger
Stranger = subprocess.Popen[str]


@pytest.fixture(scope="module")
def stranger() -> Iterator[Stranger]:
    """A process that has PyTorch, and is asked for the answers of one program after the other."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
    with subprocess.Popen([*ALONE, "-c", ASK], **pipes) as process:  # type: ignore[call-overload]
        yield process


def ask(stranger: Stranger, model: Any, folder: Path, prefix: str, **options: Any) -> str:
    """A text of the exported program of a model, which has the model's logits."""
    assert stranger.stdin is not None
    assert stranger.stdout is not None
    row = model.codec.prefix_ids("Once upon")
    ids = np.array([row, row[::-1]])
    asked = [str(exported(folder, model)), ids.tolist(), prefix, options]
    stranger.stdin.write(json.dumps(asked) + "\n")
    stranger.stdin.flush()
    answer = json.loads(stranger.stdout.readline())
    assert isinstance(answer, list), answer  # or else what the program raised
    logits, text, modules = answer
    assert modules == []
    np.testing.assert_allclose(logits, model.step(ids)[0], atol=1e-4)
    return str(text)


def exported(folder: Path, model: Any) -> Path:
    export.write(saved(folder, model), folder / "out")
    return folder / "out"


TOKENIZED = [
    pytest.param(("gru",), {"tokenizer": name, "lines": lines}, id=f"{name}-{lines}")
    for name in ("byte", "word", "bpe")
    for lines in (False, True)
]
SIZES = [*ARCHITECTURES, *((cell, layers) for cell in CUSTOM for layers in (1, 2))]


@pytest.mark.parametrize(
    ("sizes", "options"),
    [*(pytest.param(each, {}, id="-".join(map(str, each))) for each in SIZES), *TOKENIZED],
)
def test_logits_and_a_greedy_text_are_elmans(
    stranger: Stranger, sizes: Any, options: dict[str, Any], tmp_path: Path
) -> None:
    model = model_of(*sizes, **options)
    assert ask(stranger, model, tmp_path, "Once", tokens=100) == model.predict("Once", 100)


def test_the_program_writes_text_on_the_command_line(tmp_path: Path) -> None:
    model = model_of("lstm")
    program = str(exported(tmp_path, model) / "model.py")

    def python(*words: str) -> Done:
        command = [*ALONE, program, *words]
        return subprocess.run(command, capture_output=True, encoding="utf-8")

    done = python("Once", "--tokens", "40", "--temperature", "0")
    assert done.stdout == model.predict("Once", 40) + "\n"
    done = python("#")
    assert (done.returncode, done.stdout) == (2, "")
    assert "the model does not know '#'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_unknown_symbol_is_never_written(
    stranger: Stranger, temperature: float, tmp_path: Path
) -> None:
    model = model_of("rnn")
    model.parameters["linear.bias"][model.codec.vocab.unk] = 50
    text = ask(stranger, model, tmp_path, "Once", tokens=20, temperature=temperature)
    assert len(text) == 4 + 20
    assert "<unk>" not in text


def test_a_model_of_lines_writes_a_line_without_a_prefix_up_to_its_end(
    stranger: Stranger, tmp_path: Path
) -> None:
    model = model_of("mingru", lines=True)
    wanted = model.generate("", tokens=40, temperature=0)[0]
    assert ask(stranger, model, tmp_path / "long", "", tokens=40) == wanted
    model.parameters["linear.bias"][model.codec.line_end] = 50
    assert ask(stranger, model, tmp_path / "short", "Once", tokens=40) == "Once"


@pytest.mark.parametrize("cell", CELLS)
def test_the_program_has_only_what_its_model_needs(cell: str, tmp_path: Path) -> None:
    source = (exported(tmp_path, model_of(cell)) / "model.py").read_text()
    assert ("class Layers" in source) == (cell not in FRAMEWORK_LAYERS)
    assert ("nonlinearity" in source) == cell.startswith("rnn")
    assert "Embedding" not in source
    assert "tokenizer.json" not in source
    assert max(map(len, source.splitlines())) <= 100
    assert elman.load(tmp_path / "run").architecture().cell == cell
