"""Cross-entropy in nats over the targets that count: of logits, or chunk by chunk of states."""

from collections.abc import Iterator
from typing import Any

import numpy as _numpy
from mxnet import autograd, nd, np, npx

from elman.mxnet.data import from_numpy


def cross_entropy(
    model: Any, Y_hat: np.ndarray, Y: np.ndarray, averaged: bool = True
) -> np.ndarray:
    """Mean cross-entropy of logits, (..., classes); unless `averaged`, that of each target."""
    targets = Y.reshape(Y_hat.shape[:-1])  # logits in a new shape would be a copy
    losses = -npx.pick(npx.log_softmax(Y_hat, axis=-1), targets)
    return mean(model, losses) if averaged else losses.reshape(-1)


def mean(model: Any, values: np.ndarray) -> np.ndarray:
    """Mean of a value for each target, over the targets that count."""
    mask = model.target_mask
    if mask is None:
        return values.mean()
    weights = from_numpy(mask.astype(values.dtype)).as_in_ctx(values.ctx).reshape(values.shape)
    return (weights * values).sum() / weights.sum()


def chunked_cross_entropy(
    model: Any, rows: np.ndarray, targets: np.ndarray, size: int
) -> np.ndarray:
    """Mean cross-entropy of states, (steps * batch, hidden), with `size` rows of logits at a time.

    The targets are (steps * batch,).
    """
    if model.target_mask is not None:
        counted = from_numpy(_numpy.flatnonzero(model.target_mask.T)).as_in_ctx(rows.ctx)
        rows, targets = rows[counted], targets[counted]
    blocks = ChunkedLoss(targets, size)
    return blocks(rows, model.linear.weight.data(), model.linear.bias.data()).sum()


class ChunkedLoss(autograd.Function):
    """Mean cross-entropy of rows, (number, hidden), computed `size` rows at a time."""

    def __init__(self, targets: np.ndarray, size: int) -> None:
        super().__init__()
        self.targets, self.size = targets, size

    def forward(self, rows: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """Mean loss, (1,): with gradients, MXNet takes the shape () for an unknown one."""
        self.save_for_backward(rows, weight, bias)
        total = np.zeros(1, ctx=rows.ctx)
        for part in self._chunks(rows):
            chances = npx.log_softmax(np.dot(rows[part], weight.T) + bias, axis=-1)
            total = total - npx.pick(chances, self.targets[part]).sum()
            total.wait_to_read()  # or MXNet would start more chunks than fit in memory
        return total / len(rows)

    def backward(self, d_loss: Any) -> list[nd.NDArray]:
        """Gradients of rows, weight and bias; MXNet passes and expects its older arrays here."""
        rows, weight, bias = self.saved_tensors
        pieces, d_weight, d_bias = [], np.zeros_like(weight), np.zeros_like(bias)
        scale = d_loss.as_np_ndarray() / len(rows)
        for part in self._chunks(rows):
            d_logits = npx.softmax(np.dot(rows[part], weight.T) + bias, axis=-1)
            d_logits = (d_logits - npx.one_hot(self.targets[part], len(bias))) * scale
            pieces.append(np.dot(d_logits, weight))
            d_weight += np.dot(d_logits.T, rows[part])
            d_bias += d_logits.sum(axis=0)
            d_bias.wait_to_read()
        gradients = np.concatenate(pieces), d_weight, d_bias
        return [gradient.as_nd_ndarray() for gradient in gradients]

    def _chunks(self, rows: np.ndarray) -> Iterator[slice]:
        for start in range(0, len(rows), self.size):
            yield slice(start, start + self.size)
