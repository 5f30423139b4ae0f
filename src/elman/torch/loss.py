"""Mean of the losses of the targets that count: from logits, or chunk by chunk from states."""

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F


def mean(model: Any, values: torch.Tensor) -> torch.Tensor:
    """Mean of a value for each target, (targets,), over the targets that count."""
    mask = model.target_mask
    return (values if mask is None else values[np.flatnonzero(mask)]).mean()


def chunked_loss(model: Any, rows: torch.Tensor, targets: torch.Tensor, size: int) -> torch.Tensor:
    """Mean loss of states, (steps * batch, hidden), with `size` rows of logits at a time.

    The targets are (steps * batch,). The backward pass computes the logits of each chunk again.
    """
    if model.target_mask is not None:
        own = np.flatnonzero(model.target_mask.T)
        rows, targets = rows[own], targets[own]

    weight, bias = model.linear.weight, model.linear.bias
    loss: torch.Tensor = ChunkedLoss.apply(rows, weight, bias, targets, size, model.token_losses)
    return loss


class ChunkedLoss(torch.autograd.Function):
    """Mean loss of rows, (number, hidden). The backward pass computes the logits again.

    The gradients of the weight are added in place. Autograd would write the gradient of each chunk
    first, and then add it.
    """

    @staticmethod
    def forward(
        rows: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        targets: torch.Tensor,
        size: int,
        token_losses: Any,
    ) -> torch.Tensor:
        """Mean loss of `rows` for `targets`, `size` rows at a time."""
        totals = [
            token_losses(F.linear(part, weight, bias), aims).sum()
            for part, aims in zip(rows.split(size), targets.split(size), strict=True)
        ]
        return torch.stack(totals).sum() / len(rows)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        """Keep the inputs, but no logits."""
        ctx.save_for_backward(*inputs[:4])
        ctx.size, ctx.token_losses = inputs[4:]

    @staticmethod
    def backward(ctx: Any, d_loss: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of rows, weight and bias."""
        rows, weight, bias, targets = ctx.saved_tensors
        d_rows, d_weight, d_bias = map(torch.zeros_like, (rows, weight, bias))
        for start in range(0, len(rows), ctx.size):
            part = slice(start, start + ctx.size)
            logits = F.linear(rows[part], weight, bias).requires_grad_()  # (size, vocab)
            with torch.enable_grad():
                total = ctx.token_losses(logits, targets[part]).sum()
            (d_logits,) = torch.autograd.grad(total, logits, d_loss / len(rows))
            d_rows[part] = d_logits @ weight
            d_weight.addmm_(d_logits.T, rows[part])
            d_bias += d_logits.sum(dim=0)
        return d_rows, d_weight, d_bias, None, None, None
