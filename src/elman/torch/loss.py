"""Cross-entropy in nats over the targets that count: of logits, or chunk by chunk of states."""

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F


def cross_entropy(
    model: Any, Y_hat: torch.Tensor, Y: torch.Tensor, averaged: bool = True
) -> torch.Tensor:
    """Mean cross-entropy of logits, (..., classes); unless `averaged`, that of each target."""
    flat, targets = Y_hat.reshape(-1, Y_hat.shape[-1]), Y.reshape(-1)  # (targets, classes)
    if not averaged:
        return F.cross_entropy(flat, targets, reduction="none")
    return F.cross_entropy(counted(model, flat), counted(model, targets))


def counted(model: Any, values: torch.Tensor) -> torch.Tensor:
    """Rows of `values`, (targets, ...), whose targets count."""
    mask = model.target_mask
    return values if mask is None else values[np.flatnonzero(mask)]


def chunked_cross_entropy(
    model: Any, rows: torch.Tensor, targets: torch.Tensor, size: int
) -> torch.Tensor:
    """Mean cross-entropy of states, (steps * batch, hidden), with `size` rows of logits at a time.

    The targets are (steps * batch,).
    """
    if model.target_mask is not None:
        own = np.flatnonzero(model.target_mask.T)
        rows, targets = rows[own], targets[own]
    loss: torch.Tensor = ChunkedLoss.apply(
        rows, model.linear.weight, model.linear.bias, targets, size
    )
    return loss


class ChunkedLoss(torch.autograd.Function):
    """Mean cross-entropy of rows, (number, hidden), computed `size` rows at a time."""

    @staticmethod
    def forward(
        rows: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        targets: torch.Tensor,
        size: int,
    ) -> torch.Tensor:
        """Mean loss of `rows` for `targets`."""
        blocks = zip(rows.split(size), targets.split(size), strict=True)
        totals = [
            F.cross_entropy(F.linear(part, weight, bias), aims, reduction="sum")
            for part, aims in blocks
        ]
        return torch.stack(totals).sum() / len(rows)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        """Keep the inputs, but no logits."""
        ctx.save_for_backward(*inputs[:-1])
        ctx.size = inputs[-1]

    @staticmethod
    def backward(ctx: Any, d_loss: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of rows, weight and bias, from logits that are computed again."""
        rows, weight, bias, targets = ctx.saved_tensors
        d_rows, d_weight, d_bias = map(torch.zeros_like, (rows, weight, bias))
        for start in range(0, len(rows), ctx.size):
            part = slice(start, start + ctx.size)
            d_logits = F.linear(rows[part], weight, bias).softmax(dim=1)  # (size, vocab)
            d_logits[torch.arange(len(d_logits)), targets[part]] -= 1
            d_logits *= d_loss / len(rows)
            d_rows[part] = d_logits @ weight
            d_weight.addmm_(d_logits.T, rows[part])
            d_bias += d_logits.sum(dim=0)
        return d_rows, d_weight, d_bias, None, None
