"""Plain MXNet loops: Gluon's fused RNN, its parts hybridized and static."""

from collections.abc import Callable
from typing import Any

import numpy
from mxnet import autograd, gluon, np, npx
from mxnet.gluon import nn, rnn

npx.set_np()

Step = Callable[[numpy.ndarray, numpy.ndarray], float]


def training(vocab: int, hidden: int) -> tuple[Step, Step]:
    """Functions of ids and targets, (batch, steps), that take an update, and validate."""
    layer, linear = rnn.RNN(hidden, activation="tanh"), nn.Dense(vocab, flatten=False)
    loss_function = gluon.loss.SoftmaxCrossEntropyLoss()
    for block in (layer, linear, loss_function):
        block.initialize()
        block.hybridize(static_alloc=True, static_shape=True)
    parameters = gluon.ParameterDict()
    for block in (layer, linear):
        parameters.update(block.collect_params())
    trainer = gluon.Trainer(parameters, "sgd", {"learning_rate": 1.0})

    def loss_of(X: numpy.ndarray, Y: numpy.ndarray) -> Any:
        ids, targets = (np.array(array.T, dtype=numpy.int32) for array in (X, Y))
        hiddens = layer(npx.one_hot(ids, vocab))  # (steps, batch, hidden)
        return loss_function(linear(hiddens).reshape(-1, vocab), targets.reshape(-1)).mean()

    def update(X: numpy.ndarray, Y: numpy.ndarray) -> float:
        with autograd.record():
            loss = loss_of(X, Y)
        loss.backward()
        gradients = [p.grad() for p in parameters.values()]
        norm = float(np.sqrt(sum((g * g).sum() for g in gradients)))
        if norm > 1:
            for gradient in gradients:
                gradient[:] = gradient / norm
        trainer.step(1)
        return loss.item()

    def validate(X: numpy.ndarray, Y: numpy.ndarray) -> float:
        return loss_of(X, Y).item()

    return update, validate


def writing(vocab: int, hidden: int) -> Callable[[], Any]:
    """A function that writes 1,000 characters."""
    layer, linear = rnn.RNN(hidden, activation="tanh"), nn.Dense(vocab, flatten=False)
    for block in (layer, linear):
        block.initialize()
        block.hybridize(static_alloc=True, static_shape=True)

    def run() -> None:
        token, state = np.zeros((1, 1), dtype=numpy.int32), layer.begin_state(1)
        for _ in range(1000):
            outputs, state = layer(npx.one_hot(token, vocab), state)
            token = linear(outputs).argmax(axis=-1).astype(numpy.int32)
            token.item()

    return run
