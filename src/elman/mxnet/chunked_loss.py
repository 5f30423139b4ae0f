"""Cross-entropy of many rows, with the logits of one chunk of rows at a time."""

from collections.abc import Iterator
from typing import Any

from mxnet import autograd, nd, np, npx


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
