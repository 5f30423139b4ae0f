"""Custom cells do in every framework what the built-in ones do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import cells

import elman
from elman import numpy as specification
from elman.errors import ElmanError
from elman.model import registry as registered
from elman.model import step_arrays, weights
from elman.model.cells import STEP_FUNCTIONS
from elman.model.weights import Architecture
from tests.combinations import combinations
from tests.conftest import QUICK, Command
from tests.frameworks.layers import layers_of
from tests.parity import IDS, one_update, relative, some_weights, update_losses

CUSTOM = (cells.MINLSTM.name, cells.NORMALIZED_RNN.name)
SIZES = combinations(pytest.mark.core, CUSTOM, (1, 2), (0, 5))
TRAIN = ("torch", "tensorflow", "jax", "mxnet")


@pytest.fixture
def trains(framework: str) -> None:
    """A test of what needs gradients."""
    if framework not in TRAIN:
        pytest.skip("it has no gradients of such cells")


@pytest.fixture
def runs(framework: str) -> None:
    """A test of what needs a forward pass."""
    if framework == "numba":
        pytest.skip("it has no kernels for such cells")


@pytest.mark.usefixtures("runs")
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


@pytest.mark.usefixtures("trains")
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


@pytest.mark.usefixtures("trains")
@pytest.mark.parametrize("cell", CUSTOM)
def test_a_training_has_the_same_losses_in_every_framework(module: Any, cell: str) -> None:
    data = module.TimeMachine(64, 16, num_train=640, num_val=64, seed=5)
    arch = Architecture(cell, len(data.vocab), 16, 2)
    model = module.build(arch, weights.initial(arch, 5), lr=0.01, optimizer="adam")
    losses = update_losses(module, model, data)
    np.testing.assert_allclose(losses[[0, 9, 49, 99]], LOSSES[cell], rtol=1e-3)


# Of updates 1, 10, 50 and 100, the same in all frameworks.
LOSSES = {
    "minlstm": [3.347567, 2.991449, 2.500924, 2.036883],
    "normalized-rnn": [3.373637, 2.872813, 1.997017, 1.574541],
}


@pytest.mark.usefixtures("trains")
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
    assert module.export_weights(model).keys() == weights.shapes(model_arch(module, model)).keys()


def model_arch(module: Any, model: Any) -> Architecture:
    """Architecture of a model, by its module."""
    found: Architecture = module.architecture(model)
    return found


FILE = """\
import elman
elman.register(elman.Cell("half", ("h",), lambda xp, x, r, state: (state[0] / 2 + xp.tanh(x + r),)))
"""


@pytest.mark.usefixtures("trains")
def test_the_command_line_trains_a_cell_of_a_file(
    elman: Command, story: Path, framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registered, "_registered", {})
    (tmp_path / "half.py").write_text(FILE)
    words = ["train", story, *QUICK, "--framework", framework, "--cell", "half", "--out", "run"]
    done = elman("--cells", "half.py", *words)
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert len(config["cell_fingerprint"]) == 6
    assert config["training"]["cell_fingerprint"] == config["cell_fingerprint"]
    done = elman("--cells", "half.py", "generate", "run", "Once", "--framework", framework)
    assert (done.returncode, done.stdout[:4]) == (0, "Once"), done.stderr


@pytest.mark.usefixtures("trains")
def test_parameters_begin_at_their_values_without_weights_from_elsewhere(module: Any) -> None:
    data = module.TimeMachine(64, 16, num_train=64, num_val=64)
    layers = layers_of(module, "Recurrent", len(data.vocab), 16, cell="normalized-rnn")
    model = module.RNNLM(layers, len(data.vocab), lr=1e-12)
    module.Trainer(1).fit(model, data)
    values = module.export_weights(model)
    assert (values["rnn.gain_l0"] == 1).all()
    assert abs(values["rnn.shift_l0"]).max() < 1e-9
    assert not values["rnn.bias_hh_l0"].any()


def test_a_framework_without_gradients_names_those_that_have_them(
    module: Any, framework: str
) -> None:
    if framework in TRAIN:
        pytest.skip("it has them")
    arch = Architecture("minlstm", 28, 8)
    data = module.TimeMachine(64, 16, num_train=64, num_val=64)
    with pytest.raises(ElmanError, match="torch, tensorflow, jax or mxnet"):
        module.Trainer(1).fit(module.build(arch, weights.initial(arch)), data)


@pytest.mark.usefixtures("trains")
@pytest.mark.parametrize("name", STEP_FUNCTIONS)
def test_every_function_of_a_step_computes_what_numpy_computes(module: Any, name: str) -> None:
    arguments: dict[str, Any] = {
        "split": (2, 1),
        "reduce_mean": (1,),
        "reduce_sum": (1,),
    }
    keywords = {"keepdims": True} if name.startswith("reduce") else {}
    x = np.linspace(0.1, 2, 12, dtype=np.float32).reshape(3, 4)

    def apply(xp: Any, x: Any) -> Any:
        first = [x, 2 * x] if name == "concat" else x
        found = getattr(xp, name)(
            first, *arguments.get(name, (1,) if name == "concat" else ()), **keywords
        )
        parts = found if name == "split" else [found]
        return [(1 - part) / (part**2 + 3) * 2 - -part for part in parts]

    found = [module.numpy(part) for part in apply(module, module.tensor(x))]
    wanted = apply(step_arrays, x)
    assert [part.shape for part in found] == [part.shape for part in wanted]
    for part, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(part, other, rtol=1e-5)
