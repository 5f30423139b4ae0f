"""The seed's job as a plain MXNet loop: Gluon's fused RNN, its parts hybridized and static."""

from collections.abc import Callable
from typing import Any

import numpy
from mxnet import autograd, gluon, np, npx
from mxnet.gluon import nn, rnn

npx.set_np()


def epoch(data: Any) -> Callable[[], None]:
    """A function that trains one epoch and validates."""
    vocab, rng = len(data.vocab), numpy.random.default_rng(0)
    layer, linear = rnn.RNN(32, activation="tanh"), nn.Dense(vocab, flatten=False)
    loss_function = gluon.loss.SoftmaxCrossEntropyLoss()
    for block in (layer, linear, loss_function):
        block.initialize()
        block.hybridize(static_alloc=True, static_shape=True)
    parameters = gluon.ParameterDict()
    for block in (layer, linear):
        parameters.update(block.collect_params())
    trainer = gluon.Trainer(parameters, "sgd", {"learning_rate": 1.0})

    def batch(rows: Any) -> tuple[Any, Any]:
        ids, targets = data.X[rows].T, data.Y[rows].T
        return np.array(ids, dtype=numpy.int32), np.array(targets, dtype=numpy.int32)

    def loss_of(X: Any, Y: Any) -> Any:
        hidden = layer(npx.one_hot(X, vocab))  # (steps, batch, hidden)
        return loss_function(linear(hidden).reshape(-1, vocab), Y.reshape(-1)).mean()

    def run() -> None:
        order = rng.permutation(10_000)
        for start in range(0, 10_000, 1024):
            X, Y = batch(order[start : start + 1024])
            with autograd.record():
                loss = loss_of(X, Y)
            loss.backward()
            gradients = [p.grad() for p in parameters.values()]
            norm = float(np.sqrt(sum((g * g).sum() for g in gradients)))
            if norm > 1:
                for gradient in gradients:
                    gradient[:] = gradient / norm
            trainer.step(1)
            loss.item()
        for start in range(10_000, 15_000, 1024):
            loss_of(*batch(slice(start, min(start + 1024, 15_000)))).item()

    return run


def predict(data: Any) -> Callable[[], None]:
    """A function that writes 1,000 characters."""
    vocab = len(data.vocab)
    layer, linear = rnn.RNN(32, activation="tanh"), nn.Dense(vocab, flatten=False)
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
