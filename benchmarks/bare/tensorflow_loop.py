"""Plain TensorFlow loops: Keras' SimpleRNN in one tf.function each."""

import os
from collections.abc import Callable
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # as elman and d2l have it

import numpy as np
import tensorflow as tf

Step = Callable[[np.ndarray, np.ndarray], float]
SCORED = 128  # characters at a time: more take minutes to unroll


def layers(vocab: int, hidden: int) -> tuple[Any, Any]:
    """The recurrent layer, which is fastest with its loop unrolled, and the output layer."""
    rnn = tf.keras.layers.SimpleRNN(
        hidden, return_sequences=True, return_state=True, time_major=True, unroll=True
    )
    return rnn, tf.keras.layers.Dense(vocab)


def training(vocab: int, hidden: int) -> tuple[Step, Step]:
    """Functions of ids and targets, (batch, steps), that take an update, and validate."""
    rnn, linear = layers(vocab, hidden)
    optim = tf.keras.optimizers.SGD(1.0)

    def loss_of(X: Any, Y: Any) -> Any:
        hiddens, _ = rnn(tf.one_hot(tf.transpose(X), vocab))  # (steps, batch, hidden)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.transpose(Y), linear(hiddens))
        return tf.reduce_mean(losses)

    loss_of(np.zeros((2, 2), np.int32), np.zeros((2, 2), np.int32))  # the layers make variables
    variables = rnn.trainable_variables + linear.trainable_variables
    optim.build(variables)

    @tf.function
    def updated(X: Any, Y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of(X, Y)
        gradients, _ = tf.clip_by_global_norm(tape.gradient(loss, variables), 1.0)
        optim.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    compiled = tf.function(loss_of)

    def update(X: np.ndarray, Y: np.ndarray) -> float:
        return updated(tf.constant(X, tf.int32), tf.constant(Y, tf.int32)).numpy()

    def validate(X: np.ndarray, Y: np.ndarray) -> float:
        return compiled(tf.constant(X, tf.int32), tf.constant(Y, tf.int32)).numpy()

    return update, validate


def writing(vocab: int, hidden: int) -> Callable[[], Any]:
    """A function that writes 1,000 characters."""
    rnn, linear = layers(vocab, hidden)

    def step(token: Any, state: Any) -> tuple[Any, Any]:
        outputs, state = rnn(tf.one_hot(tf.reshape(token, (1, 1)), vocab), state)
        return tf.argmax(linear(outputs), axis=-1, output_type=tf.int32)[0, 0], state

    step(tf.constant(0), tf.zeros((1, hidden)))  # the layers make their variables
    compiled = tf.function(step)

    def run() -> None:
        token, state = tf.constant(0), tf.zeros((1, hidden))
        for _ in range(1000):
            token, state = compiled(token, state)
            token.numpy()

    return run


def scoring(vocab: int, hidden: int, ids: np.ndarray) -> Callable[[], Any]:
    """A function that reads a text, and sums up the losses of its characters."""
    rnn, linear = layers(vocab, hidden)
    text = tf.constant(ids, tf.int32)

    def score(piece: Any, targets: Any, state: Any) -> tuple[Any, Any]:
        outputs, state = rnn(tf.one_hot(piece, vocab)[:, None], state)  # (steps, 1, hidden)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, linear(outputs)[:, 0])
        return tf.reduce_sum(losses), state

    score(text[:2], text[1:3], tf.zeros((1, hidden)))  # the layers make their variables
    compiled = tf.function(score)

    def run() -> float:
        total, state = tf.constant(0.0), tf.zeros((1, hidden))
        for start in range(0, len(ids) - 1, SCORED):
            targets = text[start + 1 : start + 1 + SCORED]
            loss, state = compiled(text[start : start + len(targets)], targets, state)
            total += loss
        return total.numpy()

    return run
