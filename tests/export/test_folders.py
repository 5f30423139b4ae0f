"""`elman export` to a folder: what it prints, and what it refuses in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from elman.errors import ElmanError
from elman.formats import export
from tests.conftest import Command
from tests.docs import ROOT, blocks
from tests.export.models import model_of, saved

FOLDERS = {
    "onnx": {"step.onnx", "no-state.onnx", "with-state.onnx", "tokens.txt", "vocab.json"},
    "torch": {"model.py", "model.safetensors", "vocab.json"},
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return saved(tmp_path, model_of("gru", embedding=4))


@pytest.mark.parametrize("to", FOLDERS)
def test_a_folder_has_the_runs_name_in_the_current_folder(
    to: str, elman: Command, run: Path, tmp_path: Path
) -> None:
    done = elman("export", run, "--to", to)
    assert (done.returncode, done.stdout) == (0, f"run-{to}  0.0 MB\n"), done.stderr
    assert {path.name for path in (tmp_path / f"run-{to}").iterdir()} == FOLDERS[to]


@pytest.mark.parametrize("to", FOLDERS)
def test_single_precision_in_place_of_bfloat16_is_told(
    to: str, elman: Command, tmp_path: Path
) -> None:
    done = elman("export", saved(tmp_path, model_of("rnn", precision="bf16")), "--to", to)
    told = f"elman: {to} uses single precision for a model trained in bf16: numbers differ"
    assert done.stderr.startswith(told)
    assert len(done.stderr.splitlines()) == 1


def test_the_size_is_that_of_all_files(elman: Command, tmp_path: Path) -> None:
    model = model_of("gru", tokenizer="bpe", layers=40)
    done = elman("export", saved(tmp_path, model), "--to", "torch", "--out", "new/out")
    size = sum(path.stat().st_size for path in (tmp_path / "new" / "out").iterdir())
    assert size > 100_000
    assert done.stdout == f"new/out  {size / 1e6:.1f} MB\n"


@pytest.mark.parametrize("to", FOLDERS)
def test_wrong_input_is_one_line_and_leaves_nothing(
    to: str, elman: Command, run: Path, tmp_path: Path
) -> None:
    def told(*words: str | Path) -> str:
        before = sorted(tmp_path.rglob("*"))
        done = elman("export", *words, "--to", to)
        assert (done.returncode, done.stdout) == (2, "")
        assert sorted(tmp_path.rglob("*")) == before
        (line,) = done.stderr.splitlines()
        return line

    assert told("missing") == "elman: missing is not a run directory: it has no config.json"
    (tmp_path / "taken").mkdir()
    exists = "taken exists already: choose another name, or remove it"
    assert told(run, "--out", "taken") == f"elman: {exists}"
    (run / "model.safetensors").write_bytes(b"")
    assert "is not a complete safetensors file" in told(run, "--out", "new/out")


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_a_package_that_is_missing_is_named_with_the_cure(
    name: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [each for each in sys.modules if each.startswith("elman.formats.onnx")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ElmanError, match=f"^{name} is not installed: pip install .*another format"):
        export(run, "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_example_of_the_docs_writes_elmans_text(elman: Command, tmp_path: Path) -> None:
    model = model_of("lstm", layers=2)
    model.parameters["linear.bias"][model.codec.vocab.unk] = -100
    (tmp_path / "runs").mkdir()
    saved(tmp_path, model).rename(tmp_path / "runs" / "time-machine")
    page = ROOT / "docs" / "export.md"
    (commands,) = [block for block in blocks(page, "bash") if "--to onnx" in block]
    done = elman(*commands.splitlines()[-1].removeprefix("elman ").split())
    assert done.returncode == 0, done.stderr
    (example,) = blocks(page, "python")
    found = subprocess.run(
        [sys.executable, "-I", "-c", example], cwd=tmp_path, capture_output=True, text=True
    )
    assert found.stdout == model.predict("it has", 20) + "\n", found.stderr
