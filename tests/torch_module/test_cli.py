"""The command line on PyTorch."""

import json
from pathlib import Path

import pytest
import torch

from tests.conftest import Command

QUICK = ("--epochs", "3", "--hidden", "8", "--batch-size", "16", "--steps", "16")


def test_the_same_seed_gives_the_same_numbers_and_the_specifications(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    for out, framework in (("one", "torch"), ("two", "torch"), ("numpy", "numpy")):
        words = ("train", story, *QUICK, "--framework", framework, "--out", out)
        done = elman(*words)
        assert done.returncode == 0, done.stderr
    weights = [(tmp_path / out / "model.safetensors").read_bytes() for out in ("one", "two")]
    assert weights[0] == weights[1]
    perplexities = [
        float((tmp_path / out / "history.csv").read_text().splitlines()[-1].split(",")[2])
        for out in ("one", "numpy")
    ]
    assert perplexities[0] == pytest.approx(perplexities[1], rel=1e-4)
    config = json.loads((tmp_path / "one" / "config.json").read_text())
    assert config["training"]["framework_version"] == torch.__version__


@pytest.mark.skipif(
    torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU here"
)
def test_a_gpu_that_is_not_there_is_refused(elman: Command) -> None:
    done = elman("train", *QUICK, "--framework", "torch", "--device", "gpu")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "elman: torch can use no GPU here: leave --device out\n"


def test_info_tells_the_version_and_the_devices(elman: Command) -> None:
    assert f"torch  {torch.__version__}  cpu" in elman("info").stdout
