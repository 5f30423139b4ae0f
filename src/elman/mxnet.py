"""The names of D2L on MXNet: `from elman import mxnet as d2l`."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import product
from operator import attrgetter
from typing import Any

import numpy as _numpy

from elman.core.errors import ElmanError

try:
    import mxnet
except (ImportError, AttributeError) as error:
    what = "is not installed" if error.name == "mxnet" else f"does not load ({error})"
    raise ElmanError(  # a newer Python lacks distutils, and a newer NumPy np.bool
        f"mxnet {what}: MXNet 1.9.1 needs Python 3.11 and numpy < 1.24, and so an environment of "
        "its own: in a clone of elman, python3.11 -m venv mx, then mx/bin/pip install '.[mxnet]'"
    ) from error
from mxnet import autograd, gluon, init, nd, np, npx
from mxnet.gluon import nn, rnn

from elman.core.data import corpus, data_module
from elman.core.files.download import DATA_URL, download
from elman.core.hyperparameters import HyperParameters, add_to_class, check_len, check_shape
from elman.core.model import cells, language_model, weights
from elman.core.model.weights import Architecture, Weights
from elman.core.text.vocab import Vocab
from elman.core.training import checkpoint, module, trainer
from elman.core.training.plotting import ProgressBoard, plot, set_figsize

npx.set_np()

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

# Arrays, under the book's names.

arange = np.arange
concat = np.concatenate
cos = np.cos
exp = np.exp
float32 = np.float32
int32 = np.int32
int64 = np.int64
log = np.log
matmul = np.dot
normal = np.random.normal
ones = np.ones
rand = np.random.rand
randn = np.random.randn
sigmoid = npx.sigmoid
sin = np.sin
stack = np.stack
tanh = np.tanh
tensor = np.array
zeros = np.zeros

argmax = np.ndarray.argmax
astype = np.ndarray.astype
reduce_mean = np.ndarray.mean
reduce_sum = np.ndarray.sum
reshape = np.ndarray.reshape
size = attrgetter("size")
swapaxes = np.ndarray.swapaxes
to = np.ndarray.as_in_ctx
transpose = attrgetter("T")


def numpy(x: np.ndarray) -> _numpy.ndarray:
    """An array of MXNet's as one of NumPy's, from wherever it lies."""
    return x.asnumpy()


# Devices.


def cpu() -> mxnet.Context:
    """The CPU."""
    return npx.cpu()


def gpu(i: int = 0) -> mxnet.Context:
    """The i-th GPU."""
    return npx.gpu(i)


def num_gpus() -> int:
    """Number of GPUs that can be used here."""
    return npx.num_gpus()


def try_gpu(i: int = 0) -> mxnet.Context:
    """The i-th GPU where there is one, else the CPU."""
    return gpu(i) if num_gpus() > i else cpu()


def try_all_gpus() -> list[mxnet.Context]:
    """All GPUs; an empty list where there is none."""
    return [gpu(i) for i in range(num_gpus())]


# Models, data and the loop.


class Module(nn.Block, module.Module):
    """The base class of models.

    Its parameters are Gluon's or, in a module from scratch, the arrays among its attributes.
    """

    def __init__(self, plot_train_per_epoch: int = 2, plot_valid_per_epoch: int = 1) -> None:
        super().__init__()
        self.prepare_plots(plot_train_per_epoch, plot_valid_per_epoch)

    def __getstate__(self) -> dict[str, Any]:
        """State of a copy or a pickle: all but the trainer, and nothing compiled."""
        self.apply(forget_compiled)
        return module.Module.__getstate__(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what a copy or a pickle has, and make it ready for gradients again."""
        self.__dict__.update(state)
        for parameter in each_parameter(self):
            if parameter._data is not None:
                parameter._init_grad()
        for array in self.get_scratch_params():
            array.attach_grad()

    def forward(self, X: np.ndarray) -> np.ndarray:
        """The outputs for a batch of inputs; those of `self.net` unless overridden."""
        return module.Module.forward(self, X)

    def parameters(self) -> Any:
        """Gluon's parameters by name; where there are none, a list of the arrays."""
        with warnings.catch_warnings():  # Gluon warns of modules in lists, which are found below
            warnings.simplefilter("ignore", UserWarning)
            parameters = self.collect_params()
        return parameters if len(parameters.keys()) else self.get_scratch_params()

    def get_scratch_params(self) -> list[np.ndarray]:
        """The arrays among the attributes, those in lists and in other modules included."""
        return scratch_params(list(self._own().values()))

    def _own(self) -> dict[str, Any]:
        """The attributes but for the state reached, which nobody trains."""
        return {name: value for name, value in vars(self).items() if name != "final_state"}

    def set_scratch_params_device(self, device: mxnet.Context) -> None:
        """Move those arrays, and make them ready for gradients."""
        self.__dict__.update({name: moved(value, device) for name, value in self._own().items()})

    def configure_optimizers(self) -> Any:
        """SGD with the learning rate `self.lr`."""
        parameters = self.parameters()
        if isinstance(parameters, list):
            return SGD(parameters, self.lr)
        return gluon.Trainer(parameters, "sgd", {"learning_rate": self.lr})


def forget_compiled(block: nn.Block) -> None:
    """Have a block compiled anew when it is next called."""
    if isinstance(block, gluon.HybridBlock):
        block._clear_cached_op()
    for parameter in block.params.values():
        parameter._var = None  # a symbol, which comes back from a pickle as another kind


def scratch_params(value: Any) -> list[np.ndarray]:
    """The arrays in `value`, which is an array, a module, a list of such, or anything else."""
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, Module):
        return value.get_scratch_params()
    if isinstance(value, list):
        return [array for part in value for array in scratch_params(part)]
    return []


def moved(value: Any, device: mxnet.Context) -> Any:
    """`value` with the arrays in it on a device, as `set_scratch_params_device` leaves them."""
    if isinstance(value, np.ndarray):
        value = value.as_in_ctx(device)
        value.attach_grad()
    elif isinstance(value, Module):
        value.set_scratch_params_device(device)
    elif isinstance(value, list):
        value[:] = [moved(part, device) for part in value]
    return value


class SGD(HyperParameters):
    """Stochastic gradient descent on arrays, for the modules from scratch."""

    def __init__(self, params: Sequence[np.ndarray], lr: float) -> None:
        self.save_hyperparameters()

    def step(self, _: int) -> None:
        """Change the arrays by their gradients; Gluon's optimisers take a batch size here."""
        for param in self.params:
            param -= self.lr * param.grad


class DataModule(data_module.DataModule):
    """The base class of data."""

    def to_tensor(self, array: _numpy.ndarray) -> np.ndarray:
        """A NumPy array as one of MXNet's; a copy."""
        return from_numpy(array)

    def to_array(self, tensor: Any) -> Any:
        """An array of MXNet's, or what NumPy makes one of, as one of NumPy's."""
        return numpy(tensor) if isinstance(tensor, np.ndarray) else super().to_array(tensor)


def from_numpy(array: _numpy.ndarray) -> np.ndarray:
    """A copy of a NumPy array as one of MXNet's; its own way of copying waits for its engine."""
    return nd.from_numpy(array.copy(), array_cls=np.ndarray)


class Trainer(trainer.Trainer):
    """Trains a model on data; with `num_gpus=1` on a GPU where there is one."""

    @cached_property
    def gpus(self) -> list[mxnet.Context]:
        """The GPUs to train on, at most `num_gpus`."""
        return try_all_gpus()[: self.num_gpus]

    def prepare_model(self, model: Module) -> None:
        """Tie the model to this trainer, and move it to the GPU."""
        super().prepare_model(model)
        if self.gpus:
            parameters = model.parameters()
            if not isinstance(parameters, list):
                parameters.reset_ctx(self.gpus[0])
            model.set_scratch_params_device(self.gpus[0])

    def prepare_batch(self, batch: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """Move a batch to the GPU."""
        return [array.as_in_ctx(self.gpus[0]) for array in batch] if self.gpus else batch

    def update(self, batch: Sequence[np.ndarray]) -> float:
        """Take one optimisation step and return the batch's mean loss."""
        try:
            return self._update(batch)
        except mxnet.MXNetError as error:
            if "memory" not in str(error).lower():
                raise
            raise MemoryError(str(error)) from error

    def _update(self, batch: Sequence[np.ndarray]) -> float:
        for layers in dropping(self.model):  # whose generator tells no state to go on from
            npx.random.seed((layers.draws + self.train_batch_idx) % (1 << 31))
        with autograd.record():
            loss = self.model.training_step(batch)
        loss.backward()
        if self.gradient_clip_val > 0:
            self.clip_gradients(self.gradient_clip_val, self.model)
        else:
            self.gradient_norm = global_norm(gradients_of(self.model))
        self.optim.step(1)
        return float(loss)

    def validate(self, batch: Sequence[np.ndarray]) -> float | None:
        """Return the batch's mean loss, or None where the model gives none."""
        loss = self.model.validation_step(batch)
        return None if loss is None else float(loss)

    def clip_gradients(self, grad_clip_val: float, model: Module) -> None:
        """Scale all gradients so that their common norm is at most `grad_clip_val`."""
        gradients = gradients_of(model)
        norm = self.gradient_norm = global_norm(gradients)
        if norm > grad_clip_val:
            for gradient in gradients:
                gradient *= grad_clip_val / norm

    def prepare_optimizer(self) -> None:
        """Ask the model for its optimiser."""
        super().prepare_optimizer()
        self._rate: Any = getattr(self.optim, "learning_rate", None)

    def scale_learning_rate(self, factor: float) -> None:
        """From here on the learning rate is `factor` times what the optimiser has begun with."""
        before = self.optim.learning_rate
        self.optim.set_learning_rate(self._rate * factor)
        for updater in self.optim._updaters:
            if getattr(updater.optimizer, "momentum", 0):
                # These have the learning rate in them, and would go on with the one before.
                for velocity in updater.states.values():
                    velocity *= self.optim.learning_rate / before

    def state_dict(self) -> dict[str, Any]:
        """Copies of all arrays that training changes: weights, optimiser, generators."""
        arrays = {f"model.{n}": array.asnumpy() for n, array in enumerate(arrays_of(self.model))}
        for updater in getattr(self.optim, "_updaters", ()):
            arrays["updates"] = _numpy.array(updater.optimizer.num_update)
            arrays["learning_rate"] = _numpy.array(float(updater.optimizer.learning_rate))
            for index, state in updater.states.items():
                parts = state if isinstance(state, tuple) else (state,)
                for number, part in enumerate(parts if state is not None else ()):
                    arrays[f"optim.{index}.{number}"] = part.asnumpy()
        for layers in dropping(self.model):
            arrays["generator"] = _numpy.array(layers.draws)
        return arrays | checkpoint.flatten_state(self.hidden_state, numpy)

    def prepare_state(self) -> None:
        """Have lazy layers learn their shapes."""
        self.model(*self.prepare_batch(self.example())[:-1])

    def load_state_dict(self, arrays: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned; the model and its optimiser must be prepared."""
        for number, array in enumerate(arrays_of(self.model)):
            array[:] = arrays[f"model.{number}"]
        for updater in getattr(self.optim, "_updaters", ()):
            optimizer, updates = updater.optimizer, int(arrays["updates"])
            for index, parameter in enumerate(self.optim._params):
                if parameter.grad_req == "null":  # it is not trained
                    continue
                state = optimizer.create_state_multi_precision(index, parameter.data())
                parts = state if isinstance(state, tuple) else (state,)
                for number, part in enumerate(parts if state is not None else ()):
                    part[:] = arrays[f"optim.{index}.{number}"]
                updater.states[index], updater.states_synced[index] = state, True
                optimizer._index_update_count[index] = updates
            optimizer.num_update = updates
            optimizer.set_learning_rate(float(arrays["learning_rate"]))
        for layers in dropping(self.model):
            layers.draws = int(arrays["generator"])
        device = self.gpus[0] if self.gpus else cpu()
        self.hidden_state = checkpoint.unflatten_state(
            arrays, lambda array: from_numpy(array).as_in_ctx(device)
        )


def arrays_of(model: Module) -> list[np.ndarray]:
    """The arrays of a model's parameters."""
    parameters = model.parameters()
    if isinstance(parameters, list):
        return parameters
    return [parameter.data() for parameter in parameters.values()]


def dropping(model: Module) -> list[Any]:
    """The model's layers, if they are this module's and drop outputs."""
    layers = getattr(getattr(model, "rnn", None), "rnn", None)
    return [layers] if getattr(layers, "draws", None) is not None else []


def gradients_of(model: Module) -> list[np.ndarray]:
    """The gradients of a model's parameters that have one."""
    return [array.grad for array in arrays_of(model) if array.grad is not None]


def global_norm(gradients: Sequence[np.ndarray]) -> float:
    """The norm of all gradients as if they were one vector."""
    return float(sum((gradient * gradient).sum() for gradient in gradients)) ** 0.5


class Classifier(Module):
    """The base class of classification models."""

    def validation_step(self, batch: Sequence[np.ndarray]) -> np.ndarray:
        """The loss of a validation batch; plots it and the accuracy."""
        Y_hat = self(*batch[:-1])
        loss = self.loss(Y_hat, batch[-1])
        self.plot("loss", loss, train=False)
        self.plot("acc", self.accuracy(Y_hat, batch[-1]), train=False)
        return loss

    def accuracy(self, Y_hat: np.ndarray, Y: np.ndarray, averaged: bool = True) -> np.ndarray:
        """The share of correct predictions, or 1 and 0 for each."""
        preds = Y_hat.reshape(-1, Y_hat.shape[-1]).argmax(axis=1).astype(Y.dtype)
        correct = (preds == Y.reshape(-1)).astype(np.float32)
        return correct.mean() if averaged else correct

    def loss(self, Y_hat: np.ndarray, Y: np.ndarray, averaged: bool = True) -> np.ndarray:
        """The cross-entropy in nats: the mean, or that of each prediction."""
        targets = Y.reshape(Y_hat.shape[:-1])  # logits in a new shape would be a copy
        losses = -npx.pick(npx.log_softmax(Y_hat, axis=-1), targets)
        return losses.mean() if averaged else losses.reshape(-1)

    def layer_summary(self, X_shape: tuple[int, ...]) -> None:
        """Print the output shape of each layer of `self.net`."""
        X = np.random.randn(*X_shape)
        for layer in self.net:
            X = layer(X)
            print(layer.__class__.__name__, "output shape:\t", X.shape)


class LinearRegression(Module):
    """Linear regression with half the mean squared error."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Dense(1)
        self.net.initialize(init.Normal(sigma=0.01))

    def forward(self, X: np.ndarray) -> np.ndarray:
        """The predictions, (batch, 1)."""
        return self.net(X)

    def loss(self, y_hat: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Half the mean squared error, as Gluon has it."""
        return gluon.loss.L2Loss()(y_hat, y).mean()

    def get_w_b(self) -> tuple[np.ndarray, np.ndarray]:
        """The weight and the bias."""
        return self.net.weight.data(), self.net.bias.data()


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
        self.W_xh = np.random.randn(num_inputs, num_hiddens) * sigma
        self.W_hh = np.random.randn(num_hiddens, num_hiddens) * sigma
        self.b_h = np.zeros(num_hiddens)

    def forward(self, inputs: np.ndarray, state: Any = None) -> tuple[list[Any], np.ndarray]:
        """The outputs of all steps, and the last as the state."""
        if state is None:
            shape = (inputs.shape[1], self.num_hiddens)
            state = np.zeros(shape, dtype=inputs.dtype, ctx=inputs.ctx)
        elif not isinstance(state, np.ndarray) or state.ndim == 3:
            (state,) = state
        outputs = []
        for X in inputs:  # (batch, num_inputs)
            state = np.tanh(np.dot(X, self.W_xh) + np.dot(state, self.W_hh) + self.b_h)
            outputs.append(state)
        return outputs, state


class RNNLMScratch(language_model.LanguageModel, Classifier):
    """A language model from scratch around `rnn`: ids (batch, steps) -> (batch, steps, vocab).

    A subclass may override `init_params`, `one_hot` and `output_layer`; `predict` and all else use
    what it puts there.
    """

    def __init__(self, rnn: nn.Block, vocab_size: int, lr: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.init_params()

    exp = staticmethod(np.exp)

    def init_params(self) -> None:
        """Make the parameters of the output layer, and make all ready for gradients."""
        self.W_hq = np.random.randn(self.rnn.num_hiddens, self.vocab_size) * self.rnn.sigma
        self.b_q = np.zeros(self.vocab_size)
        for param in self.get_scratch_params():
            param.attach_grad()

    def _like(self) -> tuple[Any, mxnet.Context]:
        """The precision and the device of the parameters."""
        for parameter in each_parameter(self):
            return parameter.dtype, parameter.list_ctx()[0]
        first = next(iter(self.get_scratch_params()), np.empty(0))
        return first.dtype, first.ctx

    def one_hot(self, X: np.ndarray) -> np.ndarray:
        """The layers' inputs for ids (batch, steps): (steps, batch, vocab)."""
        dtype, _ = self._like()
        return npx.one_hot(X.T, self.vocab_size, dtype=dtype)

    def output_layer(self, rnn_outputs: Any) -> np.ndarray:
        """The logits, (batch, steps, vocab), for a list of outputs (batch, hidden)."""
        return np.stack([np.dot(H, self.W_hq) + self.b_q for H in rnn_outputs], 1)

    def forward(self, X: np.ndarray, state: Any = None) -> np.ndarray:
        """The logits for ids."""
        rnn_outputs, state = self.rnn(self.one_hot(X), state)
        self.final_state = detached(state)
        return self.output_layer(rnn_outputs)

    def step(self, ids: _numpy.ndarray, state: Any = None) -> tuple[_numpy.ndarray, Any]:
        """The logits of ids and the state after them, without dropout; ids and logits in NumPy."""
        _, device = self._like()
        X = from_numpy(language_model.ids_of(ids, self.vocab_size)).as_in_ctx(device)
        with autograd.pause():
            rnn_outputs, state = self.rnn(self.one_hot(X), state)
            return numpy(self.output_layer(rnn_outputs)), state

    def greedy_decode(self, token: int, state: Any, mask: _numpy.ndarray) -> tuple[list[int], Any]:
        """The likeliest ids after `token`, one after the other, and the state before the last.

        `mask`, (vocab,), is added to the logits.
        """
        dtype, device = self._like()
        ids, following = np.full((1, 1), token, ctx=device), []
        added = from_numpy(mask).astype(dtype).as_in_ctx(device)
        with autograd.pause():
            for _ in range(language_model.GREEDY_TOKENS):
                rnn_outputs, state = self.rnn(self.one_hot(ids), state)
                ids = (self.output_layer(rnn_outputs) + added).argmax(axis=-1)  # (1, 1)
                following.append(ids)
        return [int(ids.item()) for ids in following], state


def detached(state: Any) -> Any:
    """A state, an array or tuples or lists of such, through which no gradient flows."""
    if isinstance(state, tuple | list):
        return tuple(map(detached, state))
    return state.detach() if isinstance(state, np.ndarray) else state


def each_parameter(block: nn.Block) -> Iterator[gluon.Parameter]:
    """Gluon's parameters one by one; to collect them all would take a tenth of a step's time."""
    yield from block.params.values()
    for child in block._children.values():
        yield from each_parameter(child)


class RNN(Module):
    """A stack of recurrent layers; `nonlinearity` is tanh or relu.

    Inputs are (steps, batch, num_inputs), outputs (steps, batch, num_hiddens), states
    (num_layers, batch, num_hiddens). `dropout` acts between layers. Bidirectional layers have
    outputs (steps, batch, 2 * num_hiddens) and states (2 * num_layers, batch, num_hiddens).
    """

    def __init__(
        self,
        num_hiddens: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        dropout: float = 0,
        bidirectional: bool = False,
    ) -> None:
        """Make the layers.

        - `num_hiddens`: hidden units of a layer.
        - `num_layers`: layers, one above the other.
        - `nonlinearity`: tanh or relu; GRU and LSTM have none to choose.
        - `dropout`: share of a layer's outputs that training puts to zero before the next.
        - `bidirectional`: also run from the last step to the first.
        """
        if nonlinearity not in ("tanh", "relu"):
            raise ElmanError(f"the nonlinearity is tanh or relu, got {nonlinearity!r}")
        super().__init__()
        self.save_hyperparameters()
        self.rnn = StackedRNN(
            num_hiddens, num_layers, nonlinearity, dropout=dropout, bidirectional=bidirectional
        )

    def forward(self, inputs: np.ndarray, H: Any = None) -> tuple[np.ndarray, Any]:
        """The outputs of all steps, and the state after the last."""
        if H is None:
            H = self.rnn.begin_state(inputs.shape[1], ctx=inputs.ctx, dtype=inputs.dtype)
        outputs, states = self.rnn(inputs, H)
        return outputs, states if len(states) > 1 else states[0]


class GRU(RNN):
    """A stack of gated recurrent layers."""

    def __init__(
        self,
        num_hiddens: int,
        num_layers: int = 1,
        dropout: float = 0,
        bidirectional: bool = False,
    ) -> None:
        Module.__init__(self)
        self.save_hyperparameters()
        self.rnn = StackedGRU(num_hiddens, num_layers, dropout=dropout, bidirectional=bidirectional)


class LSTM(RNN):
    """A stack of LSTM layers; its state is a pair (H, C)."""

    def __init__(
        self,
        num_hiddens: int,
        num_layers: int = 1,
        dropout: float = 0,
        bidirectional: bool = False,
    ) -> None:
        Module.__init__(self)
        self.save_hyperparameters()
        self.rnn = StackedLSTM(
            num_hiddens, num_layers, dropout=dropout, bidirectional=bidirectional
        )


# How layers are compiled: they keep their memory, which took a third of the time to ask for anew.
COMPILED = {"static_alloc": True, "static_shape": True}


class Stacked(gluon.HybridBlock):
    """Runs Gluon's recurrent layers one after the other, with biases held and dropout between.

    Gluon adds `i2h_bias` and `h2h_bias` before the nonlinearity; training both would double the
    learning rate of their sum, against every framework that has one. And its kernel for all layers
    at once leaves dropout out on a CPU.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.hybridize(**COMPILED)
        if self._dropout:  # what dropout is drawn from: a seed, to which the number of updates adds
            self.draws = int(np.random.randint(0, 1 << 31, ()).item())

    def __call__(self, inputs: np.ndarray, states: Any = None) -> Any:
        """The outputs; also the states reached, where those to begin with are given."""
        begin = states
        if states is None:
            begin = self.begin_state(inputs.shape[1], ctx=inputs.ctx, dtype=inputs.dtype)
        outputs, final_states = super().__call__(inputs, begin)  # one graph, whatever is asked for
        return outputs if states is None else (outputs, final_states)

    def _forward_kernel(
        self, F: Any, inputs: Any, states: Any, sequence_length: None, **parameters: Any
    ) -> tuple[Any, list[Any]]:
        """The outputs of the last layer, and the states of all; `F` is what computes in Gluon."""
        final_states = []
        for layer in range(self._num_layers):
            if layer > 0:
                inputs = F.npx.dropout(inputs, p=self._dropout)
            part = slice(layer * self._dir, (layer + 1) * self._dir)
            results = F.npx.rnn(
                inputs,
                self._packed(F, layer, parameters),
                *[state[part] for state in states],
                mode=self._mode,
                state_size=self._hidden_size,
                num_layers=1,
                bidirectional=self._dir == 2,
                state_outputs=True,
            )
            inputs = results[0]
            final_states.append([results[1 + i] for i in range(len(states))])
        return inputs, [F.np.concatenate(parts) for parts in zip(*final_states, strict=True)]

    def _packed(self, F: Any, layer: int, parameters: dict[str, Any]) -> Any:
        """The weights and then the biases of a layer as one vector."""
        pieces = []
        for kind, side, source in product(("weight", "bias"), "lr"[: self._dir], ("i2h", "h2h")):
            piece = parameters[f"{side}{layer}_{source}_{kind}"]
            held = self._held(F, piece) if (source, kind) == ("h2h", "bias") else piece
            pieces.append(held.reshape(-1))
        return F.np._internal.rnn_param_concat(*pieces, dim=0)

    def _held(self, F: Any, bias: Any) -> Any:
        """A bias whose redundant part is zero, and has no gradient."""
        part = cells.CELLS[CELLS[self._mode]].redundant_bias(self._hidden_size)
        if part.stop is None:
            return F.np.zeros_like(bias)
        return F.np.concatenate([F.np.zeros_like(bias[part]), bias[part.stop :]])


class StackedRNN(Stacked, rnn.RNN):
    """Gluon's RNN."""


class StackedGRU(Stacked, rnn.GRU):
    """Gluon's GRU."""


class StackedLSTM(Stacked, rnn.LSTM):
    """Gluon's LSTM."""


class RNNLM(RNNLMScratch):
    """A language model: one-hot or embedding input, recurrent layers, a linear output layer.

    Maps ids (batch, steps) to logits (batch, steps, `vocab_size`). `rnn` is an RNN, GRU or
    LSTM, and `lr` the learning rate. An `embedding_size` of 0 means one-hot input; `optimizer` is
    sgd or adam; `momentum` goes with sgd; with `tied` the embedding is the output layer's weight.
    """

    def __init__(
        self,
        rnn: nn.Block,
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
        shared = self.embedding.params if self.tied else None
        self.linear = nn.Dense(
            self.vocab_size, flatten=False, in_units=self.embedding_size * self.tied, params=shared
        )
        self.linear.hybridize(**COMPILED)
        self.initialize()

    def one_hot(self, X: np.ndarray) -> np.ndarray:
        """The layers' inputs for ids (batch, steps): (steps, batch, features)."""
        return self.embedding(X.T) if self.embedding_size else super().one_hot(X)

    def output_layer(self, hiddens: np.ndarray) -> np.ndarray:
        """The logits, (batch, steps, vocab), for (steps, batch, hidden)."""
        return self.linear(hiddens).swapaxes(0, 1)

    def chunked_loss(self, X: np.ndarray, Y: np.ndarray, state: Any = None) -> np.ndarray:
        """The loss of a batch, of whose logits there is one block at a time, made anew backward."""
        hiddens, state = self.rnn(self.one_hot(X), state)
        self.final_state = detached(state)
        with autograd.pause():
            self.linear(hiddens[:1, :1])  # a lazy layer learns its shape
        rows = hiddens.reshape(-1, hiddens.shape[-1])  # (steps * batch, hidden)
        blocks = ChunkedLoss(Y.T.reshape(-1), language_model.chunk_rows(self.vocab_size))
        return blocks(rows, self.linear.weight.data(), self.linear.bias.data()).sum()

    def configure_optimizers(self) -> gluon.Trainer:
        """The optimiser named at the start."""
        if self.optimizer == "adam":
            return gluon.Trainer(self.parameters(), Adam(self.lr))
        settings = {"learning_rate": self.lr, "momentum": self.momentum}
        return gluon.Trainer(self.parameters(), "sgd", settings)


RNNLM.default_head = language_model.head_methods(RNNLM)


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


class Adam(mxnet.optimizer.Adam):
    """Adam with its paper's epsilon, as in PyTorch; MXNet adds it before the bias is corrected."""

    def update(self, index: int, weight: Any, grad: Any, state: Any) -> None:
        """Change one parameter by its gradient."""
        steps = self._index_update_count.get(index, 0) + 1
        self.epsilon = 1e-8 * (1 - self.beta2**steps) ** 0.5
        super().update(index, weight, grad, state)


# Weights from and to other frameworks.

CELLS = {"rnn_tanh": "rnn", "rnn_relu": "rnn-relu", "gru": "gru", "lstm": "lstm"}

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
        npx.random.seed(seed)
    rnn = LAYERS[arch.cell](arch.hidden, arch.layers, dropout=dropout)
    model = RNNLM(rnn, arch.vocab, lr, arch.embedding, optimizer, momentum, arch.tied)
    model(np.zeros((1, 1)))  # lazy layers learn their shapes
    model.cast(values["linear.bias"].dtype)
    for name, parameter in parameters_by_name(model).items():
        parameter.set_data(from_numpy(values[name]))
    return model


def architecture(model: RNNLMScratch) -> Architecture:
    """Architecture of a model whose layers are Gluon's own."""
    layers: Any = getattr(getattr(model, "rnn", None), "rnn", None)
    linear: Any = getattr(model, "linear", None)
    known = isinstance(layers, rnn.RNN | rnn.GRU | rnn.LSTM) and isinstance(linear, nn.Dense)
    if not known or linear.act is not None:
        wanted = (
            "a model of rnn.RNN, rnn.GRU or rnn.LSTM as rnn.rnn, and of nn.Dense without "
            "activation as linear,"
        )
        scratch = isinstance(model.parameters(), list)
        cure = "npx.save(path, model.parameters())" if scratch else "model.save_parameters(path)"
        raise weights.not_canonical(wanted, model, cure)
    return Architecture(
        CELLS[layers._mode],
        model.vocab_size,
        layers._hidden_size,
        layers._num_layers,
        getattr(model, "embedding_size", 0),
        getattr(model, "tied", False),
    )


def parameters_by_name(model: RNNLMScratch) -> dict[str, gluon.Parameter]:
    """Gluon's parameters of a model by canonical name."""
    layers = layer_parameters(model.rnn.rnn)
    found = {f"rnn.{name}": parameter for name, parameter in layers.items()}
    found |= {f"linear.{name}": value for name, value in model.linear._reg_params.items()}
    if getattr(model, "embedding_size", 0):
        found["embedding.weight"] = model.embedding.weight
    if getattr(model, "tied", False):
        del found["linear.weight"]
    return found


def layer_parameters(layers: nn.Block) -> dict[str, gluon.Parameter]:
    """Gluon's parameters of recurrent layers by canonical name: weight_ih_l0 is l0_i2h_weight."""
    found = {}
    for name, parameter in layers._reg_params.items():
        side, source, kind = name.split("_")
        end = f"l{side[1:]}_reverse" if side[0] == "r" else side
        found[f"{kind}_{source.replace('2', '')}_{end}"] = parameter
    return found


def export_weights(model: RNNLMScratch) -> Weights:
    """The weights of a model by canonical name; copies."""
    arch = architecture(model)
    values = {
        name: numpy(parameter.data()) for name, parameter in parameters_by_name(model).items()
    }
    if isinstance(model.rnn.rnn, Stacked):  # whose redundant biases count for nothing
        for name in values:
            if "bias_hh" in name:
                values[name][cells.CELLS[arch.cell].redundant_bias(arch.hidden)] = 0
    weights.check(values, arch)  # a bidirectional layer, for one, has more
    return values


def version() -> str:
    """The version of MXNet."""
    return mxnet.__version__


def devices() -> list[str]:
    """The devices that can be used here."""
    return [str(device) for device in (cpu(), *try_all_gpus())]
