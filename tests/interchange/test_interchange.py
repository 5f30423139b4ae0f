"""PyTorch, TensorFlow and JAX in one environment and one process."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import elman as package
from elman import load
from elman.model import weights
from elman.model.weights import Architecture
from tests.conftest import QUICK, Command

HERE = ("numba", "numpy", "torch", "tensorflow", "jax")


# The longest test comes first: at the end, other processes would wait for it.
def test_all_frameworks_train_one_after_the_other_and_agree(
    elman_process: Command, story: Path, tmp_path: Path
) -> None:
    done = elman_process(
        "train", story, *QUICK, "--cell", "gru", "--framework", "all", "--out", "all"
    )
    assert done.returncode == 0, done.stderr
    shown = elman_process("compare", *(f"all/{name}" for name in HERE), "--json")
    runs = json.loads(shown.stdout)["runs"]
    assert [run["settings"]["framework"] for run in runs] == list(HERE)
    assert len({f"{run['results']['val_ppl']:.2f}" for run in runs}) == 1
    configs = [json.loads((tmp_path / "all" / n / "config.json").read_text()) for n in HERE]
    assert len({config["training"]["text_sha256"] for config in configs}) == 1


@pytest.mark.parametrize("cell", ["gru", "mingru", pytest.param("lstm", marks=pytest.mark.long)])
def test_a_model_goes_from_any_framework_to_any_other(cell: str, tmp_path: Path) -> None:
    first = package.framework_module("torch")
    data = first.TimeMachine(64, 16, num_train=640, num_val=64)
    arch = Architecture(cell, len(data.vocab), 16, layers=2, embedding=16, tied=True)
    model = first.build(arch, weights.initial(arch), lr=0.01, optimizer="adam")
    first.Trainer(5, gradient_clip_val=1).fit(model, data)
    package.save(tmp_path / "run", model)
    ids = np.array([data.vocab[list("the time machine by h g wells")]])
    wanted, _ = load(tmp_path / "run").step(ids)
    text = load(tmp_path / "run").predict("it has", 200, data.vocab)
    for name in HERE:  # each reads the file, and writes the same: what one wrote, any other reads
        loaded = load(tmp_path / "run", name)
        logits, _ = loaded.step(ids)
        np.testing.assert_allclose(logits, wanted, atol=1e-5)
        assert loaded.predict("it has", 200, data.vocab) == text
        package.save(tmp_path / name, loaded)
        files = (tmp_path / folder / "model.safetensors" for folder in ("run", name))
        first_weights, again = (path.read_bytes() for path in files)
        assert first_weights == again


def test_a_saved_model_loads_into_bare_torch_layers(elman: Command, tmp_path: Path) -> None:
    quick = ("--epochs", "1", "--batch-size", "512")
    done = elman("train", *quick, "--cell", "lstm", "--framework", "jax", "--out", "run")
    assert done.returncode == 0, done.stderr
    values = safetensors.torch.load_file(tmp_path / "run" / "model.safetensors")
    lstm, linear = torch.nn.LSTM(28, 32), torch.nn.Linear(32, 28)
    for layer, prefix in ((lstm, "rnn."), (linear, "linear.")):
        layer.load_state_dict(
            {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}
        )
    ids = torch.arange(28)
    outputs, _ = lstm(torch.nn.functional.one_hot(ids, 28).float())
    wanted, _ = load(tmp_path / "run").step(ids[None].numpy())
    np.testing.assert_allclose(linear(outputs).detach(), wanted[0], atol=1e-5)


def test_info_tells_the_version_and_the_devices_of_every_framework(elman_process: Command) -> None:
    lines = elman_process("info").stdout.splitlines()
    for name in HERE:
        module = package.framework_module(name)
        assert f"{name:<10} {module.version()}  {', '.join(module.devices())}" in lines
