"""The seed's job as a plain TensorFlow loop: Keras' SimpleRNN in one tf.function."""

import os
from collections.abc import Callable
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # as elman and d2l have it

import numpy as np
import tensorflow as tf


def layers(vocab: int) -> tuple[Any, Any]:
    """The recurrent layer, which is fastest with its loop unrolled, and the output layer."""
    rnn = tf.keras.layers.SimpleRNN(
        32, return_sequences=True, return_state=True, time_major=True, unroll=True
    )
    return rnn, tf.keras.layers.Dense(vocab)


def epoch(data: Any) -> Callable[[], None]:
    """A function that trains one epoch and validates."""
    vocab = len(data.vocab)
    X, Y = data.X.astype(np.int32), data.Y.astype(np.int32)
    rng, (rnn, linear) = np.random.default_rng(0), layers(vocab)
    optim = tf.keras.optimizers.SGD(1.0)

    def loss_of(X: Any, Y: Any) -> Any:
        hidden, _ = rnn(tf.one_hot(tf.transpose(X), vocab))  # (steps, batch, hidden)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.transpose(Y), linear(hidden))
        return tf.reduce_mean(losses)

    loss_of(X[:2], Y[:2])  # the layers make their variables
    variables = rnn.trainable_variables + linear.trainable_variables
    optim.build(variables)

    @tf.function
    def update(X: Any, Y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of(X, Y)
        gradients, _ = tf.clip_by_global_norm(tape.gradient(loss, variables), 1.0)
        optim.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    validate = tf.function(loss_of)

    def run() -> None:
        order = rng.permutation(10_000)
        for start in range(0, 10_000, 1024):
            rows = order[start : start + 1024]
            update(tf.constant(X[rows]), tf.constant(Y[rows])).numpy()
        for start in range(10_000, 15_000, 1024):
            rows = slice(start, min(start + 1024, 15_000))
            validate(tf.constant(X[rows]), tf.constant(Y[rows])).numpy()

    return run


def predict(data: Any) -> Callable[[], None]:
    """A function that writes 1,000 characters."""
    vocab = len(data.vocab)
    rnn, linear = layers(vocab)

    def step(token: Any, state: Any) -> tuple[Any, Any]:
        outputs, state = rnn(tf.one_hot(tf.reshape(token, (1, 1)), vocab), state)
        return tf.argmax(linear(outputs), axis=-1, output_type=tf.int32)[0, 0], state

    step(tf.constant(0), tf.zeros((1, 32)))  # the layers make their variables
    compiled = tf.function(step)

    def run() -> None:
        token, state = tf.constant(0), tf.zeros((1, 32))
        for _ in range(1000):
            token, state = compiled(token, state)
            token.numpy()

    return run
