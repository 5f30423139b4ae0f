"""Cross-entropy in nats over the targets that count: of logits, or chunk by chunk of states."""

from typing import Any

import jax
import optax


def cross_entropy(model: Any, Y_hat: Any, Y: Any, averaged: bool = True) -> Any:
    """Mean cross-entropy of logits, (..., classes); unless `averaged`, that of each target."""
    targets = Y.reshape(Y_hat.shape[:-1])  # reshaping the logits would copy them
    losses = optax.softmax_cross_entropy_with_integer_labels(Y_hat, targets)
    return mean(losses, model.target_mask) if averaged else losses.reshape(-1)


def mean(values: Any, mask: Any) -> Any:
    """Mean of a value for each target, over the targets that count."""
    return values.mean(where=None if mask is None else mask.reshape(values.shape))


def chunked_cross_entropy(
    rows: Any, targets: Any, weight: Any, bias: Any, mask: Any, size: int
) -> Any:
    """Mean cross-entropy of states, (steps * batch, hidden), with `size` rows of logits at a time.

    The targets are (steps * batch,), and the mask is (steps, batch).
    """

    def row_loss(row: tuple[Any, Any]) -> Any:
        hidden, target = row
        logits = hidden @ weight + bias
        return optax.softmax_cross_entropy_with_integer_labels(logits, target)

    losses = jax.lax.map(jax.checkpoint(row_loss), (rows, targets), batch_size=size)
    return mean(losses, mask)
