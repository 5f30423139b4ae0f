"""Plain PyTorch loops: training, writing, scoring."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from bare.lines import losses_of_lines, padded_batches
from torch import nn
from torch.nn import functional as F

Step = Callable[[np.ndarray, np.ndarray], float]
CELLS = {
    "rnn": nn.RNN,
    "rnn-relu": partial(nn.RNN, nonlinearity="relu"),
    "gru": nn.GRU,
    "lstm": nn.LSTM,
}
SCORED = 4096  # characters at a time
LINES = 256  # lines at a time


def training(
    vocab: int,
    hidden: int,
    cell: str = "rnn",
    layers: int = 1,
    embedding: int = 0,
    precision: str = "single",
    sparse: bool = False,
) -> tuple[Step, Step]:
    """Functions of ids and targets, (batch, steps), that take an update, and validate.

    - `embedding`: its size; 0 for one-hot input.
    - `precision`: single; autocast, which computes products in bfloat16; or bf16, which computes
      everything but the loss with weights in bfloat16, and adds updates to those in single.
    - `sparse`: have rows of the embedding's gradient only where it is not zero.
    """
    rnn, linear = CELLS[cell](embedding or vocab, hidden, layers), nn.Linear(hidden, vocab)
    table = nn.Embedding(vocab, embedding or vocab, _weight=None if embedding else torch.eye(vocab))
    table.requires_grad_(bool(embedding))
    table.sparse = sparse
    model = nn.ModuleList([rnn, linear, table])
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    masters = weights
    if precision == "bf16":
        masters = [weight.detach().clone().requires_grad_() for weight in weights]
        model.bfloat16()
    optim = torch.optim.SGD(masters, lr=1, fused=not sparse)

    def loss_of(X: np.ndarray, Y: np.ndarray) -> torch.Tensor:
        ids, targets = torch.from_numpy(X).T, torch.from_numpy(Y).T  # (steps, batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
            logits = linear(rnn(table(ids))[0])
        return F.cross_entropy(logits.reshape(-1, vocab).float(), targets.reshape(-1))

    def update(X: np.ndarray, Y: np.ndarray) -> float:
        loss = loss_of(X, Y)
        model.zero_grad()
        loss.backward()
        if masters is not weights:
            for master, weight in zip(masters, weights, strict=True):
                master.grad = weight.grad.float()
        clip(masters)
        optim.step()
        if masters is not weights:
            with torch.no_grad():
                torch._foreach_copy_(weights, masters)
        return loss.item()

    @torch.no_grad()
    def validate(X: np.ndarray, Y: np.ndarray) -> float:
        return loss_of(X, Y).item()

    return update, validate


@torch.no_grad()
def clip(parameters: Sequence[torch.Tensor]) -> None:
    """Scale all gradients so that their common norm is at most 1.

    That is `clip_grad_norm_`, which does not take sparse gradients.
    """
    parts = []
    for parameter in parameters:
        if parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            parts.append(parameter.grad.values())
        else:
            parts.append(parameter.grad)
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(parts)))
    torch._foreach_mul_(parts, torch.clamp(1 / (norm + 1e-6), max=1))


def writing(vocab: int, hidden: int, cell: str = "rnn") -> Callable[[], Any]:
    """A function that writes 1,000 characters.

    The products are written out: a call of a layer for one token takes several times as long.
    """
    rnn, linear = CELLS[cell](vocab, hidden), nn.Linear(hidden, vocab)
    W, W_out, b_out = (w.detach() for w in (rnn.weight_hh_l0, linear.weight, linear.bias))
    rows = (rnn.weight_ih_l0.T + rnn.bias_ih_l0 + rnn.bias_hh_l0).detach().contiguous().unbind()

    def rnn_step(x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor]:
        return (torch.addmv(x, W, h).tanh_(),)

    def lstm_step(
        x: torch.Tensor, h: torch.Tensor, c: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        i, f, g, o = torch.addmv(x, W, h).chunk(4)
        c = torch.addcmul(c.mul_(f.sigmoid_()), i.sigmoid_(), g.tanh_())
        return o.sigmoid_().mul_(c.tanh()), c

    step: Any = {"rnn": rnn_step, "lstm": lstm_step}[cell]

    @torch.inference_mode()
    def run() -> None:
        state, token = tuple(torch.zeros(2 if cell == "lstm" else 1, hidden)), 0
        for _ in range(1000):
            state = step(rows[token], *state)
            token = int(torch.addmv(b_out, W_out, state[0]).argmax())

    return run


def scoring(vocab: int, hidden: int, ids: np.ndarray) -> Callable[[], Any]:
    """A function that reads a text, and sums up the losses of its characters."""
    rnn, linear, table = nn.RNN(vocab, hidden), nn.Linear(hidden, vocab), torch.eye(vocab)
    text = torch.from_numpy(ids)

    @torch.inference_mode()
    def run() -> float:
        state, total = torch.zeros(1, hidden), 0.0
        for piece, targets in zip(text[:-1].split(SCORED), text[1:].split(SCORED), strict=True):
            hiddens, state = rnn(F.embedding(piece, table), state)
            total += F.cross_entropy(linear(hiddens), targets, reduction="sum").item()
        return total

    return run


def scoring_lines(
    vocab: int, hidden: int, lines: list[np.ndarray], cell: str = "rnn"
) -> Callable[[], list[np.ndarray]]:
    """A function that reads lines, and returns the losses of each one's characters."""
    rnn, linear, table = CELLS[cell](vocab, hidden), nn.Linear(hidden, vocab), torch.eye(vocab)

    @torch.inference_mode()
    def losses(ids: np.ndarray, targets: np.ndarray) -> np.ndarray:
        hiddens, _ = rnn(F.embedding(torch.from_numpy(ids), table))
        logits, wanted = linear(hiddens).reshape(-1, vocab), torch.from_numpy(targets).reshape(-1)
        return F.cross_entropy(logits, wanted, reduction="none").view(targets.shape).numpy()

    return lambda: losses_of_lines(lines, padded_batches(lines, LINES), losses)
