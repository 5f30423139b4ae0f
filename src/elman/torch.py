"""The names of D2L on PyTorch: `from elman import torch as d2l`."""

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as _numpy

from elman.core.errors import ElmanError, not_installed

try:
    import torch
except ModuleNotFoundError as error:
    raise not_installed("torch", error) from error
from torch import nn
from torch.nn import functional as F

from elman.core.data import corpus, data_module
from elman.core.files.download import DATA_URL, download
from elman.core.hyperparameters import HyperParameters, add_to_class, check_len, check_shape
from elman.core.model import cells, language_model, weights
from elman.core.model.weights import Architecture, Weights
from elman.core.text.vocab import Vocab
from elman.core.training import checkpoint, module, trainer
from elman.core.training.plotting import ProgressBoard, plot, set_figsize

__all__ = [
    "DATA_URL",
    "GRU",
    "LSTM",
    "RNN",
    "RNNLM",
    "Architecture",
    "Classifier",
    "DataModule",
    "HyperParameters",
    "LinearRegression",
    "Module",
    "ProgressBoard",
    "RNNLMScratch",
    "RNNScratch",
    "TextFile",
    "TimeMachine",
    "Trainer",
    "Vocab",
    "add_to_class",
    "arange",
    "architecture",
    "argmax",
    "astype",
    "build",
    "check_len",
    "check_shape",
    "concat",
    "cos",
    "cpu",
    "devices",
    "download",
    "exp",
    "export_weights",
    "float32",
    "gpu",
    "int32",
    "int64",
    "log",
    "matmul",
    "normal",
    "num_gpus",
    "numpy",
    "ones",
    "plot",
    "rand",
    "randn",
    "reduce_mean",
    "reduce_sum",
    "reshape",
    "set_figsize",
    "sigmoid",
    "sin",
    "size",
    "stack",
    "swapaxes",
    "tanh",
    "tensor",
    "to",
    "transpose",
    "try_all_gpus",
    "try_gpu",
    "version",
    "zeros",
]

SMALL = 512  # up to this vocabulary rows of an identity matrix make one-hot vectors fastest

# Arrays, under the book's names.

arange = torch.arange
concat = torch.cat
cos = torch.cos
exp = torch.exp
float32 = torch.float32
int32 = torch.int32
int64 = torch.int64
log = torch.log
matmul = torch.matmul
normal = torch.normal
ones = torch.ones
rand = torch.rand
randn = torch.randn
sigmoid = torch.sigmoid
sin = torch.sin
stack = torch.stack
tanh = torch.tanh
tensor = torch.tensor
zeros = torch.zeros

argmax = torch.Tensor.argmax
astype = torch.Tensor.type
reduce_mean = torch.Tensor.mean
reduce_sum = torch.Tensor.sum
reshape = torch.Tensor.reshape
size = torch.Tensor.numel
swapaxes = torch.Tensor.swapaxes
to = torch.Tensor.to
transpose = torch.Tensor.t


def numpy(x: torch.Tensor) -> _numpy.ndarray:
    """A tensor as a NumPy array, without its gradient and from wherever it lies."""
    return x.detach().cpu().numpy()


# Devices.


def cpu() -> torch.device:
    """The CPU."""
    return torch.device("cpu")


def gpu(i: int = 0) -> torch.device:
    """The i-th GPU: a CUDA device, or Apple's where there is no CUDA."""
    if not torch.cuda.is_available() and torch.backends.mps.is_available():
        return torch.device("mps")  # there is never a second one
    return torch.device(f"cuda:{i}")


def num_gpus() -> int:
    """Number of GPUs that can be used here."""
    return torch.cuda.device_count() or int(torch.backends.mps.is_available())


def try_gpu(i: int = 0) -> torch.device:
    """The i-th GPU where there is one, else the CPU."""
    return gpu(i) if num_gpus() > i else cpu()


def try_all_gpus() -> list[torch.device]:
    """All GPUs; an empty list where there is none."""
    return [gpu(i) for i in range(num_gpus())]


# Models, data and the loop.


class Module(nn.Module, module.Module):
    """The base class of models."""

    def __init__(self, plot_train_per_epoch: int = 2, plot_valid_per_epoch: int = 1) -> None:
        super().__init__()
        self.prepare_plots(plot_train_per_epoch, plot_valid_per_epoch)

    if TYPE_CHECKING:  # for PyTorch's type checking every attribute is a tensor or a module

        def __getattr__(self, name: str) -> Any: ...

    def __getstate__(self) -> dict[str, Any]:
        """State of a copy or a pickle: all but the trainer, and what PyTorch leaves out."""
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "trainer"}

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """The outputs for a batch of inputs; those of `self.net` unless overridden."""
        return module.Module.forward(self, X)

    def to_float(self, value: Any) -> float:
        """A tensor of one element, or a number, as a Python float."""
        return float(value.detach() if isinstance(value, torch.Tensor) else value)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with the learning rate `self.lr`."""
        return torch.optim.SGD(self.parameters(), lr=self.lr)

    def apply_init(self, inputs: Sequence[Any], init: Any = None) -> None:
        """Run once, so that lazy layers learn their shapes; then apply `init` to `self.net`."""
        self.forward(*inputs)
        if init is not None:
            self.net.apply(init)


class DataModule(data_module.DataModule):
    """The base class of data."""

    def to_tensor(self, array: _numpy.ndarray) -> torch.Tensor:
        """A NumPy array as a tensor that shares its memory."""
        return torch.from_numpy(array)

    def to_array(self, tensor: Any) -> Any:
        """A tensor, or what NumPy makes an array of, as an array."""
        return numpy(tensor) if isinstance(tensor, torch.Tensor) else super().to_array(tensor)


class Trainer(trainer.Trainer):
    """Trains a model on data; with `num_gpus=1` on a GPU where there is one."""

    @cached_property
    def gpus(self) -> list[torch.device]:
        """The GPUs to train on, at most `num_gpus`."""
        return try_all_gpus()[: self.num_gpus]

    def prepare_model(self, model: Module) -> None:
        """Tie the model to this trainer, and move it to the GPU."""
        super().prepare_model(model)
        if self.gpus:
            model.to(self.gpus[0])

    def prepare_batch(self, batch: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """Move a batch to the GPU."""
        return [array.to(self.gpus[0]) for array in batch] if self.gpus else batch

    def update(self, batch: Sequence[torch.Tensor]) -> float:
        """Take one optimisation step and return the batch's mean loss."""
        try:
            return self._update(batch)
        except RuntimeError as error:
            if "memory" not in str(error):
                raise
            raise MemoryError(str(error)) from error

    def _update(self, batch: Sequence[torch.Tensor]) -> float:
        loss = self.model.training_step(batch)
        self.optim.zero_grad()
        with torch.no_grad():  # the book's own optimisers change parameters in place
            loss.backward()
            if self.gradient_clip_val > 0:
                self.clip_gradients(self.gradient_clip_val, self.model)
            else:
                self.gradient_norm = global_norm(gradients_of(self.model))
            self.optim.step()
        return loss.item()

    def validate(self, batch: Sequence[torch.Tensor]) -> float | None:
        """Return the batch's mean loss, or None where the model gives none."""
        with torch.no_grad():
            loss = self.model.validation_step(batch)
        return None if loss is None else loss.item()

    def clip_gradients(self, grad_clip_val: float, model: Module) -> None:
        """Scale all gradients so that their common norm is at most `grad_clip_val`."""
        gradients = gradients_of(model)
        norm = self.gradient_norm = global_norm(gradients)
        scale = (grad_clip_val / norm).clamp(max=1)
        for gradient in gradients:
            gradient *= scale

    def scale_learning_rate(self, factor: float) -> None:
        """From here on the learning rate is `factor` times what the optimiser has begun with."""
        for group in self.optim.param_groups:  # in which PyTorch's schedulers keep it so
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def state_dict(self) -> Weights:
        """Copies of all arrays that training changes: weights, optimiser, generators."""
        if not self.model.state_dict():
            raise ElmanError(
                "what is kept of a model are its parameters, and "
                f"{type(self.model).__name__} has none: make its tensors nn.Parameter"
            )
        arrays = {
            f"model.{name}": numpy(tensor).copy()
            for name, tensor in self.model.state_dict().items()
        }
        for number, kept in self._of_optimizer()["state"].items():
            for name, value in kept.items():
                if value is not None:
                    arrays[f"optim.{number}.{name}"] = numpy(torch.as_tensor(value)).copy()
        arrays["generator"] = torch.get_rng_state().numpy()
        for device in self.gpus[:1]:
            arrays["generator.gpu"] = own(device).get_rng_state(*place(device)).numpy()
        return arrays | checkpoint.flatten_state(self.hidden_state, numpy)

    def load_state_dict(self, arrays: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned; the model and its optimiser must be prepared."""
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        self.model.load_state_dict(
            {name: tensors[f"model.{name}"] for name in self.model.state_dict()}
        )
        kept: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optim."):
                _, number, part = name.split(".")
                kept.setdefault(int(number), {})[part] = tensor
        if kept:
            self.optim.load_state_dict(self._of_optimizer() | {"state": kept})
        torch.set_rng_state(tensors["generator"])
        for device in self.gpus[:1]:
            own(device).set_rng_state(tensors["generator.gpu"], *place(device))
        where = self.gpus[0] if self.gpus else cpu()
        self.hidden_state = checkpoint.unflatten_state(tensors, lambda part: part.to(where))

    def _of_optimizer(self) -> dict[str, Any]:
        """The optimiser's state; one of the book's own has none."""
        own: dict[str, Any] = getattr(self.optim, "state_dict", lambda: {"state": {}})()
        return own


def own(device: torch.device) -> Any:
    """PyTorch's module for a kind of GPU: torch.cuda or torch.mps."""
    return getattr(torch, device.type)


def place(device: torch.device) -> tuple[torch.device, ...]:
    """Argument that names a GPU of several; empty for Apple's, the only one."""
    return (device,) if device.type == "cuda" else ()


def gradients_of(model: Module) -> list[torch.Tensor]:
    """The gradients of a model's parameters that have one."""
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def global_norm(gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """The norm of all gradients as if they were one vector."""
    norms = [gradient.norm() for gradient in gradients]
    return torch.stack(norms).norm() if norms else torch.tensor(float("nan"))


class Classifier(Module):
    """The base class of classification models."""

    def validation_step(self, batch: Sequence[torch.Tensor]) -> torch.Tensor:
        """The loss of a validation batch; plots it and the accuracy."""
        Y_hat = self(*batch[:-1])
        loss = self.loss(Y_hat, batch[-1])
        self.plot("loss", loss, train=False)
        self.plot("acc", self.accuracy(Y_hat, batch[-1]), train=False)
        return loss

    def accuracy(self, Y_hat: torch.Tensor, Y: torch.Tensor, averaged: bool = True) -> torch.Tensor:
        """The share of correct predictions, or 1 and 0 for each."""
        preds = Y_hat.reshape(-1, Y_hat.shape[-1]).argmax(dim=1)
        correct = (preds == Y.reshape(-1)).type(torch.float32)
        return correct.mean() if averaged else correct

    def loss(self, Y_hat: torch.Tensor, Y: torch.Tensor, averaged: bool = True) -> torch.Tensor:
        """The cross-entropy in nats: the mean, or that of each prediction."""
        flat = Y_hat.reshape(-1, Y_hat.shape[-1])  # (predictions, classes)
        return F.cross_entropy(flat, Y.reshape(-1), reduction="mean" if averaged else "none")

    def layer_summary(self, X_shape: tuple[int, ...]) -> None:
        """Print the output shape of each layer of `self.net`."""
        X = torch.randn(*X_shape)
        for layer in self.net:
            X = layer(X)
            print(layer.__class__.__name__, "output shape:\t", X.shape)


class LinearRegression(Module):
    """Linear regression with the mean squared error."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.LazyLinear(1)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """The predictions, (batch, 1)."""
        return self.net(X)

    def loss(self, y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The mean squared error."""
        return F.mse_loss(y_hat, y)

    def get_w_b(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The weight and the bias."""
        return self.net.weight.data, self.net.bias.data


class TimeMachine(corpus.TimeMachine, DataModule):
    """The Time Machine in overlapping windows, as in d2l."""

    __init__ = corpus.TimeMachine.build_windows


class TextFile(corpus.TextFile, DataModule):
    """A text of any size, in three parts that do not overlap: `train`, `val`, `test`."""


class RNNScratch(Module):
    """A tanh RNN from scratch: inputs (steps, batch, num_inputs) -> a list of (batch, hidden)."""

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.W_xh = nn.Parameter(torch.randn(num_inputs, num_hiddens) * sigma)
        self.W_hh = nn.Parameter(torch.randn(num_hiddens, num_hiddens) * sigma)
        self.b_h = nn.Parameter(torch.zeros(num_hiddens))

    def forward(self, inputs: torch.Tensor, state: Any = None) -> tuple[list[Any], torch.Tensor]:
        """The outputs of all steps, and the last as the state."""
        if state is None:
            shape = (inputs.shape[1], self.num_hiddens)
            state = torch.zeros(shape, dtype=inputs.dtype, device=inputs.device)
        elif not isinstance(state, torch.Tensor) or state.dim() == 3:
            (state,) = state
        outputs = []
        for X in inputs:  # (batch, num_inputs)
            state = torch.tanh(X @ self.W_xh + state @ self.W_hh + self.b_h)
            outputs.append(state)
        return outputs, state


@lru_cache(maxsize=8)
def identity(size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The identity matrix, kept; its rows are the one-hot vectors."""
    with torch.inference_mode(False):  # whoever asks first, it serves training too
        return torch.eye(size, dtype=dtype, device=device)


class RNNLMScratch(language_model.LanguageModel, Classifier):
    """A language model from scratch around `rnn`: ids (batch, steps) -> (batch, steps, vocab).

    A subclass may override `init_params`, `one_hot` and `output_layer`; `predict` and all else use
    what it puts there.
    """

    def __init__(self, rnn: nn.Module, vocab_size: int, lr: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.init_params()

    exp = staticmethod(torch.exp)

    def init_params(self) -> None:
        """Make the parameters of the output layer."""
        self.W_hq = nn.Parameter(
            torch.randn(self.rnn.num_hiddens, self.vocab_size) * self.rnn.sigma
        )
        self.b_q = nn.Parameter(torch.zeros(self.vocab_size))

    def _like(self) -> torch.Tensor:
        """A tensor of the layers' precision and device."""
        return next(self.rnn.parameters(), torch.empty(0))

    def one_hot(self, X: torch.Tensor) -> torch.Tensor:
        """The layers' inputs for ids (batch, steps): (steps, batch, vocab)."""
        dtype = self._like().dtype
        if self.vocab_size <= SMALL:
            return F.embedding(X.T, identity(self.vocab_size, dtype, X.device))
        zeros = torch.zeros(*X.T.shape, self.vocab_size, dtype=dtype, device=X.device)
        return zeros.scatter_(2, X.T.unsqueeze(2), 1.0)

    def output_layer(self, rnn_outputs: Any) -> torch.Tensor:
        """The logits, (batch, steps, vocab), for a list of outputs (batch, hidden)."""
        return torch.stack([H @ self.W_hq + self.b_q for H in rnn_outputs], 1)

    def loss(self, Y_hat: torch.Tensor, Y: torch.Tensor, averaged: bool = True) -> torch.Tensor:
        """The cross-entropy in nats: the mean, or that of each token."""
        if averaged and Y.dim() == 2:  # time-major, as the layers leave them, needs no copy
            Y_hat, Y = Y_hat.swapaxes(0, 1), Y.T
        return super().loss(Y_hat, Y, averaged)

    def forward(self, X: torch.Tensor, state: Any = None) -> torch.Tensor:
        """The logits for ids."""
        rnn_outputs, state = self.rnn(self.one_hot(X), state)
        self.final_state = detached(state)
        return self.output_layer(rnn_outputs)

    @torch.no_grad()
    def step(self, ids: _numpy.ndarray, state: Any = None) -> tuple[_numpy.ndarray, Any]:
        """The logits of ids and the state after them, without dropout; ids and logits in NumPy."""
        ids = language_model.ids_of(ids, self.vocab_size)
        X = torch.as_tensor(ids, device=self._like().device)
        with self.evaluating():
            rnn_outputs, state = self.rnn(self.one_hot(X), state)
            return numpy(self.output_layer(rnn_outputs)), state

    @torch.inference_mode()
    def greedy_decode(self, token: int, state: Any, mask: _numpy.ndarray) -> tuple[list[int], Any]:
        """The likeliest ids after `token`, one after the other, and the state before the last.

        `mask`, (vocab,), is added to the logits.
        """
        device, inputs, following = self._like().device, {}, []
        added = torch.as_tensor(mask, device=device)
        with self.evaluating():
            for _ in range(language_model.GREEDY_TOKENS):
                if token not in inputs:
                    inputs[token] = self.one_hot(torch.full((1, 1), token, device=device))
                rnn_outputs, state = self.rnn(inputs[token], state)
                token = int((self.output_layer(rnn_outputs) + added).argmax())
                following.append(token)
        return following, state


def detached(state: Any) -> Any:
    """A state, a tensor or tuples or lists of such, through which no gradient flows."""
    if isinstance(state, tuple | list):
        return tuple(map(detached, state))
    return state.detach() if isinstance(state, torch.Tensor) else state


class RNN(Module):
    """A stack of recurrent layers; `nonlinearity` is tanh or relu.

    Inputs are (steps, batch, num_inputs), outputs (steps, batch, num_hiddens), states
    (num_layers, batch, num_hiddens). `dropout` acts between layers. Bidirectional layers have
    outputs (steps, batch, 2 * num_hiddens) and states (2 * num_layers, batch, num_hiddens).
    """

    def __init__(
        self,
        num_inputs: int,
        num_hiddens: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        dropout: float = 0,
        bidirectional: bool = False,
    ) -> None:
        """Make the layers.

        - `num_inputs`: features of an input; of one-hot input the size of the vocabulary.
        - `num_hiddens`: hidden units of a layer.
        - `num_layers`: layers, one above the other.
        - `nonlinearity`: tanh or relu; GRU and LSTM have none to choose.
        - `dropout`: share of a layer's outputs that training puts to zero before the next.
        - `bidirectional`: also run from the last step to the first.
        """
        super().__init__()
        self.save_hyperparameters()
        self.rnn = hold_redundant_biases(
            nn.RNN(
                num_inputs,
                num_hiddens,
                num_layers,
                nonlinearity=nonlinearity,
                dropout=dropout,
                bidirectional=bidirectional,
            )
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what a copy or a pickle has, which leaves out what holds the biases."""
        super().__setstate__(state)
        if getattr(self.rnn, "holds_redundant_biases", False):
            hold_redundant_biases(self.rnn)

    def forward(self, inputs: torch.Tensor, H: Any = None) -> tuple[torch.Tensor, Any]:
        """The outputs of all steps, and the state after the last."""
        return self.rnn(inputs, H)


class GRU(RNN):
    """A stack of gated recurrent layers."""

    def __init__(
        self,
        num_inputs: int,
        num_hiddens: int,
        num_layers: int = 1,
        dropout: float = 0,
        bidirectional: bool = False,
    ) -> None:
        Module.__init__(self)
        self.save_hyperparameters()
        self.rnn = hold_redundant_biases(
            nn.GRU(
                num_inputs, num_hiddens, num_layers, dropout=dropout, bidirectional=bidirectional
            )
        )


class LSTM(RNN):
    """A stack of LSTM layers; its state is a pair (H, C)."""

    def __init__(
        self,
        num_inputs: int,
        num_hiddens: int,
        num_layers: int = 1,
        dropout: float = 0,
        bidirectional: bool = False,
    ) -> None:
        Module.__init__(self)
        self.save_hyperparameters()
        self.rnn = hold_redundant_biases(
            nn.LSTM(
                num_inputs, num_hiddens, num_layers, dropout=dropout, bidirectional=bidirectional
            )
        )


def hold_redundant_biases(layers: nn.RNNBase) -> nn.RNNBase:
    """Set to zero, and keep there, the biases that repeat another, so that an update counts once.

    PyTorch adds `bias_ih` and `bias_hh` before the nonlinearity; training both would double the
    learning rate of their sum, against every framework that has one.
    """
    part = cells.CELLS[CELLS[layers.mode]].redundant_bias(layers.hidden_size)

    def hold(gradient: torch.Tensor) -> torch.Tensor:
        held = gradient.clone()
        held[part] = 0
        return held

    for name, bias in layers.named_parameters():
        if name.startswith("bias_hh"):
            bias.data[part] = 0
            bias.register_hook(hold)
    layers.holds_redundant_biases = True
    return layers


class RNNLM(RNNLMScratch):
    """A language model: one-hot or embedding input, recurrent layers, a linear output layer.

    Maps ids (batch, steps) to logits (batch, steps, `vocab_size`). `rnn` is an RNN, GRU or
    LSTM, and `lr` the learning rate. An `embedding_size` of 0 means one-hot input; `optimizer` is
    sgd or adam; `momentum` goes with sgd; with `tied` the embedding is the output layer's weight.
    """

    def __init__(
        self,
        rnn: nn.Module,
        vocab_size: int,
        lr: float = 0.01,
        embedding_size: int = 0,
        optimizer: str = "sgd",
        momentum: float = 0.0,
        tied: bool = False,
    ) -> None:
        trainer.check_optimizer(optimizer, lr, momentum)
        language_model.check_language_model(rnn, tied, embedding_size)
        Classifier.__init__(self)
        self.save_hyperparameters()
        self.init_params()

    def init_params(self) -> None:
        """Make the embedding, where there is one, and the output layer."""
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
        """The layers' inputs for ids (batch, steps): (steps, batch, features)."""
        return self.embedding(X.T) if self.embedding_size else super().one_hot(X)

    def output_layer(self, hiddens: torch.Tensor) -> torch.Tensor:
        """The logits, (batch, steps, vocab), for (steps, batch, hidden)."""
        return self.linear(hiddens).swapaxes(0, 1)

    def chunked_loss(self, X: torch.Tensor, Y: torch.Tensor, state: Any = None) -> torch.Tensor:
        """The loss of a batch, of whose logits there is one block at a time, made anew backward."""
        hiddens, state = self.rnn(self.one_hot(X), state)
        self.final_state = detached(state)
        rows = hiddens.reshape(-1, hiddens.shape[-1])  # (steps * batch, hidden)
        self.linear(rows[:1])  # a lazy layer learns its shape
        size = language_model.chunk_rows(self.vocab_size)
        loss: torch.Tensor = ChunkedLoss.apply(
            rows, self.linear.weight, self.linear.bias, Y.T.reshape(-1), size
        )
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser named at the start."""
        if self.optimizer == "adam":
            return torch.optim.Adam(self.parameters(), lr=self.lr)
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=self.momentum)


RNNLM.default_head = language_model.head_methods(RNNLM)


class ChunkedLoss(torch.autograd.Function):
    """The mean cross-entropy of rows, (number, hidden), with so many rows of logits at a time."""

    @staticmethod
    def forward(
        rows: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        targets: torch.Tensor,
        size: int,
    ) -> torch.Tensor:
        """The loss."""
        blocks = zip(rows.split(size), targets.split(size), strict=True)
        totals = [
            F.cross_entropy(F.linear(part, weight, bias), aims, reduction="sum")
            for part, aims in blocks
        ]
        return torch.stack(totals).sum() / len(rows)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        """Keep the inputs, and no logits."""
        ctx.save_for_backward(*inputs[:-1])
        ctx.size = inputs[-1]

    @staticmethod
    def backward(ctx: Any, d_loss: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients."""
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


# Weights from and to other frameworks.

CELLS = {"RNN_TANH": "rnn", "RNN_RELU": "rnn-relu", "GRU": "gru", "LSTM": "lstm"}


LAYERS: dict[str, Any] = {
    "rnn": RNN,
    "rnn-relu": partial(RNN, nonlinearity="relu"),
    "gru": GRU,
    "lstm": LSTM,
}


def build(
    arch: Architecture,
    values: Weights,
    lr: float = 0.01,
    optimizer: str = "sgd",
    momentum: float = 0.0,
    dropout: float = 0.0,
    seed: int = 0,
) -> RNNLM:
    """A language model of this architecture with these weights; the seed is that of dropout."""
    values = weights.checked(values, arch)
    if dropout:
        torch.manual_seed(seed)
    rnn = LAYERS[arch.cell](arch.embedding or arch.vocab, arch.hidden, arch.layers, dropout=dropout)
    model = RNNLM(rnn, arch.vocab, lr, arch.embedding, optimizer, momentum, arch.tied)
    model.linear(torch.zeros(1, arch.hidden))  # a lazy layer learns its shape
    model.to(getattr(torch, values["linear.bias"].dtype.name))
    tensors = {name: torch.from_numpy(value) for name, value in values.items()}
    if arch.tied:
        tensors["linear.weight"] = tensors["embedding.weight"]
    model.load_state_dict(
        {name.replace("rnn.", "rnn.rnn."): value for name, value in tensors.items()}
    )
    return model


def architecture(model: RNNLMScratch) -> Architecture:
    """Architecture of a model whose layers are PyTorch's own."""
    layers = getattr(getattr(model, "rnn", None), "rnn", None)
    if not isinstance(layers, nn.RNNBase) or not isinstance(
        getattr(model, "linear", None), nn.Linear
    ):
        wanted = "a model of nn.RNN, nn.GRU or nn.LSTM as rnn.rnn, and of nn.Linear as linear,"
        raise weights.not_canonical(wanted, model, "torch.save(model.state_dict(), path)")
    return Architecture(
        CELLS[layers.mode],
        model.vocab_size,
        layers.hidden_size,
        layers.num_layers,
        getattr(model, "embedding_size", 0),
        getattr(model, "tied", False),
    )


def export_weights(model: RNNLMScratch) -> Weights:
    """The weights of a model by canonical name; copies."""
    arch = architecture(model)
    values = {
        name.replace("rnn.rnn.", "rnn."): numpy(value).copy()
        for name, value in model.state_dict().items()
        if not (arch.tied and name == "linear.weight")
    }
    weights.check(values, arch)  # a bidirectional layer, for one, has more
    return values


def version() -> str:
    """The version of PyTorch."""
    return torch.__version__


def devices() -> list[str]:
    """The devices that can be used here."""
    return [str(device) for device in (cpu(), *try_all_gpus())]
