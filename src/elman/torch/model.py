"""Models, losses and optimizers: Module, Classifier, LinearRegression, RNNLMScratch, RNNLM."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from elman.book import module, rnnlm
from elman.inference import language_model
from elman.model.optimizers import Optimizer
from elman.model.weights import is_recurrent
from elman.torch import arrays
from elman.torch.arrays import numpy

__all__ = ["RNNLM", "Classifier", "LinearRegression", "Module", "RNNLMScratch"]

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def make_optimizer(
    wanted: Optimizer, named: Iterable[tuple[str, torch.nn.Parameter]]
) -> torch.optim.Optimizer:
    """Optimizer of some parameters with their names, with this description."""
    arguments, parameters = wanted.arguments, dict(named)
    factor = wanted.recurrent_factor
    arguments.pop("recurrent_lr", None)
    if factor == 1:
        return OPTIMIZERS[wanted.optimizer](parameters.values(), **arguments)
    recurrent = [weight for name, weight in parameters.items() if is_recurrent(name)]
    others = [weight for name, weight in parameters.items() if not is_recurrent(name)]
    # PyTorch multiplies the rate by the decay, which is to be that of the other layers.
    own = {"lr": wanted.recurrent_lr, "weight_decay": wanted.decay / factor}
    groups = [{"params": others}, {"params": recurrent} | own]
    return OPTIMIZERS[wanted.optimizer](groups, **arguments)


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


MAX_IDENTITY = 512  # vocabulary size up to which the rows of an identity matrix are fastest


class Module(nn.Module, module.Module):
    """Base class of models."""

    def __init__(self, plot_train_per_epoch: int = 2, plot_valid_per_epoch: int = 1) -> None:
        super().__init__()
        self.prepare_plots(plot_train_per_epoch, plot_valid_per_epoch)

    if TYPE_CHECKING:  # PyTorch's stubs type every attribute as a tensor or a module

        def __getattr__(self, name: str) -> Any: ...

    def __getstate__(self) -> dict[str, Any]:
        """State for a copy or a pickle: without the trainer, and without what PyTorch omits."""
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "trainer"}

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Outputs for a batch of inputs, computed by `self.net` unless overridden."""
        return module.Module.forward(self, X)

    def to_float(self, value: Any) -> float:
        """Convert a tensor of one element, or a number, to a Python float."""
        return float(value.detach() if isinstance(value, torch.Tensor) else value)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with the learning rate `self.lr`."""
        return torch.optim.SGD(self.parameters(), lr=self.lr)

    def apply_init(self, inputs: Sequence[Any], init: Any = None) -> None:
        """Run once, so that lazy layers infer their shapes; then apply `init` to `self.net`."""
        self.forward(*inputs)
        if init is not None:
            self.net.apply(init)


class Classifier(module.Classifier, Module):
    """Base class of classification models."""

    def accuracy(self, Y_hat: torch.Tensor, Y: torch.Tensor, averaged: bool = True) -> torch.Tensor:
        """Share of correct predictions; unless `averaged`, 1 or 0 for each."""
        preds = Y_hat.reshape(-1, Y_hat.shape[-1]).argmax(dim=1)
        correct = (preds == Y.reshape(-1)).type(torch.float32)
        return mean(self, correct) if averaged else correct

    def token_losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy in nats of each row of logits, (targets, classes)."""
        return F.cross_entropy(logits, targets, reduction="none")

    def loss(self, Y_hat: torch.Tensor, Y: torch.Tensor, averaged: bool = True) -> torch.Tensor:
        """Mean cross-entropy in nats; unless `averaged`, one value for each prediction."""
        losses = self.token_losses(Y_hat.reshape(-1, Y_hat.shape[-1]), Y.reshape(-1))
        return mean(self, losses) if averaged else losses

    def layer_summary(self, X_shape: tuple[int, ...]) -> None:
        """Print the output shape of each layer of `self.net`."""
        module.print_output_shapes(self.net, torch.randn(*X_shape))


class LinearRegression(Module):
    """Linear regression with the mean squared error."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.LazyLinear(1)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Predictions, (batch, 1)."""
        return self.net(X)

    def loss(self, y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean squared error."""
        return F.mse_loss(y_hat, y)

    def get_w_b(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias."""
        return self.net.weight.data, self.net.bias.data


@lru_cache(maxsize=8)
def identity(size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Identity matrix, cached; its rows are the one-hot vectors."""
    with torch.inference_mode(False):  # training uses it, too
        return torch.eye(size, dtype=dtype, device=device)


class RNNLMScratch(rnnlm.RNNLMScratch, Classifier):
    """Language model from scratch around `rnn`: ids (batch, steps) -> (batch, steps, vocab).

    A subclass may override `init_params`, `one_hot` and `output_layer`; `predict` and all
    other methods use the overrides.
    """

    xp = arrays

    def init_params(self) -> None:
        """Create the parameters of the output layer."""
        self.W_hq = nn.Parameter(
            torch.randn(self.rnn.num_hiddens, self.vocab_size) * self.rnn.sigma
        )
        self.b_q = nn.Parameter(torch.zeros(self.vocab_size))

    def _like(self) -> torch.Tensor:
        """Tensor with the precision and the device of the layers."""
        return next(self.rnn.parameters(), torch.empty(0))

    def one_hot(self, X: torch.Tensor) -> torch.Tensor:
        """Inputs of the layers, (steps, batch, vocab), for ids (batch, steps)."""
        dtype = self._like().dtype
        if self.vocab_size <= MAX_IDENTITY:
            return F.embedding(X.T, identity(self.vocab_size, dtype, X.device))
        zeros = torch.zeros(*X.T.shape, self.vocab_size, dtype=dtype, device=X.device)
        return zeros.scatter_(2, X.T.unsqueeze(2), 1.0)

    def output_layer(self, rnn_outputs: Any) -> torch.Tensor:
        """Logits, (batch, steps, vocab), for a list of outputs (batch, hidden)."""
        return torch.stack([H @ self.W_hq + self.b_q for H in rnn_outputs], 1)

    def loss(self, Y_hat: torch.Tensor, Y: torch.Tensor, averaged: bool = True) -> torch.Tensor:
        """Mean cross-entropy in nats; unless `averaged`, one value for each token."""
        if (
            averaged and Y.dim() == 2 and self.target_mask is None
        ):  # time-major, as returned by the layers: needs no copy
            Y_hat, Y = Y_hat.swapaxes(0, 1), Y.T
        return super().loss(Y_hat, Y, averaged)

    def forward(self, X: torch.Tensor, state: Any = None) -> torch.Tensor:
        """Logits for ids."""
        rnn_outputs, state = self.rnn(self.one_hot(X), state)
        self.final_state = rnnlm.detached(self.xp, state)
        return self.output_layer(rnn_outputs)

    @torch.no_grad()
    def step(self, ids: np.ndarray, state: Any = None) -> tuple[np.ndarray, Any]:
        """Logits for ids, a NumPy array, and the state after them, without dropout."""
        ids = language_model.ids_of(ids, self.vocab_size)
        X = torch.as_tensor(ids, device=self._like().device)
        with self.evaluating():
            rnn_outputs, state = self.rnn(self.one_hot(X), state)
            return numpy(self.output_layer(rnn_outputs)), state

    @torch.inference_mode()
    def greedy_decode(self, token: int, state: Any, mask: np.ndarray) -> tuple[list[int], Any]:
        """Most likely ids after `token`, one by one, and the state before the last.

        `mask`, (vocab,), is added to the logits. They end with -1 if the logits are not finite.
        """
        device, inputs, following = self._like().device, {}, []
        added = torch.as_tensor(mask, device=device)
        with self.evaluating():
            for _ in range(language_model.GREEDY_TOKENS):
                if token not in inputs:
                    inputs[token] = self.one_hot(torch.full((1, 1), token, device=device))
                rnn_outputs, state = self.rnn(inputs[token], state)
                logits = self.output_layer(rnn_outputs)
                token = int((logits + added).argmax()) if logits.isfinite().all() else -1
                following.append(token)
                if token < 0:
                    break
        return following, state


class RNNLM(rnnlm.RNNLM, RNNLMScratch):
    """Language model: one-hot or embedding input, recurrent layers, a linear output layer.

    Maps ids (batch, steps) to logits (batch, steps, `vocab_size`).
    """

    def init_params(self) -> None:
        """Create the embedding, if there is one, and the output layer."""
        if self.embedding_size:
            self.embedding = nn.Embedding(self.vocab_size, self.embedding_size)
        if self.tied:
            self.linear = nn.Linear(self.embedding_size, self.vocab_size)
            self.embedding.weight = self.linear.weight
        else:
            self.linear = nn.LazyLinear(self.vocab_size)

    def _like(self) -> torch.Tensor:
        return self.linear.weight

    def one_hot(self, X: torch.Tensor) -> torch.Tensor:
        """Inputs of the layers, (steps, batch, features), for ids (batch, steps)."""
        return self.embedding(X.T) if self.embedding_size else super().one_hot(X)

    def output_layer(self, hiddens: torch.Tensor) -> torch.Tensor:
        """Logits, (batch, steps, vocab), for outputs (steps, batch, hidden)."""
        return self.linear(hiddens).swapaxes(0, 1)

    def chunked_loss(self, X: torch.Tensor, Y: torch.Tensor, state: Any = None) -> torch.Tensor:
        """Mean loss of a batch, computed with one chunk of logits at a time."""
        hiddens, state = self.rnn(self.one_hot(X), state)
        self.final_state = rnnlm.detached(self.xp, state)
        rows = hiddens.reshape(-1, hiddens.shape[-1])  # (steps * batch, hidden)
        self.linear(rows[:1])  # so that a lazy layer infers its shape
        size = rnnlm.chunk_rows(self.vocab_size)
        return chunked_loss(self, rows, Y.T.reshape(-1), size)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer named in `optimizer`."""
        return make_optimizer(rnnlm.optimizer_of(self), self.named_parameters())


RNNLM.chunked_head = rnnlm.head_of(RNNLM)
