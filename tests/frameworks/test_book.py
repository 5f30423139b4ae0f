"""A cell written from scratch in the book's style agrees with the specification and trains."""

from typing import Any

import numpy as np

from elman import numpy as specification
from elman.model.cells import make_layers

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
