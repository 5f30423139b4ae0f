"""Layers in both directions, and layers and losses of the user's own in the book's style."""

from importlib import import_module
from typing import Any

import numpy as np
import pytest

from elman import numpy as specification
from elman.book import rnnlm
from elman.model.cells import CELLS, make_layers
from tests.combinations import combinations
from tests.frameworks.layers import LAZY, layers_of
from tests.parity import one_batch

NAMES = {"weight_ih_l0": ("W_xz", "W_xh"), "bias_ih_l0": ("b_z", "b_h")}


def run_from_scratch(d2l: Any, layer: Any, inputs: Any, H: Any) -> tuple[list[Any], Any]:
    """minGRU in the book's style: a list of outputs, and the last as the state."""
    if H is None:
        H = d2l.zeros((inputs.shape[1], layer.num_hiddens))
    outputs = []
    for X in inputs:
        Z = d2l.sigmoid(d2l.matmul(X, layer.W_xz) + layer.b_z)
        H = (1 - Z) * H + Z * (d2l.matmul(X, layer.W_xh) + layer.b_h)
        outputs.append(H)
    return outputs, H


def scratch(d2l: Any, framework: str, values: dict[str, np.ndarray]) -> Any:
    """A layer of the user's own, with these values of its parameters."""
    inputs, hidden = values["W_xz"].shape
    if framework == "jax":
        from flax import linen as nn

        class Flax(nn.Module):  # type: ignore[misc]
            num_inputs: int
            num_hiddens: int
            sigma: float = 0.01

            def setup(self) -> None:
                for name, value in values.items():
                    setattr(self, name, self.param(name, lambda _, value=value: d2l.tensor(value)))

            def __call__(self, inputs: Any, H: Any = None) -> Any:
                return run_from_scratch(d2l, self, inputs, H)

        return Flax(inputs, hidden)

    class MinGRUScratch(d2l.Module):  # type: ignore[misc]
        def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
            super().__init__()
            self.save_hyperparameters()
            for name, value in values.items():
                setattr(self, name, parameter(d2l, framework, value))

        def forward(self, inputs: Any, H: Any = None) -> Any:
            return run_from_scratch(d2l, self, inputs, H)

    return MinGRUScratch(inputs, hidden)


def parameter(d2l: Any, framework: str, value: np.ndarray) -> Any:
    if framework == "torch":
        from torch import nn

        return nn.Parameter(d2l.tensor(value))
    if framework == "tensorflow":
        import tensorflow as tf

        return tf.Variable(value)
    return d2l.tensor(value)


def called(d2l: Any, framework: str, layer: Any, inputs: Any) -> Any:
    if framework == "jax":
        return layer.init_with_output(d2l.get_key(), inputs)[0]
    return layer(inputs)


def test_a_cell_from_scratch_is_the_specifications_and_trains(module: Any, framework: str) -> None:
    data = module.TimeMachine(64, 8, num_train=640, num_val=64)
    rnn = make_layers(specification, "mingru", num_inputs=28, num_hiddens=16)
    values = {
        name: np.ascontiguousarray(part.T)
        for kind, names in NAMES.items()
        for name, part in zip(names, np.split(rnn.parameters[kind], 2), strict=True)
    }
    layer = scratch(module, framework, values)
    X = np.eye(28, dtype=np.float32)[np.arange(12).reshape(4, 3)]
    outputs, _ = called(module, framework, layer, module.tensor(X))
    wanted, _ = rnn(X)
    for output, right in zip(outputs, wanted, strict=True):
        np.testing.assert_allclose(module.numpy(output), right, atol=1e-6)
    model = module.RNNLMScratch(layer, len(data.vocab), lr=1)
    trainer = module.Trainer(max_epochs=3, gradient_clip_val=1)
    trainer.fit(model, data)
    assert trainer.history[-1].train_loss < trainer.history[0].train_loss


@pytest.mark.parametrize(("cell", "layers"), combinations(pytest.mark.core, CELLS, (1, 2)))
def test_bidirectional_layers_agree_with_the_specification(
    module: Any, framework: str, cell: str, layers: int
) -> None:
    sizes = {"num_hiddens": 7, "num_layers": layers, "bidirectional": True}
    wanted = make_layers(specification, cell, num_inputs=5, **sizes)
    found = make_layers(module, cell, **({} if framework in LAZY else {"num_inputs": 5}), **sizes)
    X = np.random.default_rng(0).standard_normal((9, 4, 5), np.float32)
    inputs = module.tensor(X)
    call = with_weights(framework, found, inputs, wanted.parameters)
    outputs, state = call(inputs)
    wanted_outputs, wanted_state = wanted(X)
    assert outputs.shape == (9, 4, 14)
    np.testing.assert_allclose(module.numpy(outputs), wanted_outputs, atol=1e-5)
    again, _ = call(inputs, state)
    np.testing.assert_allclose(module.numpy(again), wanted(X, wanted_state)[0], atol=1e-5)


def with_weights(framework: str, layers: Any, inputs: Any, values: dict[str, np.ndarray]) -> Any:
    """Call layers with canonical weights."""
    if framework == "jax":
        _, shapes = layers.init_with_output(import_module("jax").random.PRNGKey(0), inputs)
        params = {
            name: value[-len(shapes["params"][name]) :]  # a GRU has a third of the second biases
            for name, value in values.items()
            if name in shapes["params"]
        }
        return lambda *arguments: layers.apply({"params": params}, *arguments)
    if framework == "mxnet":
        layers.initialize()
    layers(inputs)  # which makes the weights
    import_module(f"elman.{framework}.weights")._conversion.write(layers.rnn, values)
    return layers


class Echo:
    """Recurrent layers that are no layers of the framework: outputs are the inputs."""

    num_hiddens = 8

    def __call__(self, inputs: Any, state: Any = None) -> tuple[Any, Any]:
        return inputs, state


def test_layers_need_not_be_the_frameworks(module: Any, framework: str) -> None:
    if framework == "jax":
        pytest.skip("its layers are Flax's")
    data = module.TimeMachine(64, 8, num_train=640, num_val=64)
    rates = {"lr": 0.02, "recurrent_lr": 0.01, "optimizer": "adamw"}
    model = module.RNNLM(Echo(), len(data.vocab), embedding_size=8, **rates)
    trainer = module.Trainer(2)
    trainer.fit(model, data)
    assert trainer.history[-1].train_loss < trainer.history[0].train_loss


def test_a_loss_of_the_users_own_gets_all_logits_at_once(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rnnlm, "MAX_LOGITS", 11)
    monkeypatch.setattr(rnnlm, "chunk_rows", None)  # which would be called
    called = []

    class Mine(module.RNNLM):  # type: ignore[misc]
        def loss(self, *arguments: Any) -> Any:
            called.append(arguments)
            return super().loss(*arguments)

    model = Mine(layers_of(module, "GRU", 11, 7), 11, lr=0.1)
    module.Trainer(1).fit(model, one_batch(module))
    assert called
