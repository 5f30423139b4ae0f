"""The loss of a batch with too many logits to hold at once."""

from collections.abc import Iterator
from typing import Any

from mxnet import autograd, nd, np, npx


class ChunkedLoss(autograd.Function):
    """The mean cross-entropy of rows, (number, hidden), with so many rows of logits at a time."""

    def __init__(self, targets: np.ndarray, size: int) -> None:
        super().__init__()
        self.targets, self.size = targets, size

    def forward(self, rows: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """The loss, (1,): where gradients are made, MXNet takes the shape () for an unknown one."""
        self.save_for_backward(rows, weight, bias)
        total = np.zeros(1, ctx=rows.ctx)
        for part in self._parts(rows):
            chances = npx.log_softmax(np.dot(rows[part], weight.T) + bias, axis=-1)
            total = total - npx.pick(chances, self.targets[part]).sum()
            total.wait_to_read()  # or more blocks would be begun than memory holds
        return total / len(rows)

    def backward(self, d_loss: Any) -> list[nd.NDArray]:
        """The gradients; here MXNet gives and takes its older arrays."""
        rows, weight, bias = self.saved_tensors
        pieces, d_weight, d_bias = [], np.zeros_like(weight), np.zeros_like(bias)
        scale = d_loss.as_np_ndarray() / len(rows)
        for part in self._parts(rows):
            d_logits = npx.softmax(np.dot(rows[part], weight.T) + bias, axis=-1)
            d_logits = (d_logits - npx.one_hot(self.targets[part], len(bias))) * scale
            pieces.append(np.dot(d_logits, weight))
            d_weight += np.dot(d_logits.T, rows[part])
            d_bias += d_logits.sum(axis=0)
            d_bias.wait_to_read()
        gradients = np.concatenate(pieces), d_weight, d_bias
        return [gradient.as_nd_ndarray() for gradient in gradients]

    def _parts(self, rows: np.ndarray) -> Iterator[slice]:
        for start in range(0, len(rows), self.size):
            yield slice(start, start + self.size)
