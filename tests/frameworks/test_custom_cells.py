"""Custom cells do in every framework what the built-in ones do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import cells

import elman
from elman import numpy as specification
from elman.model import registry as registered
from elman.model import step_arrays, weights
from elman.model.cells import STEP_FUNCTIONS
from elman.model.weights import Architecture
from tests.combinations import combinations
from tests.conftest import QUICK, Command
from tests.frameworks.layers import layers_of
from tests.parity import IDS, one_update, relative, some_weights

CUSTOM = (cells.MINLSTM.name, cells.NORMALIZED_RNN.name)
SIZES = combinations(pytest.mark.core, CUSTOM, (1, 2), (0, 5))


@pytest.mark.parametrize(("cell", "layers", "embedding"), SIZES)
def test_logits_agree_in_one_call_and_in_several(
    module: Any, cell: str, layers: int, embedding: int
) -> None:
    arch = Architecture(cell, 11, 7, layers, embedding)
    wanted, _ = specification.build(arch, some_weights(arch)).step(IDS)
    found = module.build(arch, some_weights(arch))
    state, logits = None, []
    for ids in np.split(IDS, [5, 6], axis=1):
        part, state = found.step(ids, state)
        logits.append(part)
    assert relative(np.concatenate(logits, axis=1), wanted) < 1e-5
    assert relative(found.step(IDS)[0], wanted) < 1e-5


@pytest.mark.parametrize(("cell", "layers", "embedding"), SIZES)
def test_gradients_are_those_of_finite_differences(
    module: Any, cell: str, layers: int, embedding: int
) -> None:
    arch = Architecture(cell, 11, 7, layers, embedding)
    before = {name: value.astype(np.float64) for name, value in some_weights(arch).items()}
    rng, wanted, got = np.random.default_rng(0), [], []
    _, gradients = one_update(module, arch)
    for name, gradient in gradients.items():
        toward = rng.choice([-1.0, 1.0], before[name].shape)
        if "bias_hh" in name:
            assert not gradient.any()  # it is redundant
            continue
        ends = [loss_of(arch, before | {name: before[name] + s * 1e-5 * toward}) for s in (1, -1)]
        wanted.append((ends[0] - ends[1]) / 2e-5)
        got.append(float((gradient * toward).sum()))
    np.testing.assert_allclose(got, wanted, rtol=2e-3, atol=2e-4)


def loss_of(arch: Architecture, values: weights.Weights) -> float:
    """Mean loss of the ids of one update, in double precision."""
    logits, _ = specification.build(arch, values).step(IDS[:, :-1])
    shifted = logits - logits.max(axis=2, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=2, keepdims=True)) - shifted
    return float(np.take_along_axis(losses, IDS[:, 1:, None], axis=2).mean())


@pytest.mark.parametrize("cell", CUSTOM)
def test_a_model_is_trained_saved_loaded_and_asked_by_the_books_names(
    module: Any, framework: str, cell: str, tmp_path: Path
) -> None:
    data = module.TimeMachine(64, 16, num_train=640, num_val=64)
    layers = layers_of(module, "Recurrent", len(data.vocab), 16, cell=cell, num_layers=2)
    model = module.RNNLM(layers, len(data.vocab), lr=0.02, optimizer="adam")
    module.Trainer(5, gradient_clip_val=1).fit(model, data)
    elman.save(tmp_path / "run", model)
    for name in (framework, None):  # None is numpy
        loaded = elman.load(tmp_path / "run", name)
        assert loaded.predict("it has", 40) == model.predict("it has", 40)
        first, second = (each.score(["it has", "the"]) for each in (loaded, model))
        assert first[1].log_probability == pytest.approx(second[1].log_probability, rel=1e-4)
        assert loaded.next("it ha", top=1)[0].id == model.next("it ha", top=1)[0].id
        states = model.hidden_states("it has")
        assert states.shape == (2, 6, 16)
        assert relative(loaded.hidden_states("it has"), states) < 1e-4
    shapes = weights.shapes(module.architecture(model))
    assert module.export_weights(model).keys() == shapes.keys()


FILE = """\
import elman
elman.register(elman.Cell("half", ("h",), lambda xp, x, r, state: (state[0] / 2 + xp.tanh(x + r),)))
"""


@pytest.mark.core
def test_the_command_line_trains_a_cell_of_a_file(
    elman: Command, story: Path, framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registered, "_registered", {})
    (tmp_path / "half.py").write_text(FILE)
    words = ["train", story, *QUICK, "--framework", framework, "--cell", "half", "--out", "run"]
    done = elman("--cells", "half.py", *words)
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["training"]["cell_fingerprint"] == config["cell_fingerprint"] != []
    done = elman("--cells", "half.py", "generate", "run", "Once", "--framework", framework)
    assert (done.returncode, done.stdout[:4]) == (0, "Once"), done.stderr


def test_parameters_begin_at_their_values_without_weights_from_elsewhere(module: Any) -> None:
    data = module.TimeMachine(64, 16, num_train=64, num_val=64)
    layers = layers_of(module, "Recurrent", len(data.vocab), 16, cell="normalized-rnn")
    model = module.RNNLM(layers, len(data.vocab), lr=1e-12)
    module.Trainer(1).fit(model, data)
    values = module.export_weights(model)
    assert (values["rnn.gain_l0"] == 1).all()
    assert abs(values["rnn.shift_l0"]).max() < 1e-9
    assert not values["rnn.bias_hh_l0"].any()


@pytest.mark.parametrize("name", STEP_FUNCTIONS)
def test_every_function_of_a_step_computes_what_numpy_computes(module: Any, name: str) -> None:
    arguments: dict[str, Any] = {"concat": (1,), "split": (2, 1)}
    keywords = {}
    if name.startswith("reduce"):
        arguments[name], keywords = (1,), {"keepdims": True}
    x = np.linspace(0.1, 2, 12, dtype=np.float32).reshape(3, 4)

    def apply(xp: Any, x: Any) -> Any:
        first = [x, 2 * x] if name == "concat" else x
        found = getattr(xp, name)(first, *arguments.get(name, ()), **keywords)
        parts = found if name == "split" else [found]
        return [(1 - part) / (part**2 + 3) * 2 - -part for part in parts]

    found = [module.numpy(part) for part in apply(module, module.tensor(x))]
    wanted = apply(step_arrays, x)
    assert [part.shape for part in found] == [part.shape for part in wanted]
    for part, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(part, other, rtol=1e-5)
