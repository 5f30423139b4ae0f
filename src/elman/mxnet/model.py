"""Models, losses and optimizers: Module, Classifier, LinearRegression, RNNLMScratch, RNNLM."""

import math
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import mxnet
import numpy as _numpy
from mxnet import autograd, gluon, init, nd, np, npx
from mxnet.gluon import nn

from elman.book import module, rnnlm
from elman.book.module import HyperParameters
from elman.inference import language_model
from elman.model.optimizers import Optimizer
from elman.mxnet import arrays
from elman.mxnet.arrays import from_numpy, numpy

__all__ = ["RNNLM", "Classifier", "LinearRegression", "Module", "RNNLMScratch"]


class Adam(mxnet.optimizer.Adam):
    """Adam with the paper's epsilon, added to the bias-corrected deviation, as in PyTorch.

    With `decay`, it is AdamW: before a step, weights are multiplied by 1 - learning rate * decay.
    `factors` are factors of the learning rate for some weights, by their indices.
    """

    def __init__(self, learning_rate: float, decay: float, factors: Mapping[int, float]) -> None:
        super().__init__(learning_rate)
        self.decay, self.factors = decay, factors

    def update(self, index: int, weight: Any, grad: Any, state: Any) -> None:
        """Update one parameter."""
        steps = self._index_update_count.get(index, 0) + 1
        self.epsilon = 1e-8 * (1 - self.beta2**steps) ** 0.5
        if self.decay:
            weight *= 1 - self.learning_rate * self.decay
        super().update(index, weight, grad, state)

    def _get_lr(self, index: int) -> float:
        """Learning rate of one parameter."""
        rate: float = super()._get_lr(index) * self.factors.get(index, 1.0)
        return rate


def make_optimizer(
    wanted: Optimizer, parameters: Mapping[str, Any], recurrent: Collection[str] = ()
) -> gluon.Trainer:
    """Optimizer of Gluon's parameters by name, with this description.

    - `recurrent`: names of those of the recurrent layers.
    """
    # A Trainer sorts names as strings: dense10_weight before dense9_weight. The numbers depend on
    # the layers made before, and so would the order of the state in a checkpoint.
    names = sorted(parameters, key=numbered)
    in_order = [parameters[name] for name in names]
    if wanted.optimizer in ("adam", "adamw"):
        factor = wanted.recurrent_factor
        factors = {index: factor for index, name in enumerate(names) if name in recurrent}
        return gluon.Trainer(in_order, Adam(wanted.lr, wanted.decay, factors))
    settings = {"learning_rate": wanted.lr, "momentum": wanted.momentum}
    return gluon.Trainer(in_order, "sgd", settings)


def numbered(name: str) -> list[str | int]:
    """A name as a key that compares the numbers in it as numbers."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


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


# Options of compiled layers. They reuse their memory; allocating it took a third of the time.
COMPILED = {"static_alloc": True, "static_shape": True}


class Module(nn.Block, module.Module):
    """Base class of models.

    Its parameters are Gluon's or, for a module from scratch, the arrays among its attributes.
    """

    def __init__(self, plot_train_per_epoch: int = 2, plot_valid_per_epoch: int = 1) -> None:
        super().__init__()
        self.prepare_plots(plot_train_per_epoch, plot_valid_per_epoch)

    def __getstate__(self) -> dict[str, Any]:
        """State for a copy or a pickle: without the trainer and compiled code."""
        self.apply(forget_compiled)
        return module.Module.__getstate__(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy or a pickle, and attach gradients again."""
        self.__dict__.update(state)
        for parameter in each_parameter(self):
            if parameter._data is not None:
                parameter._init_grad()
        for array in self.get_scratch_params():
            array.attach_grad()

    def forward(self, X: np.ndarray) -> np.ndarray:
        """Outputs for a batch of inputs, computed by `self.net` unless overridden."""
        return module.Module.forward(self, X)

    def parameters(self) -> Any:
        """Gluon's parameters by name; if there are none, a list of the arrays."""
        with warnings.catch_warnings():  # Gluon warns about modules in lists; they are found below
            warnings.simplefilter("ignore", UserWarning)
            parameters = self.collect_params()
        return parameters if len(parameters.keys()) else self.get_scratch_params()

    def get_scratch_params(self) -> list[np.ndarray]:
        """Arrays among the attributes, including those in lists and in other modules."""
        return scratch_params(list(self._trainable_attributes().values()))

    def _trainable_attributes(self) -> dict[str, Any]:
        """Attributes that may contain parameters: all but the final state."""
        return {name: value for name, value in vars(self).items() if name != "final_state"}

    def set_scratch_params_device(self, device: mxnet.Context) -> None:
        """Move these arrays, and attach gradients to them."""
        self.__dict__.update(
            {name: moved(value, device) for name, value in self._trainable_attributes().items()}
        )

    def configure_optimizers(self) -> Any:
        """SGD with the learning rate `self.lr`."""
        parameters = self.parameters()
        if isinstance(parameters, list):
            return SGD(parameters, self.lr)
        return gluon.Trainer(parameters, "sgd", {"learning_rate": self.lr})


def forget_compiled(block: nn.Block) -> None:
    """Compile a block again when it is next called."""
    if isinstance(block, gluon.HybridBlock):
        block._clear_cached_op()
    for parameter in block.params.values():
        parameter._var = None  # a symbol; a pickle would restore another class


def scratch_params(value: Any) -> list[np.ndarray]:
    """Arrays in `value`: an array, a module, a list of these, or anything else."""
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, Module):
        return value.get_scratch_params()
    if isinstance(value, list):
        return [array for part in value for array in scratch_params(part)]
    return []


def moved(value: Any, device: mxnet.Context) -> Any:
    """`value` with its arrays on a device and gradients attached."""
    if isinstance(value, np.ndarray):
        value = value.as_in_ctx(device)
        value.attach_grad()
    elif isinstance(value, Module):
        value.set_scratch_params_device(device)
    elif isinstance(value, list):
        value[:] = [moved(part, device) for part in value]
    return value


class SGD(HyperParameters):
    """Stochastic gradient descent on arrays, for modules from scratch."""

    def __init__(self, params: Sequence[np.ndarray], lr: float) -> None:
        self.save_hyperparameters()

    def step(self, _: int) -> None:
        """Update the arrays. The argument (Gluon's batch size) is unused."""
        for param in self.params:
            param -= self.lr * param.grad


class Classifier(module.Classifier, Module):
    """Base class of classification models."""

    def accuracy(self, Y_hat: np.ndarray, Y: np.ndarray, averaged: bool = True) -> np.ndarray:
        """Share of correct predictions; unless `averaged`, 1 or 0 for each."""
        preds = Y_hat.reshape(-1, Y_hat.shape[-1]).argmax(axis=1).astype(Y.dtype)
        correct = (preds == Y.reshape(-1)).astype(np.float32)
        return mean(self, correct) if averaged else correct

    def token_losses(self, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Cross-entropy in nats of logits, (..., classes), for each target."""
        return -npx.pick(npx.log_softmax(logits, axis=-1), targets)

    def loss(self, Y_hat: np.ndarray, Y: np.ndarray, averaged: bool = True) -> np.ndarray:
        """Mean cross-entropy in nats; unless `averaged`, one value for each prediction."""
        # Reshaped logits would be a copy.
        losses = self.token_losses(Y_hat, Y.reshape(Y_hat.shape[:-1]))
        return mean(self, losses) if averaged else losses.reshape(-1)

    def layer_summary(self, X_shape: tuple[int, ...]) -> None:
        """Print the output shape of each layer of `self.net`."""
        module.print_output_shapes(self.net, np.random.randn(*X_shape))


class LinearRegression(Module):
    """Linear regression with half the mean squared error."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Dense(1)
        self.net.initialize(init.Normal(sigma=0.01))

    def forward(self, X: np.ndarray) -> np.ndarray:
        """Predictions, (batch, 1)."""
        return self.net(X)

    def loss(self, y_hat: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Half the mean squared error, as in Gluon."""
        return gluon.loss.L2Loss()(y_hat, y).mean()

    def get_w_b(self) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias."""
        return self.net.weight.data(), self.net.bias.data()


class RNNLMScratch(rnnlm.RNNLMScratch, Classifier):
    """Language model from scratch around `rnn`: ids (batch, steps) -> (batch, steps, vocab).

    A subclass may override `init_params`, `one_hot` and `output_layer`; `predict` and all
    other methods use the overrides.
    """

    xp = arrays

    def init_params(self) -> None:
        """Create the parameters of the output layer, and attach gradients to all."""
        self.W_hq = np.random.randn(self.rnn.num_hiddens, self.vocab_size) * self.rnn.sigma
        self.b_q = np.zeros(self.vocab_size)
        for param in self.get_scratch_params():
            param.attach_grad()

    def _like(self) -> tuple[Any, mxnet.Context]:
        """Precision and device of the parameters."""
        for parameter in each_parameter(self):
            return parameter.dtype, parameter.list_ctx()[0]
        first = next(iter(self.get_scratch_params()), np.empty(0))
        return first.dtype, first.ctx

    def one_hot(self, X: np.ndarray) -> np.ndarray:
        """Inputs of the layers, (steps, batch, vocab), for ids (batch, steps)."""
        dtype, _ = self._like()
        return npx.one_hot(X.T, self.vocab_size, dtype=dtype)

    def output_layer(self, rnn_outputs: Any) -> np.ndarray:
        """Logits, (batch, steps, vocab), for a list of outputs (batch, hidden)."""
        return np.stack([np.dot(H, self.W_hq) + self.b_q for H in rnn_outputs], 1)

    def forward(self, X: np.ndarray, state: Any = None) -> np.ndarray:
        """Logits for ids."""
        rnn_outputs, state = self.rnn(self.one_hot(X), state)
        self.final_state = rnnlm.detached(self.xp, state)
        return self.output_layer(rnn_outputs)

    def step(self, ids: _numpy.ndarray, state: Any = None) -> tuple[_numpy.ndarray, Any]:
        """Logits for ids, a NumPy array, and the state after them, without dropout."""
        _, device = self._like()
        X = from_numpy(language_model.ids_of(ids, self.vocab_size)).as_in_ctx(device)
        with autograd.pause():
            rnn_outputs, state = self.rnn(self.one_hot(X), state)
            return numpy(self.output_layer(rnn_outputs)), state

    def greedy_decode(self, token: int, state: Any, mask: _numpy.ndarray) -> tuple[list[int], Any]:
        """Most likely ids after `token`, one by one, and the state before the last.

        `mask`, (vocab,), is added to the logits. An id is -1 if the logits are not finite.
        """
        dtype, device = self._like()
        ids, following = np.full((1, 1), token, ctx=device), []
        added = from_numpy(mask).astype(dtype).as_in_ctx(device)
        with autograd.pause():
            for _ in range(language_model.GREEDY_TOKENS):
                rnn_outputs, state = self.rnn(self.one_hot(ids), state)
                logits = self.output_layer(rnn_outputs)
                ids = (logits + added).argmax(axis=-1)  # (1, 1)
                following.append((ids, (0 * logits).sum()))  # NaN unless all logits are finite
        return [
            -1 if math.isnan(checked.item()) else int(ids.item()) for ids, checked in following
        ], state


def each_parameter(block: nn.Block) -> Iterator[gluon.Parameter]:
    """Gluon's parameters one by one; `collect_params` would take a tenth of a step's time."""
    yield from block.params.values()
    for child in block._children.values():
        yield from each_parameter(child)


class RNNLM(rnnlm.RNNLM, RNNLMScratch):
    """Language model: one-hot or embedding input, recurrent layers, a linear output layer.

    Maps ids (batch, steps) to logits (batch, steps, `vocab_size`).
    """

    def init_params(self) -> None:
        """Create the embedding, if there is one, and the output layer."""
        if self.embedding_size:
            self.embedding = nn.Embedding(self.vocab_size, self.embedding_size)
        shared = self.embedding.params if self.tied else None
        self.linear = nn.Dense(
            self.vocab_size, flatten=False, in_units=self.embedding_size * self.tied, params=shared
        )
        self.linear.hybridize(**COMPILED)
        self.initialize()

    def one_hot(self, X: np.ndarray) -> np.ndarray:
        """Inputs of the layers, (steps, batch, features), for ids (batch, steps)."""
        return self.embedding(X.T) if self.embedding_size else super().one_hot(X)

    def output_layer(self, hiddens: np.ndarray) -> np.ndarray:
        """Logits, (batch, steps, vocab), for outputs (steps, batch, hidden)."""
        return self.linear(hiddens).swapaxes(0, 1)

    def chunked_loss(self, X: np.ndarray, Y: np.ndarray, state: Any = None) -> np.ndarray:
        """Mean loss of a batch, computed with one chunk of logits at a time."""
        hiddens, state = self.rnn(self.one_hot(X), state)
        self.final_state = rnnlm.detached(self.xp, state)
        with autograd.pause():
            self.linear(hiddens[:1, :1])  # so that a lazy layer infers its shape
        rows = hiddens.reshape(-1, hiddens.shape[-1])  # (steps * batch, hidden)
        size = rnnlm.chunk_rows(self.vocab_size)
        return chunked_loss(self, rows, Y.T.reshape(-1), size)

    def configure_optimizers(self) -> gluon.Trainer:
        """The optimizer named in `optimizer`."""
        own = self.rnn.collect_params() if isinstance(self.rnn, gluon.Block) else ()
        return make_optimizer(rnnlm.optimizer_of(self), self.parameters(), own)


RNNLM.chunked_head = rnnlm.head_of(RNNLM)
