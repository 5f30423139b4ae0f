"""Mean of the losses of the targets that count: from logits, or chunk by chunk from states."""

from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf


def mean(model: Any, values: tf.Tensor) -> tf.Tensor:
    """Mean of a value for each target, (targets,), over the targets that count."""
    mask = model.target_mask
    if mask is None:
        return tf.reduce_mean(values)
    weights = tf.cast(tf.reshape(mask, (-1,)), values.dtype)
    return tf.reduce_sum(weights * values) / tf.reduce_sum(weights)


def chunked_loss(model: Any, rows: tf.Tensor, targets: tf.Tensor, size: int) -> tf.Tensor:
    """Mean loss of states, (steps * batch, hidden), with `size` rows of logits at a time.

    The targets are (steps * batch,).
    """
    weight, bias = map(tf.convert_to_tensor, (model.linear.kernel, model.linear.bias))
    mask = model.target_mask
    if mask is None:
        return chunked_total(model, rows, weight, bias, targets, size) / rows.shape[0]
    weights = tf.cast(tf.reshape(tf.transpose(mask), (-1,)), rows.dtype)  # (steps * batch,)
    total = chunked_total(model, rows, weight, bias, targets, size, weights)
    return total / tf.reduce_sum(weights)


def chunked_total(
    model: Any,
    rows: tf.Tensor,
    weight: tf.Tensor,
    bias: tf.Tensor,
    targets: tf.Tensor,
    size: int,
    weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """Sum of the losses of `rows`, computed `size` rows at a time.

    `rows` is (number, hidden), `weight` (hidden, vocab), `bias` (vocab,) and `targets` (number,).
    With `weights`, (number,), each loss is multiplied by its weight.
    The backward pass computes the logits of each chunk again.
    """
    number = rows.shape[0]
    loop = partial(_for_each_chunk, number, size)

    def chunk_loss(start: Any, rows: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        labels = targets[start : start + size]
        losses = model.token_losses(rows @ weight + bias, labels)
        if weights is not None:
            losses *= weights[start : start + size]
        return tf.reduce_sum(losses)

    @tf.custom_gradient
    def total(rows: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor) -> Any:
        def forward(start: Any, total: tf.Tensor) -> Any:
            return (total + chunk_loss(start, rows[start : start + size], weight, bias),)

        def backward(start: Any, d_rows: Any, d_weight: tf.Tensor, d_bias: tf.Tensor) -> Any:
            parts = rows[start : start + size], weight, bias
            with tf.GradientTape() as tape:
                tape.watch(parts)
                loss = chunk_loss(start, *parts)
            d_part, more_weight, more_bias = tape.gradient(loss, parts)
            return d_rows.write(start // size, d_part), d_weight + more_weight, d_bias + more_bias

        def gradients(d_total: tf.Tensor) -> Any:
            pieces = tf.TensorArray(
                rows.dtype,
                -(-number // size),
                infer_shape=False,
                element_shape=(None, rows.shape[1]),
            )
            pieces, *sums = loop(backward, pieces, tf.zeros_like(weight), tf.zeros_like(bias))
            d_rows = tf.ensure_shape(pieces.concat(), rows.shape)
            return [d_total * gradient for gradient in (d_rows, *sums)]

        return loop(forward, tf.zeros((), rows.dtype))[0], gradients

    return total(rows, weight, bias)


def _for_each_chunk(number: int, size: int, body: Callable[..., Any], *sums: tf.Tensor) -> Any:
    """For each chunk of rows, replace the sums by `body(start, *sums)`."""
    return tf.while_loop(
        lambda start, *_: start < number,
        lambda start, *sums: (start + size, *body(start, *sums)),
        (0, *sums),
        parallel_iterations=1,
    )[1:]
