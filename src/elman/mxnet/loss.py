"""Mean of the losses of the targets that count: from logits, or chunk by chunk from states."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as _numpy
from mxnet import autograd, nd, np

from elman.mxnet.data import from_numpy


def mean(model: Any, values: np.ndarray) -> np.ndarray:
    """Mean of a value for each target, over the targets that count."""
    mask = model.target_mask
    if mask is None:
        return values.mean()
    weights = from_numpy(mask.astype(values.dtype)).as_in_ctx(values.ctx).reshape(values.shape)
    return (weights * values).sum() / weights.sum()


def chunked_loss(model: Any, rows: np.ndarray, targets: np.ndarray, size: int) -> np.ndarray:
    """Mean loss of states, (steps * batch, hidden), with `size` rows of logits at a time.

    The targets are (steps * batch,).
    """
    if model.target_mask is not None:
        counted = from_numpy(_numpy.flatnonzero(model.target_mask.T)).as_in_ctx(rows.ctx)
        rows, targets = rows[counted], targets[counted]
    weight, bias = model.linear.weight.data(), model.linear.bias.data()
    return ChunkedLoss(model.token_losses, targets, size)(rows, weight, bias).sum()


class ChunkedLoss(autograd.Function):
    """Mean loss of rows, (number, hidden), computed `size` rows at a time, and its gradients.

    The gradients of a chunk are computed together with its loss, so that logits are not kept.
    """

    def __init__(
        self, token_losses: Callable[..., np.ndarray], targets: np.ndarray, size: int
    ) -> None:
        super().__init__()
        self.token_losses, self.targets, self.size = token_losses, targets, size
        self.training = autograd.is_recording()

    def forward(self, rows: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """Mean loss, (1,): with gradients, MXNet treats the shape () as unknown."""
        weight, bias = weight.detach(), bias.detach()
        total, pieces = np.zeros(1, ctx=rows.ctx), []
        if self.training:
            weight.attach_grad("add")
            bias.attach_grad("add")
        for start in range(0, len(rows), self.size):
            part = rows[start : start + self.size].detach()
            if self.training:
                part.attach_grad()
                pieces.append(part.grad)
            with autograd.record() if self.training else nullcontext():
                logits = np.dot(part, weight.T) + bias
                loss = self.token_losses(logits, self.targets[start : start + self.size]).sum()
            if self.training:
                loss.backward()
            total = total + loss.detach()
            total.wait_to_read()  # otherwise MXNet would start more chunks than fit in memory
        if self.training:
            self.gradients = np.concatenate(pieces), weight.grad, bias.grad
        return total / len(rows)

    def backward(self, d_loss: Any) -> list[nd.NDArray]:
        """Gradients of rows, weight and bias; MXNet passes and expects its older arrays here."""
        scale = d_loss.as_np_ndarray() / len(self.targets)
        return [(gradient * scale).as_nd_ndarray() for gradient in self.gradients]
