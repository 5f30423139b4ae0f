"""Mean of the losses of the targets that count: from logits, or chunk by chunk from states."""

from typing import Any

import jax


def mean(values: Any, mask: Any) -> Any:
    """Mean of a value for each target, over the targets that count."""
    return values.mean(where=None if mask is None else mask.reshape(values.shape))


def chunked_loss(
    model: Any, rows: Any, targets: Any, weight: Any, bias: Any, mask: Any, size: int
) -> Any:
    """Mean loss of states, (steps * batch, hidden), with `size` rows of logits at a time.

    The targets are (steps * batch,), and the mask is (steps, batch).
    """

    def row_loss(row: tuple[Any, Any]) -> Any:
        hidden, target = row
        return model.token_losses(hidden @ weight + bias, target)

    losses = jax.lax.map(jax.checkpoint(row_loss), (rows, targets), batch_size=size)
    return mean(losses, mask)
