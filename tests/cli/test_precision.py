"""`--precision`: recorded by a run, and followed by all that reads it."""

import json
from pathlib import Path

import elman as package
from elman.inference import evaluation
from tests.conftest import QUICK, Command

NUMPY = ("--framework", "numpy")


def test_a_run_in_bf16_is_trained_measured_and_continued_in_bf16(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    for precision in ("single", "bf16"):
        options = ("--precision", precision, "--out", precision)
        done = elman("train", story, *QUICK, *NUMPY, *options)
        assert done.returncode == 0, done.stderr
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("single", "bf16")]
    assert models[0] != models[1]
    config = json.loads((tmp_path / "bf16" / "config.json").read_text())
    assert config["precision"] == config["training"]["settings"]["precision"] == "bf16"

    def measured() -> float:
        done = elman("evaluate", "bf16", story, *NUMPY, "--json")
        assert done.returncode == 0, done.stderr
        loss: float = json.loads(done.stdout)["loss"]
        return loss

    def wanted(precision: str) -> float:
        model = package.load(tmp_path / "bf16", "numpy", precision)
        return evaluation.evaluate(model, story.read_text(), model.codec).loss

    assert measured() == wanted("bf16") != wanted("single")
    written = elman("generate", "bf16", "Once", *NUMPY, "--tokens", "50", "--temperature", "0")
    model = package.load(tmp_path / "bf16", "numpy")
    assert written.stdout == model.predict("Once", 50) + "\n"
    rows = elman("compare", "single", "bf16").stdout.splitlines()[-3:]
    assert [row.split()[:2] for row in rows] == [
        *(["run", "precision"], ["single", "single"], ["bf16", "bf16"])
    ]


def test_bf16_is_refused_with_another_framework(elman: Command, tmp_path: Path) -> None:
    done = elman("train", *QUICK, "--framework", "jax", "--precision", "bf16", "--out", "run")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "elman: bf16 requires numba or numpy, got jax: use one of them, or --precision single\n"
    )
    assert not (tmp_path / "run").exists()
