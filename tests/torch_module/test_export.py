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

def answer(folder, ids, prefix, tokens):
    sys.path.insert(0, folder)
    try:
        import model
        made = model.load()
        logits, _ = made(torch.tensor(ids))
        text = model.generate(made, prefix, tokens=tokens)
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


def python(*words: str) -> Done:
    return subprocess.run([*ALONE, *words], capture_output=True, encoding="utf-8")


def ask(stranger: Stranger, folder: Path, ids: Any, prefix: str, tokens: int) -> tuple[Any, str]:
    """Logits of ids, and a greedy text, of the program in a folder."""
    assert stranger.stdin is not None
    assert stranger.stdout is not None
    stranger.stdin.write(json.dumps([str(folder), ids.tolist(), prefix, tokens]) + "\n")
    stranger.stdin.flush()
    answer = json.loads(stranger.stdout.readline())
    assert isinstance(answer, list), answer  # or else what the program raised
    logits, text, modules = answer
    assert modules == []
    return np.array(logits), text


def exported(folder: Path, model: Any) -> Path:
    export.write(saved(folder, model), folder / "out")
    return folder / "out"


@pytest.mark.parametrize("sizes", ARCHITECTURES, ids=lambda sizes: "-".join(map(str, sizes)))
def test_logits_and_a_greedy_text_are_elmans(
    stranger: Stranger, sizes: Any, tmp_path: Path
) -> None:
    model = model_of(*sizes)
    ids = np.array([model.codec.prefix_ids(text) for text in ("Once upon", "said he.\n")])
    logits, text = ask(stranger, exported(tmp_path, model), ids, "Once", 200)
    np.testing.assert_allclose(logits, model.step(ids)[0], atol=1e-4)
    assert text == model.predict("Once", 200)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", CUSTOM)
def test_a_cell_of_the_users_own_becomes_a_program_too(
    stranger: Stranger, cell: str, layers: int, tmp_path: Path
) -> None:
    model = model_of(cell, layers)
    ids = np.array([model.codec.prefix_ids("Once upon")])
    logits, text = ask(stranger, exported(tmp_path, model), ids, "Once", 40)
    np.testing.assert_allclose(logits, model.step(ids)[0], atol=1e-4)
    assert text == model.predict("Once", 40)


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("tokenizer", ["byte", "word", "bpe"])
def test_every_tokenizer_writes_elmans_text(
    stranger: Stranger, tokenizer: str, lines: bool, tmp_path: Path
) -> None:
    model = model_of("gru", tokenizer=tokenizer, lines=lines)
    ids = np.array([model.codec.prefix_ids("Once")])
    _, text = ask(stranger, exported(tmp_path, model), ids, "Once", 60)
    assert text == model.predict("Once", 60)


def test_the_program_writes_text_on_the_command_line(tmp_path: Path) -> None:
    model = model_of("lstm")
    program = str(exported(tmp_path, model) / "model.py")
    done = python(program, "Once", "--tokens", "40", "--temperature", "0")
    assert done.stdout == model.predict("Once", 40) + "\n"
    drawn = python(program, "Once", "--tokens", "40", "--temperature", "2").stdout
    assert drawn.startswith("Once")
    assert len(drawn) == 4 + 40 + 1
    for prefix, told in (("#", "the model does not know '#'"), ("", "the prefix is empty")):
        done = python(program, prefix)
        assert (done.returncode, done.stdout) == (2, "")
        assert told in done.stderr.splitlines()[-1]


def test_the_unknown_symbol_is_never_written(tmp_path: Path) -> None:
    model = model_of("rnn")
    model.parameters["linear.bias"][model.codec.vocab.unk] = 50
    program = str(exported(tmp_path, model) / "model.py")
    for temperature in ("0", "1"):
        done = python(program, "Once", "--tokens", "20", "--temperature", temperature)
        assert len(done.stdout) == 4 + 20 + 1
        assert "<unk>" not in done.stdout


def test_a_model_of_lines_writes_a_line_without_a_prefix_up_to_its_end(tmp_path: Path) -> None:
    model = model_of("mingru", lines=True)
    words = ("--tokens", "40", "--temperature", "0")
    done = python(str(exported(tmp_path / "long", model) / "model.py"), *words)
    assert done.stdout == model.generate("", tokens=40, temperature=0)[0] + "\n"
    model.parameters["linear.bias"][model.codec.line_end] = 50
    done = python(str(exported(tmp_path / "short", model) / "model.py"), "Once", *words)
    assert done.stdout == "Once\n"


@pytest.mark.parametrize("cell", CELLS)
def test_the_program_has_only_what_its_model_needs(cell: str, tmp_path: Path) -> None:
    source = (exported(tmp_path, model_of(cell)) / "model.py").read_text()
    assert ("class Layers" in source) == (cell not in FRAMEWORK_LAYERS)
    assert ("nonlinearity" in source) == cell.startswith("rnn")
    assert "Embedding" not in source
    assert "tokenizer.json" not in source
    assert max(map(len, source.splitlines())) <= 100
    assert elman.load(tmp_path / "run").architecture().cell == cell
