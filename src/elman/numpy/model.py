"""The language model: input, recurrent layers, output layer, loss; and its optimizers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import numpy as np

from elman.book import module, rnnlm
from elman.errors import ElmanError, require_at_least, shape_or_value
from elman.inference import language_model
from elman.model import weights
from elman.model.optimizers import Optimizer
from elman.model.options import ModelOptions, check_precision
from elman.model.weights import Architecture, Weights, is_recurrent
from elman.numpy import arrays
from elman.numpy.arrays import Array, look_up, look_up_backward, matmul
from elman.user_classes import Attributes

__all__ = ["RNNLM", "SGD", "Adam", "AdamW", "Module"]


class Trainable(Protocol):
    """A model with weights and their gradients, by canonical name."""

    parameters: Weights
    gradients: Weights


class NumPyOptimizer(ABC):
    """An optimizer of a model in NumPy, and its part of a checkpoint.

    `factors`: factors of the learning rate, by name, for weights that have another one.
    """

    lr: float
    factors: Mapping[str, float] = MappingProxyType({})
    steps: int | None = None  # taken so far, if they change the next one

    @abstractmethod
    def step(self) -> None:
        """Update the model's parameters using its gradients."""

    def rate(self, name: str) -> float:
        """Learning rate of a weight."""
        return self.lr * self.factors.get(name, 1.0)

    def kept(self) -> dict[str, Weights]:
        """Arrays that it keeps for each parameter. Steps change them in place."""
        return {}


class SGD(NumPyOptimizer):
    """Stochastic gradient descent with momentum, as in torch.optim.SGD."""

    def __init__(self, model: Trainable, lr: float, momentum: float = 0.0) -> None:
        Optimizer.given("sgd", lr, momentum)  # raises for invalid values
        self.model, self.lr, self.momentum = model, lr, momentum
        self.velocity = {name: np.zeros_like(value) for name, value in model.parameters.items()}

    def kept(self) -> dict[str, Weights]:
        """The velocities, if there is momentum."""
        return {"velocity": self.velocity} if self.momentum else {}

    def step(self) -> None:
        """Update the model's parameters using its gradients."""
        for name, change in self.model.gradients.items():
            if self.momentum:
                velocity = self.velocity[name]
                velocity *= self.momentum
                velocity += change
                change = velocity
            self.model.parameters[name] -= self.rate(name) * change


class Adam(NumPyOptimizer):
    """Adam (Kingma and Ba 2015) with the paper's constants, as in torch.optim.Adam."""

    steps: int
    beta1, beta2, epsilon = 0.9, 0.999, 1e-8

    def __init__(self, model: Trainable, lr: float) -> None:
        Optimizer.given("adam", lr)
        self.model, self.lr, self.steps = model, lr, 0
        self.mean = {name: np.zeros_like(value) for name, value in model.parameters.items()}
        self.square = {name: np.zeros_like(value) for name, value in model.parameters.items()}

    def kept(self) -> dict[str, Weights]:
        """Means of the gradients and of their squares."""
        return {"mean": self.mean, "square": self.square}

    def step(self) -> None:
        """Update the model's parameters using its gradients."""
        self.steps += 1
        for name, gradient in self.model.gradients.items():
            mean, square = self.mean[name], self.square[name]
            mean += (1 - self.beta1) * (gradient - mean)
            square += (1 - self.beta2) * (gradient * gradient - square)
            unbiased = mean / (1 - self.beta1**self.steps)
            deviation = np.sqrt(square / (1 - self.beta2**self.steps))
            step = self.rate(name) * unbiased / (deviation + self.epsilon)
            self.model.parameters[name] -= step


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), as in torch.optim.AdamW.

    Before a step, every weight, including biases, is multiplied by 1 - lr * weight_decay.
    Recurrent layers can have another learning rate, `recurrent_lr`, and the same decay.
    """

    def __init__(
        self,
        model: Trainable,
        lr: float,
        weight_decay: float | None = None,
        recurrent_lr: float | None = None,
    ) -> None:
        super().__init__(model, lr)
        settings = Optimizer.given(
            "adamw", lr, weight_decay=weight_decay, recurrent_lr=recurrent_lr
        )
        self.weight_decay = settings.decay
        recurrent = filter(is_recurrent, model.parameters)
        self.factors = dict.fromkeys(recurrent, settings.recurrent_factor)

    def step(self) -> None:
        """Update the model's parameters using its gradients."""
        for name in self.model.gradients:
            self.model.parameters[name] *= 1 - self.lr * self.weight_decay
        super().step()


OPTIMIZERS: dict[str, Callable[..., NumPyOptimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


class Module(module.Module):
    """A model with `parameters` and, after `backward`, `gradients`, both by canonical name.

    Values for `backward` are kept between `train()` and `eval()`.
    """

    parameters: Weights
    gradients: Weights

    def __init__(self, plot_train_per_epoch: int = 2, plot_valid_per_epoch: int = 1) -> None:
        self.prepare_plots(plot_train_per_epoch, plot_valid_per_epoch)
        self.gradients = {}

    def generators(self) -> dict[str, np.random.Generator]:
        """Generators that training draws from, by name; a checkpoint contains their states."""
        return {}


def cross_entropy(logits: Array, targets: Array) -> tuple[float, Array]:
    """Mean cross-entropy in nats, and its gradient: (softmax - one-hot) / tokens.

    Logits are (tokens, vocab), targets (tokens,).
    """
    tokens = np.arange(len(targets))
    shifted = logits - logits.max(axis=1, keepdims=True)
    picked = shifted[tokens, targets]
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    loss = float(np.mean(np.log(sums[:, 0]) - picked))
    exps /= sums
    exps[tokens, targets] -= 1
    exps /= len(targets)
    return loss, exps


@dataclass(frozen=True)
class Layers(Attributes):
    """Attributes of recurrent layers; a user's own layers may lack some."""

    num_hiddens: int | None = None
    num_inputs: int | None = None
    precision: str | None = None


class RNNLM(rnnlm.LanguageModel, Module):
    """A language model: one-hot or embedding input, recurrent layers, a linear output layer.

    Maps ids (batch, steps) to logits (batch, steps, vocab_size).
    """

    def __init__(
        self,
        rnn: Any,
        vocab_size: int,
        lr: float = 0.01,
        embedding_size: int = 0,
        optimizer: str = "sgd",
        momentum: float = 0.0,
        tied: bool = False,
        seed: int = 0,
        precision: str = "single",
        weight_decay: float | None = None,
        recurrent_lr: float | None = None,
    ) -> None:
        """Make the model.

        - `rnn`: recurrent layers: an RNN, GRU, LSTM or Recurrent.
        - `vocab_size`: number of tokens.
        - `lr`: learning rate. SGD needs about 1, Adam about 0.005.
        - `embedding_size`: size of the embedding; 0 for one-hot input.
        - `optimizer`: sgd (default, as in the book), adam or adamw.
        - `momentum`: momentum of sgd.
        - `tied`: share the embedding's weights with the output layer.
        - `seed`: seed of the initial weights.
        - `precision`: precision of the factors of matrix products, single or bf16; the same as in
          the layers.
        - `weight_decay`: weight decay of adamw, 0.01 by default.
        - `recurrent_lr`: learning rate of the recurrent layers with adamw, `lr` by default.
        """
        super().__init__()
        layers = Layers.of(rnn)
        if layers.num_hiddens is None:
            raise ElmanError(
                f"rnn must be a stack of recurrent layers, such as RNN(...), got {rnn!r}"
            )
        # Raises for invalid values.
        Optimizer.given(optimizer, lr, momentum, weight_decay, recurrent_lr)
        rnnlm.check_language_model(rnn, tied, embedding_size)
        require_at_least(1, vocab=vocab_size)
        require_at_least(0, embedding=embedding_size, seed=seed)
        wanted = embedding_size or vocab_size
        if layers.num_inputs not in (None, wanted):
            raise ElmanError(
                f"the rnn must read {wanted} inputs, got {layers.num_inputs}: give it num_inputs "
                "equal to vocab_size, or to embedding_size if there is an embedding"
            )
        check_precision(precision)
        if layers.precision not in (None, precision):
            raise ElmanError(
                f"rnn and model must have the same precision, got {layers.precision} and "
                f"{precision}: give both the same"
            )
        self.save_hyperparameters()
        self.options = ModelOptions(precision=precision)
        own = {
            name: shape
            for name, shape in weights.shapes(self.architecture()).items()
            if not weights.is_recurrent(name)
        }
        self.parameters = weights.draw(own, rnn.cell, rnn.num_hiddens, seed)
        self.parameters |= {f"rnn.{name}": value for name, value in rnn.parameters.items()}

    rnn: Any
    vocab_size: int
    lr: float
    embedding_size: int
    optimizer: str
    momentum: float
    tied: bool
    precision: str
    weight_decay: float | None
    recurrent_lr: float | None
    _d_logits: Any = None
    _targets: Any = None  # of a chunked loss, (steps * batch,)
    _counted: Any = None  # indices of the targets that count; None for all
    xp = arrays
    optimizers: ClassVar[Mapping[str, Callable[..., NumPyOptimizer]]] = OPTIMIZERS  # by name

    def architecture_fields(self) -> tuple[Any, ...]:
        """Fields of an Architecture, in order and unchecked."""
        rnn = self.rnn
        sizes = self.vocab_size, rnn.num_hiddens, rnn.num_layers, self.embedding_size
        return rnn.cell, *sizes, self.tied

    def architecture(self) -> Architecture:
        """Cell, sizes and options of this model."""
        return Architecture(*self.architecture_fields())

    def generators(self) -> dict[str, np.random.Generator]:
        """The generators of the layers, for dropout."""
        return self.rnn.generators() if isinstance(self.rnn, Module) else {}

    def load_weights(self, values: Weights) -> None:
        """Use these checked weights and their precision."""
        self.parameters = values
        self.rnn.parameters = {
            name.removeprefix("rnn."): value
            for name, value in self.parameters.items()
            if weights.is_recurrent(name)
        }

    def train(self) -> None:
        """From now on, keep what `backward` needs."""
        self.training = self.rnn.training = True

    def eval(self) -> None:
        """From now on, keep nothing."""
        self.training = self.rnn.training = False

    @property
    def _output_weight(self) -> Array:
        return self.parameters["embedding.weight" if self.tied else "linear.weight"]

    def _read(self, ids: Array, state: Any) -> tuple[Array, Any]:
        hidden, state = self._run(ids, state)
        return self._logits(hidden).swapaxes(0, 1), state  # (batch, steps, vocab)

    def _run(self, ids: Array, state: Any) -> tuple[Array, Any]:
        """Outputs of the layers, (steps, batch, hidden), and the state after them."""
        ids = language_model.integers(ids, 2)
        inputs = ids.T  # (steps, batch)
        if self.embedding_size:
            language_model.check_ids(ids, self.vocab_size)
            table = self.parameters["embedding.weight"]
            inputs = look_up(table, inputs)  # (steps, batch, features)
        hidden, state = self.rnn(inputs, state)
        self._ids, self._hidden = ids, hidden
        return hidden, state

    def _logits(self, hidden: Array) -> Array:
        logits = matmul(hidden, self._output_weight.T, self.precision)
        return logits + self.parameters["linear.bias"]

    def forward(self, X: Array, state: Any = None) -> Array:
        """Logits, (batch, steps, vocab), for ids (batch, steps)."""
        logits, self.final_state = self._read(X, state)
        return logits

    def step(self, ids: Array, state: Any = None) -> tuple[Array, Any]:
        """Logits for ids and the state after them, without dropout."""
        with self.evaluating(), np.errstate(over="ignore", invalid="ignore"):  # the logits show it
            return self._read(ids, state)

    def loss(self, y_hat: Array, y: Array) -> float:
        """Mean cross-entropy of logits (batch, steps, vocab) for targets (batch, steps)."""
        y = language_model.integers(y, 2)
        wanted = (*y.shape, self.vocab_size)
        if (got := shape_or_value(y_hat)) != wanted:
            raise ElmanError(f"the logits for targets {y.shape} must be {wanted}, got {got!r}")
        language_model.check_ids(y, self.vocab_size)
        flat = y_hat.swapaxes(0, 1).reshape(-1, y_hat.shape[-1])  # (steps * batch, vocab)
        targets, mask = y.T.ravel(), self.target_mask
        if mask is None:
            loss, self._d_logits = cross_entropy(flat, targets)
            return loss
        counted = np.flatnonzero(mask.T)  # of steps * batch
        self._d_logits = np.zeros_like(flat)
        loss, self._d_logits[counted] = cross_entropy(flat[counted], targets[counted])
        return loss

    def chunked_loss(self, X: Array, Y: Array, state: Any = None) -> float:
        """Loss of a batch, with logits computed one chunk at a time."""
        language_model.check_ids(Y, self.vocab_size)
        _, self.final_state = self._run(X, state)
        self._d_logits, self._targets, mask = None, Y.T.ravel(), self.target_mask
        self._counted = None if mask is None else np.flatnonzero(mask.T)
        return sum(loss * share for _, share, loss, _ in self._chunks())

    def _chunks(self) -> Iterator[tuple[Any, float, float, Array]]:
        """Rows of each chunk, their share of all, their mean loss and the logits' gradient."""
        hidden = self._hidden.reshape(len(self._targets), -1)  # (steps * batch, hidden)
        size = rnnlm.chunk_rows(self.vocab_size)
        number = len(hidden) if self._counted is None else len(self._counted)
        for start in range(0, number, size):
            rows: Any = slice(start, start + size)
            if self._counted is not None:
                rows = self._counted[rows]
            targets = self._targets[rows]
            loss, d_logits = cross_entropy(self._logits(hidden[rows]), targets)
            yield rows, len(targets) / number, loss, d_logits

    def backward(self) -> None:
        """Fill `gradients` with the gradients of the last loss."""
        hidden = self._hidden.reshape(-1, self._hidden.shape[-1])  # (steps * batch, hidden)
        d_hidden, d_weight, d_bias = self._backward_head(hidden)
        d_inputs = self.rnn.backward(d_hidden.reshape(self._hidden.shape))
        self.gradients = {f"rnn.{name}": value for name, value in self.rnn.gradients.items()}
        self.gradients["linear.bias"] = d_bias
        if d_inputs is not None:
            d_table = look_up_backward(d_inputs, self._ids.T, self.vocab_size)
            self.gradients["embedding.weight"] = d_table + d_weight if self.tied else d_table
        if not self.tied:
            self.gradients["linear.weight"] = d_weight

    def _backward_head(self, hidden: Array) -> tuple[Array, Array, Array]:
        """Gradients of the layers' outputs, and of the output layer's weight and bias."""
        weight = self._output_weight
        if self._d_logits is not None:
            return self._backward_logits(self._d_logits, hidden)
        d_hidden, d_weight = np.zeros_like(hidden), np.zeros_like(weight)
        d_bias = np.zeros(len(weight), weight.dtype)
        for rows, share, _, d_logits in self._chunks():
            d_logits *= share
            d_hidden[rows], d_weight_of_rows, d_bias_of_rows = self._backward_logits(
                d_logits, hidden[rows]
            )
            d_weight += d_weight_of_rows
            d_bias += d_bias_of_rows
        return d_hidden, d_weight, d_bias

    def _backward_logits(self, d_logits: Array, hidden: Array) -> tuple[Array, Array, Array]:
        """The same three for tokens, given their logits' gradient, (tokens, vocab)."""
        d_hidden = matmul(d_logits, self._output_weight, self.precision)
        d_weight = matmul(d_logits.T, hidden, self.precision)
        return d_hidden, d_weight, d_logits.sum(axis=0)

    def configure_optimizers(self) -> NumPyOptimizer:
        """Optimizer named in the constructor."""
        wanted = rnnlm.optimizer_of(self)
        return self.optimizers[wanted.optimizer](self, **wanted.arguments)


RNNLM.chunked_head = rnnlm.head_of(RNNLM)
