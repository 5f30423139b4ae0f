"""Models and their losses: Module, Classifier, LinearRegression, RNNLMScratch, RNNLM."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from elman.book import module, rnnlm
from elman.inference import language_model
from elman.torch import arrays
from elman.torch.arrays import numpy
from elman.torch.loss import chunked_loss, mean
from elman.torch.optimizers import make_optimizer

__all__ = ["RNNLM", "Classifier", "LinearRegression", "Module", "RNNLMScratch"]


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
