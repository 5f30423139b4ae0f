"""The names of D2L on TensorFlow: `from elman import tensorflow as d2l`."""

import inspect
import operator
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import cached_property, partial
from types import ModuleType
from typing import Any, NoReturn

import numpy as _numpy

from elman.core.errors import ElmanError, not_installed, requirements

# The book is written for Keras 2, which is tf_keras today. TensorFlow chooses its Keras when
# tf.keras is first used, and until then tf.keras is no real module.
if type(getattr(sys.modules.get("tensorflow"), "keras", None)) is not ModuleType:
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # that XLA is at work is no news
try:
    import tensorflow as tf

    tf.keras.layers  # noqa: B018
except ModuleNotFoundError as error:
    raise not_installed("tensorflow", error) from error
except ImportError as error:
    raise ElmanError(
        f"{error} TensorFlow is to use tf_keras: pip install "
        f"{requirements('tensorflow') or 'tf_keras'}, or set TF_USE_LEGACY_KERAS=0 for Keras 3"
    ) from error

from elman.core.data import corpus, data_module
from elman.core.files.download import DATA_URL, download
from elman.core.hyperparameters import HyperParameters, add_to_class, check_len, check_shape
from elman.core.model import language_model, weights
from elman.core.model.weights import Architecture, Weights
from elman.core.text.vocab import Vocab
from elman.core.training import checkpoint, module, trainer
from elman.core.training.plotting import ProgressBoard, plot, set_figsize

sys.modules.setdefault("tensorflow.keras", tf.keras)  # or importing from it would choose again

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

arange = tf.range
concat = tf.concat
cos = tf.cos
exp = tf.exp
float32 = tf.float32
int32 = tf.int32
int64 = tf.int64
log = tf.math.log
matmul = tf.matmul
normal = tf.random.normal
ones = tf.ones
rand = tf.random.uniform
randn = tf.random.normal
sigmoid = tf.sigmoid
sin = tf.sin
stack = tf.stack
tanh = tf.tanh
tensor = tf.constant
zeros = tf.zeros

argmax = tf.argmax
astype = tf.cast
reduce_mean = tf.reduce_mean
reduce_sum = tf.reduce_sum
reshape = tf.reshape


def size(a: tf.Tensor) -> int:
    """Number of elements in a tensor."""
    return int(tf.size(a))


swapaxes = tf.experimental.numpy.swapaxes


def to(x: tf.Tensor, device: Any) -> tf.Tensor:
    """A tensor on another device."""
    with device:
        return tf.identity(x)


transpose = tf.transpose


def numpy(x: tf.Tensor) -> _numpy.ndarray:
    """A tensor or a variable as a NumPy array."""
    return x.numpy()


# Devices. Each can be used in a `with` statement.


def cpu() -> Any:
    """The CPU."""
    return tf.device("/CPU:0")


def gpu(i: int = 0) -> Any:
    """The i-th GPU."""
    return tf.device(f"/GPU:{i}")


def num_gpus() -> int:
    """Number of GPUs that can be used here."""
    return len(tf.config.list_physical_devices("GPU"))


def try_gpu(i: int = 0) -> Any:
    """The i-th GPU where there is one, else the CPU."""
    return gpu(i) if num_gpus() > i else cpu()


def try_all_gpus() -> list[Any]:
    """All GPUs; an empty list where there is none."""
    return [gpu(i) for i in range(num_gpus())]


# Models, data and the loop.

KERAS_3 = "time_major" not in inspect.signature(tf.keras.layers.RNN).parameters


class Compiled:
    """A function as TensorFlow graphs, one for each set of shapes of its arguments.

    Where it can be no graph, for it asks a tensor's value, it runs as it is. With `xla`, for which
    it must have no effects, XLA compiles the graphs where it can.
    """

    def __init__(self, function: Callable[..., Any], xla: bool = False) -> None:
        self.function = function
        self.ways = (True, False) if xla else (False,)
        self.graphs: dict[Any, Callable[..., Any]] = {}

    def __call__(self, *arguments: Any) -> Any:
        """Call the function, compiled where it can be."""
        leaves = [leaf for leaf in tf.nest.flatten(arguments) if leaf is not None]
        if not all(hasattr(leaf, "shape") for leaf in leaves):
            return self.function(*arguments)
        key = (*map(type, arguments), *[(leaf.shape, leaf.dtype) for leaf in leaves])
        if key not in self.graphs:
            self.graphs[key] = self._trace(arguments)
        return self.graphs[key](*arguments)

    def _trace(self, arguments: Sequence[Any]) -> Callable[..., Any]:
        for xla in self.ways:
            with suppress(Exception):  # the user's code may raise anything
                # AutoGraph would make float(tensor) another tensor, where it has to fail.
                graph = tf.function(self.function, autograph=False, jit_compile=xla)
                traced: Callable[..., Any] = graph.get_concrete_function(*arguments)
                if xla:
                    traced(*arguments)  # XLA compiles, or fails, when first called
                return traced
        return self.function


class Module(module.Module, tf.keras.Model):
    """The base class of models."""

    _training = False

    def __init__(self, plot_train_per_epoch: int = 2, plot_valid_per_epoch: int = 1) -> None:
        super().__init__()
        self.built = True  # Keras 3 would call the model on symbols to build it,
        self.__dict__.pop("loss", None)  # and hides the method loss by an attribute
        self.prepare_plots(plot_train_per_epoch, plot_valid_per_epoch)

    def __reduce__(self) -> NoReturn:
        """Raise an ElmanError: a copy of Keras' would have no variables, if it could be made."""
        raise ElmanError(
            "a model of TensorFlow is neither copied nor pickled: elman.save(folder, model) writes "
            "it, and elman.load reads it"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> NoReturn:
        """Raise the same."""
        self.__reduce__()

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        """`call`, by way of Keras, whose layers then know whether the model trains."""
        if "training" in inspect.signature(self.call).parameters:
            kwargs.setdefault("training", self.training)
        return tf.keras.Model.__call__(self, *inputs, **kwargs)

    def call(self, X: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """`forward`; `training` is kept."""
        if training is not None and training != self.training:
            self.training = training
        return self.forward(X, *args)

    @property
    def training(self) -> bool:
        """Mode of the model and of all models in it: true while they train."""
        return self._training

    @training.setter
    def training(self, value: bool) -> None:
        self._training = value
        for layer in self.layers:
            if isinstance(layer, Module):
                layer.training = value

    @property
    def trainable_variables(self) -> list[Any]:
        """The variables that training changes."""
        found = list(super().trainable_variables)
        if KERAS_3 and self.trainable:  # it knows of no tf.Variable that is an attribute
            found += [value for value in self._attributes() if isinstance(value, tf.Variable)]
            found += [value for layer in self.layers for value in layer.trainable_variables]
        return list({id(value): value for value in found if value.trainable}.values())

    def _attributes(self) -> Iterator[Any]:
        """The values of all attributes, and of those that are lists."""
        for value in vars(self).values():
            yield from value if isinstance(value, list | tuple) else [value]

    def configure_optimizers(self) -> Any:
        """SGD with the learning rate `self.lr`."""
        lr = float(self.lr) if isinstance(self.lr, int) else self.lr  # Keras 3 takes no integer
        return tf.keras.optimizers.SGD(lr)


class DataModule(data_module.DataModule):
    """The base class of data."""

    def to_tensor(self, array: _numpy.ndarray) -> tf.Tensor:
        """A NumPy array as a tensor."""
        return tf.constant(array)

    def to_array(self, tensor: Any) -> Any:
        """A tensor, or what NumPy makes an array of, as an array."""
        return numpy(tensor) if tf.is_tensor(tensor) else super().to_array(tensor)


class Trainer(trainer.Trainer):
    """Trains a model on data; with `num_gpus=1` on a GPU where there is one.

    With `num_gpus=0` TensorFlow chooses the device. Steps are compiled, for each `fit` anew.
    """

    @cached_property
    def gpus(self) -> list[Any]:
        """The GPUs to train on, at most `num_gpus`."""
        return try_all_gpus()[: self.num_gpus]

    def prepare_batch(self, batch: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        """Move a batch to the GPU."""
        return [to(array, self.gpus[0]) for array in batch] if self.gpus else batch

    def prepare_optimizer(self) -> None:
        """Ask the model for its optimiser; steps are compiled anew."""
        super().prepare_optimizer()
        self._updating: Compiled | None = None
        self._validating: Compiled | None = None
        rate: Any = getattr(self.optim, "learning_rate", None)
        self._rate: Any = float(rate) if hasattr(rate, "assign") else None

    def update(self, batch: Sequence[tf.Tensor]) -> float:
        """Take one optimisation step and return the batch's mean loss."""
        if self._updating is None:
            self._updating = Compiled(self._update)
            self._make_variables([part if part is None else part[:1] for part in batch])
        try:
            loss, self.gradient_norm = self._run(self._updating, batch, train=True)
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError(str(error)) from error
        return float(loss)

    def validate(self, batch: Sequence[tf.Tensor]) -> float | None:
        """Return the batch's mean loss, or None where the model gives none."""
        if self._validating is None:
            self._validating = Compiled(self._loss)
        loss = self._run(self._validating, batch, train=False)
        return None if loss is None else float(loss)

    def _make_variables(self, batch: Sequence[tf.Tensor]) -> None:
        """Let layers and optimiser make their variables, since a graph that does is made twice."""
        with suppress(Exception), self.model.evaluating():  # the step will show what is wrong
            self.model(*batch[:-1])
            self.optim.build(self.model.trainable_variables)

    def _run(self, step: Compiled, batch: Sequence[tf.Tensor], train: bool) -> Any:
        with self.gpus[0] if self.gpus else nullcontext():
            result, plots, reached = step(*batch)
        keep(self.model, reached)
        self.model.plot_all(plots, train)
        return result

    def _update(self, *batch: tf.Tensor) -> tuple[Any, dict[str, Any], Any]:
        with self.model.collecting() as plots, tf.GradientTape() as tape:
            loss = self.model.training_step(batch)
        variables = self.model.trainable_variables
        gradients = tape.gradient(loss, variables)
        used = [i for i, gradient in enumerate(gradients) if gradient is not None]
        gradients = [tf.convert_to_tensor(gradients[i]) for i in used]
        norm = tf.linalg.global_norm(gradients)
        if self.gradient_clip_val > 0:
            gradients = self.clip_gradients(self.gradient_clip_val, gradients)
        self.optim.apply_gradients(zip(gradients, [variables[i] for i in used], strict=True))
        return (loss, norm), dict(plots), self.model.reached

    def _loss(self, *batch: tf.Tensor) -> tuple[Any, dict[str, Any], Any]:
        with self.model.collecting() as plots:
            loss = self.model.validation_step(batch)
        return loss, dict(plots), self.model.reached

    def scale_learning_rate(self, factor: float) -> None:
        """From here on the learning rate is `factor` times what the optimiser has begun with."""
        rate = self.optim.learning_rate
        before = float(rate)
        rate.assign(self._rate * factor)
        if getattr(self.optim, "momentum", 0):
            # Keras' velocities have the learning rate in them, and would go on with the one before.
            for velocity in getattr(self.optim, "momentums", ()):  # none before they are made
                velocity.assign(velocity * (float(rate) / before))

    def capture(self) -> dict[str, Any]:
        """All that training has changed by now: weights, optimiser, generators; copies."""
        arrays = {name: variable.numpy() for name, variable in self._variables().items()}
        return arrays | checkpoint.parts_of(self.carried, numpy)

    def prepare_restore(self) -> None:
        """Have the variables there."""
        self._make_variables(self.prepare_batch(self.example()))

    def restore(self, arrays: Mapping[str, Any]) -> None:
        """Take what `capture` gave, after the model and its optimiser are prepared."""
        for name, variable in self._variables().items():
            variable.assign(arrays[name])
        self.carried = checkpoint.state_of(arrays, tf.constant)

    def _variables(self) -> dict[str, Any]:
        """Variables of the model, of its optimiser, and of dropout."""
        kept = getattr(self.optim, "variables", ())
        kept = kept() if callable(kept) else kept  # a method in tf_keras
        rate = getattr(self.optim, "learning_rate", None)  # tf_keras leaves it out of the variables
        draws = getattr(getattr(getattr(self.model, "rnn", None), "rnn", None), "draws", None)
        return {
            **{f"model.{n}": variable for n, variable in enumerate(self._of_model())},
            **{f"optim.{n}": variable for n, variable in enumerate(kept)},
            **({"learning_rate": rate} if isinstance(rate, tf.Variable) else {}),
            **({} if draws is None else {"generator": draws}),
        }

    def _of_model(self) -> list[Any]:
        """The model's variables; Keras 3 leaves out those that are no layer's, and are trained."""
        known = [*self.model.variables, *self.model.trainable_variables]
        return list({id(variable): variable for variable in known}.values())

    def clip_gradients(self, grad_clip_val: float, grads: Sequence[Any]) -> list[Any]:
        """The gradients, scaled so that their common norm is at most `grad_clip_val`."""
        grads = [tf.convert_to_tensor(grad) for grad in grads]  # an embedding's is sparse
        scale = tf.minimum(grad_clip_val / tf.linalg.global_norm(grads), 1.0)
        return [grad * scale for grad in grads]


class Classifier(Module):
    """The base class of classification models."""

    def validation_step(self, batch: Sequence[tf.Tensor]) -> tf.Tensor:
        """The loss of a validation batch; plots it and the accuracy."""
        Y_hat = self(*batch[:-1])
        loss = self.loss(Y_hat, batch[-1])
        self.plot("loss", loss, train=False)
        self.plot("acc", self.accuracy(Y_hat, batch[-1]), train=False)
        return loss

    def accuracy(self, Y_hat: tf.Tensor, Y: tf.Tensor, averaged: bool = True) -> tf.Tensor:
        """The share of correct predictions, or 1 and 0 for each."""
        preds = tf.cast(tf.argmax(tf.reshape(Y_hat, (-1, Y_hat.shape[-1])), axis=1), Y.dtype)
        correct = tf.cast(preds == tf.reshape(Y, (-1,)), tf.float32)
        return tf.reduce_mean(correct) if averaged else correct

    def loss(self, Y_hat: tf.Tensor, Y: tf.Tensor, averaged: bool = True) -> tf.Tensor:
        """The cross-entropy in nats: the mean, or that of each prediction."""
        flat = tf.reshape(Y_hat, (-1, Y_hat.shape[-1]))  # (predictions, classes)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.reshape(Y, (-1,)), flat)
        return tf.reduce_mean(losses) if averaged else losses

    def layer_summary(self, X_shape: tuple[int, ...]) -> None:
        """Print the output shape of each layer of `self.net`."""
        X = tf.random.normal(X_shape)
        for layer in self.net.layers:
            X = layer(X)
            print(layer.__class__.__name__, "output shape:\t", X.shape)


class LinearRegression(Module):
    """Linear regression with the mean squared error."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = tf.keras.layers.Dense(
            1, kernel_initializer=tf.keras.initializers.RandomNormal(stddev=0.01)
        )

    def forward(self, X: tf.Tensor) -> tf.Tensor:
        """The predictions, (batch, 1)."""
        return self.net(X)

    def loss(self, y_hat: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """The mean squared error."""
        return tf.reduce_mean(tf.square(y_hat - y))

    def get_w_b(self) -> tuple[_numpy.ndarray, _numpy.ndarray]:
        """The weight and the bias."""
        w, b = self.net.get_weights()
        return w, b


class Text(DataModule):
    """The base class of data that are token ids."""

    def to_tensor(self, array: _numpy.ndarray) -> tf.Tensor:
        """A NumPy array of ids as a tensor of 32 bits, as in d2l."""
        return tf.constant(array, tf.int32)


class TimeMachine(corpus.TimeMachine, Text):
    """The Time Machine in overlapping windows, as in d2l."""

    __init__ = corpus.TimeMachine.build_windows


class TextFile(corpus.TextFile, Text):
    """A text of any size, in three parts that do not overlap: `train`, `val`, `test`."""


class RNNScratch(Module):
    """A tanh RNN from scratch: inputs (steps, batch, num_inputs) -> a list of (batch, hidden)."""

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.W_xh = tf.Variable(tf.random.normal((num_inputs, num_hiddens)) * sigma)
        self.W_hh = tf.Variable(tf.random.normal((num_hiddens, num_hiddens)) * sigma)
        self.b_h = tf.Variable(tf.zeros(num_hiddens))

    def forward(self, inputs: tf.Tensor, state: Any = None) -> tuple[list[Any], tf.Tensor]:
        """The outputs of all steps, and the last as the state."""
        if state is None:
            state = tf.zeros((inputs.shape[1], self.num_hiddens))
        elif not tf.is_tensor(state) or len(state.shape) == 3:
            (state,) = state
        outputs = []
        for X in tf.unstack(inputs):  # (batch, num_inputs)
            state = tf.tanh(X @ self.W_xh + state @ self.W_hh + self.b_h)
            outputs.append(state)
        return outputs, state


class RNNLMScratch(language_model.LanguageModel, Classifier):
    """A language model from scratch around `rnn`: ids (batch, steps) -> (batch, steps, vocab).

    A subclass may override `init_params`, `one_hot` and `output_layer`; `predict` and all else use
    what it puts there.
    """

    def __init__(self, rnn: Any, vocab_size: int, lr: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.init_params()

    exp = staticmethod(tf.exp)

    def init_params(self) -> None:
        """Make the parameters of the output layer."""
        self.W_hq = tf.Variable(
            tf.random.normal((self.rnn.num_hiddens, self.vocab_size)) * self.rnn.sigma
        )
        self.b_q = tf.Variable(tf.zeros(self.vocab_size))

    def one_hot(self, X: tf.Tensor) -> tf.Tensor:
        """The layers' inputs for ids (batch, steps): (steps, batch, vocab)."""
        return tf.one_hot(tf.transpose(X), self.vocab_size)

    def output_layer(self, rnn_outputs: Any) -> tf.Tensor:
        """The logits, (batch, steps, vocab), for a list of outputs (batch, hidden)."""
        return tf.stack([H @ self.W_hq + self.b_q for H in rnn_outputs], 1)

    def loss(self, Y_hat: tf.Tensor, Y: tf.Tensor, averaged: bool = True) -> tf.Tensor:
        """The cross-entropy in nats: the mean, or that of each token."""
        if averaged and len(Y.shape) == 2:  # time-major, as the layers leave them, needs no copy
            Y_hat, Y = tf.transpose(Y_hat, (1, 0, 2)), tf.transpose(Y)
        return super().loss(Y_hat, Y, averaged)

    def forward(self, X: tf.Tensor, state: Any = None) -> tf.Tensor:
        """The logits for ids."""
        rnn_outputs, state = self.rnn(self.one_hot(X), state)
        keep(self, state)
        return self.output_layer(rnn_outputs)

    _reader: "Reader | None" = None

    def step(self, ids: _numpy.ndarray, state: Any = None) -> tuple[_numpy.ndarray, Any]:
        """The logits of ids and the state after them, without dropout; ids and logits in NumPy."""
        ids = language_model.ids_of(ids, self.vocab_size)
        if self._reader is None or (state is None and not self._reader.fits()):
            self._reader = Reader(self, ids[:, :1])
        return language_model.in_pieces(self._reader, ids, state)

    def read(self, X: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """The logits of ids and the state after them, without dropout."""
        with self.evaluating():
            rnn_outputs, state = self.rnn(self.one_hot(X), state)
            return self.output_layer(rnn_outputs), state


def keep(model: Module, state: Any) -> None:
    """Keep the state that a model has reached, without Keras, which would look for layers in it."""
    model.__dict__["reached"] = state


class Reader:
    """The `read` of a language model, compiled for the few lengths in which `step` needs it.

    `ids`, (batch, 1), are any: once they are read, the layers have their variables, which no graph
    should make.
    """

    def __init__(self, model: RNNLMScratch, ids: _numpy.ndarray) -> None:
        self.model = model
        self(ids, None)
        self.made_of = self._parts()
        self.one = Compiled(model.read, xla=not num_gpus())  # XLA would do without cuDNN
        self.many = Compiled(model.read)

    def __call__(self, ids: _numpy.ndarray, state: Any) -> tuple[_numpy.ndarray, Any]:
        """The logits of ids, (batch, steps), and the state after them."""
        if ids.shape[1] > 1:
            read: Callable[..., Any] = self.many
        elif state is not None:
            read = self.one
        else:
            read = self.model.read  # a text's first token alone is not worth a graph of its own
        logits, state = read(tf.constant(ids, tf.int32), state)
        return logits.numpy(), state

    def fits(self) -> bool:
        """True if the model still has the variables and the code that were compiled."""
        now = self._parts()
        return len(now) == len(self.made_of) and all(map(operator.is_, now, self.made_of))

    def _parts(self) -> list[Any]:
        kind, layers = type(self.model), type(self.model.rnn)
        code = [kind.one_hot, kind.output_layer, getattr(layers, "forward", None)]
        return [*code, *self.model.trainable_variables]


class RNN(Module):
    """A stack of recurrent layers; `nonlinearity` is tanh or relu.

    Inputs are (steps, batch, features), outputs (steps, batch, num_hiddens). The state of a layer
    is (batch, num_hiddens), that of several a list. `dropout` acts between layers. Bidirectional
    layers have outputs (steps, batch, 2 * num_hiddens) and a list of 2 * num_layers states.
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
        cell = partial(tf.keras.layers.SimpleRNN, num_hiddens, nonlinearity)
        self.rnn = Stack(cell, num_layers, dropout, bidirectional)

    def forward(self, inputs: tf.Tensor, H: Any = None) -> tuple[tf.Tensor, Any]:
        """The outputs of all steps, and the state after the last."""
        outputs, H = self.rnn(inputs, H)
        return outputs, H


class GRU(RNN):
    """A stack of gated recurrent layers; the state is a list, even of one, as in d2l."""

    def __init__(
        self,
        num_hiddens: int,
        num_layers: int = 1,
        dropout: float = 0,
        bidirectional: bool = False,
    ) -> None:
        Module.__init__(self)
        self.save_hyperparameters()
        cell = partial(tf.keras.layers.GRU, num_hiddens)
        self.rnn = Stack(cell, num_layers, dropout, bidirectional)

    def forward(self, inputs: tf.Tensor, H: Any = None) -> tuple[tf.Tensor, Any]:
        """The outputs of all steps, and the state after the last."""
        outputs, H = self.rnn(inputs, H)
        return outputs, H if isinstance(H, list) else [H]


class LSTM(RNN):
    """A stack of LSTM layers; the state of each is a list [H, C]."""

    def __init__(
        self,
        num_hiddens: int,
        num_layers: int = 1,
        dropout: float = 0,
        bidirectional: bool = False,
    ) -> None:
        Module.__init__(self)
        self.save_hyperparameters()
        cell = partial(tf.keras.layers.LSTM, num_hiddens)
        self.rnn = Stack(cell, num_layers, dropout, bidirectional)


TIME_AXIS = 1 if KERAS_3 else 0  # in Keras' layers; Keras 2 can spare transposing
SHORT = range(1, 65)  # steps for which a graph without a loop is faster, and soon made


class Stack(tf.keras.layers.Layer):
    """Keras' recurrent layers one above the other, time first, with dropout between them.

    `make` makes a layer; where they are bidirectional, every second one goes backwards.
    """

    def __init__(
        self, make: Callable[..., Any], num_layers: int, dropout: float, bidirectional: bool
    ) -> None:
        super().__init__()
        self.built = True  # Keras 3 would call it on symbols to build it
        make = partial(make, return_sequences=True, return_state=True)
        if not KERAS_3:
            make = partial(make, time_major=True)
        ways = (False, True) if bidirectional else (False,)
        self.layers = [
            hold_spare_biases(make(go_backwards=way)) for _ in range(num_layers) for way in ways
        ]
        self.dropout, self.directions = dropout, len(ways)
        if dropout:  # what dropout is drawn from: a seed, and how often it was
            seed = tf.random.uniform((), maxval=tf.int32.max, dtype=tf.int32)
            self.draws = tf.Variable([seed, 0], trainable=False)

    def call(self, inputs: tf.Tensor, state: Any = None, training: bool = False) -> Any:
        """The outputs, and the state of the only layer, or a list of those of all."""
        given, reached = self._states(state), []
        if KERAS_3:
            inputs = tf.transpose(inputs, (1, 0, 2))
        for first in range(0, len(self.layers), self.directions):
            if first > 0 and training and self.dropout:
                seed = tf.add(self.draws, [first, 0])
                inputs = tf.nn.experimental.stateless_dropout(inputs, self.dropout, seed)
            level = slice(first, first + self.directions)
            runs = list(map(partial(self._run, inputs), self.layers[level], given[level]))
            inputs = tf.concat([outputs for outputs, *_ in runs], -1)
            reached += [last if len(last) > 1 else last[0] for _, *last in runs]
        if training and self.dropout:
            self.draws.assign_add([0, 1])
        if KERAS_3:
            inputs = tf.transpose(inputs, (1, 0, 2))
        return inputs, reached if len(reached) > 1 else reached[0]

    def _states(self, state: Any) -> list[Any]:
        """State that each layer starts from."""
        if state is None:
            return [None] * len(self.layers)
        tensors = tf.nest.flatten(state)
        each = len(tensors) // len(self.layers)  # H, or H and C
        return [tensors[each * i : each * (i + 1)] for i in range(len(self.layers))]

    def _run(self, inputs: tf.Tensor, layer: Any, state: Any) -> tuple[tf.Tensor, ...]:
        if isinstance(layer, tf.keras.layers.SimpleRNN):
            layer.unroll = inputs.shape[TIME_AXIS] in SHORT
        outputs, *state = layer(inputs, initial_state=state)
        if layer.go_backwards:
            outputs = tf.reverse(outputs, [TIME_AXIS])
        return outputs, *state


def hold_spare_biases(layer: Any) -> Any:
    """Keep at zero the biases of a GRU that repeat another, so that an update counts once.

    Its reset and update gates add an input and a recurrent bias before the nonlinearity; training
    both would double the learning rate of their sum. Keras' other layers have one bias.
    """
    if isinstance(layer, tf.keras.layers.GRU):
        layer.cell.__class__ = HeldGRUCell
    return layer


class HeldGRUCell(tf.keras.layers.GRUCell):
    """A GRU's cell whose recurrent biases of the reset and the update gate are zero for good."""

    @property
    def bias(self) -> tf.Tensor:
        """The input and the recurrent bias, (2, 3 * hidden), of which a part gets no gradient."""
        mask = _numpy.ones((2, 3 * self.units))
        mask[1, weights.spare("gru", self.units)] = 0
        return self._bias * tf.constant(mask, self._bias.dtype)

    @bias.setter
    def bias(self, value: Any) -> None:
        self._bias = value


class RNNLM(RNNLMScratch):
    """A language model: one-hot or embedding input, recurrent layers, a linear output layer.

    Maps ids (batch, steps) to logits (batch, steps, `vocab_size`). `rnn` is an RNN, GRU or
    LSTM, and `lr` the learning rate. An `embedding_size` of 0 means one-hot input; `optimizer` is
    sgd or adam; `momentum` goes with sgd; with `tied` the embedding is the output layer's weight.
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
    ) -> None:
        trainer.check_optimizer(optimizer, lr, momentum)
        language_model.check_language_model(rnn, tied, embedding_size)
        Classifier.__init__(self)
        self.save_hyperparameters()
        self.init_params()

    def init_params(self) -> None:
        """Make the embedding, where there is one of its own, and the output layer."""
        self.linear = tf.keras.layers.Dense(self.vocab_size)
        if self.tied:
            self.linear.build((None, self.embedding_size))
        elif self.embedding_size:
            self.embedding = tf.keras.layers.Embedding(self.vocab_size, self.embedding_size)

    def one_hot(self, X: tf.Tensor) -> tf.Tensor:
        """The layers' inputs for ids (batch, steps): (steps, batch, features)."""
        if self.tied:
            return tf.gather(tf.transpose(self.linear.kernel), tf.transpose(X))
        return self.embedding(tf.transpose(X)) if self.embedding_size else super().one_hot(X)

    def output_layer(self, hiddens: tf.Tensor) -> tf.Tensor:
        """The logits, (batch, steps, vocab), for (steps, batch, hidden)."""
        return tf.transpose(self.linear(hiddens), (1, 0, 2))

    def loss_by_blocks(self, X: tf.Tensor, Y: tf.Tensor, state: Any = None) -> tf.Tensor:
        """The loss of a batch, of whose logits there is one block at a time, made anew backward."""
        hiddens, state = self.rnn(self.one_hot(X), state)
        keep(self, state)
        rows = tf.reshape(hiddens, (-1, hiddens.shape[-1]))  # (steps * batch, hidden)
        targets = tf.reshape(tf.transpose(Y), (-1,))  # (steps * batch,)
        self.linear(rows[:1])  # a layer without variables makes them
        weight, bias = map(tf.convert_to_tensor, (self.linear.kernel, self.linear.bias))
        size = language_model.rows_of_block(self.vocab_size)
        return total_by_blocks(rows, weight, bias, targets, size) / rows.shape[0]

    def configure_optimizers(self) -> Any:
        """The optimiser named at the start."""
        if self.optimizer == "adam":
            return Adam(float(self.lr), epsilon=1e-8)
        return tf.keras.optimizers.SGD(float(self.lr), momentum=self.momentum)


RNNLM.built_in = language_model.head_of(RNNLM)


def total_by_blocks(
    rows: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor, targets: tf.Tensor, size: int
) -> tf.Tensor:
    """The sum of the cross-entropies of all rows, (number, hidden), so many at a time."""
    number = rows.shape[0]

    def block(start: Any, rows: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        aims = targets[start : start + size]
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(aims, rows @ weight + bias)
        return tf.reduce_sum(losses)

    def loop(body: Callable[..., Any], *sums: tf.Tensor) -> Any:
        """`sums` after `body` has been called with the start of each block and them."""
        return tf.while_loop(
            lambda start, *_: start < number,
            lambda start, *sums: (start + size, *body(start, *sums)),
            (0, *sums),
            parallel_iterations=1,
        )[1:]

    @tf.custom_gradient
    def total(rows: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor) -> Any:
        def forward(start: Any, total: tf.Tensor) -> Any:
            return (total + block(start, rows[start : start + size], weight, bias),)

        def backward(start: Any, d_rows: Any, d_weight: tf.Tensor, d_bias: tf.Tensor) -> Any:
            parts = rows[start : start + size], weight, bias
            with tf.GradientTape() as tape:
                tape.watch(parts)
                loss = block(start, *parts)
            d_part, more_weight, more_bias = tape.gradient(loss, parts)
            return d_rows.write(start // size, d_part), d_weight + more_weight, d_bias + more_bias

        def gradients(d_total: tf.Tensor) -> Any:
            pieces = tf.TensorArray(
                rows.dtype,
                -(-number // size),
                infer_shape=False,
                element_shape=(None, rows.shape[1]),
            )
            pieces, *sums = loop(backward, pieces, tf.zeros_like(weight), tf.zeros_like(bias))
            d_rows = tf.ensure_shape(pieces.concat(), rows.shape)
            return [d_total * gradient for gradient in (d_rows, *sums)]

        return loop(forward, tf.zeros((), rows.dtype))[0], gradients

    return total(rows, weight, bias)


class Adam(tf.keras.optimizers.Adam):
    """Adam with the paper's epsilon, which adds to the corrected deviation, as in PyTorch.

    Keras' adds to the deviation before it is corrected, and so counts for more in early steps.
    """

    @property
    def epsilon(self) -> tf.Tensor:
        """Number for Keras to add in this step."""
        step = tf.cast(self.iterations, tf.float32) + 1
        return self._epsilon * tf.sqrt(1 - self.beta_2**step)

    @epsilon.setter
    def epsilon(self, value: float) -> None:
        self._epsilon = value


# Weights from and to other frameworks.

KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
CELLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "rnn": (tf.keras.layers.SimpleRNN, {"activation": "tanh"}),
    "rnn-relu": (tf.keras.layers.SimpleRNN, {"activation": "relu"}),
    "gru": (
        tf.keras.layers.GRU,
        {"activation": "tanh", "recurrent_activation": "sigmoid", "reset_after": True},
    ),
    "lstm": (tf.keras.layers.LSTM, {"activation": "tanh", "recurrent_activation": "sigmoid"}),
}


def _is(layer: Any, kind: Any, settings: dict[str, Any]) -> bool:
    """True if a layer is of a kind of Keras', with a bias and these settings."""
    wanted = settings | {"use_bias": True}
    return isinstance(layer, kind) and wanted.items() <= layer.get_config().items()


def _cell(layer: Any) -> str | None:
    for cell, (kind, settings) in CELLS.items():
        if _is(layer, kind, settings | {"go_backwards": False}):
            return cell
    return None


def _layers(model: RNNLMScratch) -> list[Any]:
    rnn = getattr(getattr(model, "rnn", None), "rnn", None)
    return list(rnn.layers) if isinstance(rnn, Stack) else [rnn]


def _swap_gates(array: _numpy.ndarray) -> _numpy.ndarray:
    """The rows of r z n as z r n, or the other way about."""
    first, second, third = _numpy.split(array, 3)
    return _numpy.concatenate([second, first, third])


def _to_keras(cell: str, values: Sequence[_numpy.ndarray]) -> list[_numpy.ndarray]:
    """Kernel, recurrent kernel and bias of a layer, for its weights in the order of `KINDS`."""
    if cell == "gru":
        W_ih, W_hh, *biases = map(_swap_gates, values)
        return [W_ih.T, W_hh.T, _numpy.stack(biases)]
    W_ih, W_hh, b_ih, _ = values
    return [W_ih.T, W_hh.T, b_ih]


def _from_keras(
    cell: str, kernel: _numpy.ndarray, recurrent: _numpy.ndarray, bias: _numpy.ndarray
) -> list[_numpy.ndarray]:
    """The weights of a layer in the order of `KINDS`."""
    if cell == "gru":
        return [*map(_swap_gates, (kernel.T, recurrent.T, *bias))]
    return [kernel.T, recurrent.T, bias, _numpy.zeros_like(bias)]


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
        tf.random.set_seed(seed)
    rnn = LAYERS[arch.cell](arch.hidden, arch.layers, dropout=dropout)
    model = RNNLM(rnn, arch.vocab, lr, arch.embedding, optimizer, momentum, arch.tied)
    model(tf.zeros((1, 1), tf.int32))  # the layers make their variables
    for layer, (name,) in zip(_layers(model), weights.layer_names(arch.layers), strict=True):
        layer.set_weights(_to_keras(arch.cell, [values[f"rnn.{kind}{name}"] for kind in KINDS]))
    output = "embedding.weight" if arch.tied else "linear.weight"
    model.linear.set_weights([values[output].T, values["linear.bias"]])
    if arch.embedding and not arch.tied:
        model.embedding.set_weights([values["embedding.weight"]])
    return model


def architecture(model: RNNLMScratch) -> Architecture:
    """Architecture of a model whose layers are Keras' own."""
    layers, linear = _layers(model), getattr(model, "linear", None)
    cell = _cell(layers[0]) if all(map(_cell, layers)) else None
    if cell is None or not _is(linear, tf.keras.layers.Dense, {"activation": "linear"}):
        wanted = "a model of SimpleRNN, GRU or LSTM as rnn.rnn, and of Dense as linear,"
        cure = "tf.train.Checkpoint(model=model).write(path)"
        raise weights.not_canonical(wanted, model, cure)
    return Architecture(
        cell,
        model.vocab_size,
        layers[0].units,
        len(layers),
        getattr(model, "embedding_size", 0),
        getattr(model, "tied", False),
    )


def export_weights(model: RNNLMScratch) -> Weights:
    """The weights of a model by canonical name; copies."""
    arch = architecture(model)
    model(tf.zeros((1, 1), tf.int32))  # the layers make their variables
    values = {
        f"rnn.{kind}{name}": value
        for layer, (name,) in zip(_layers(model), weights.layer_names(arch.layers), strict=True)
        for kind, value in zip(KINDS, _from_keras(arch.cell, *layer.get_weights()), strict=True)
    }
    kernel, values["linear.bias"] = model.linear.get_weights()
    values["embedding.weight" if arch.tied else "linear.weight"] = kernel.T
    if arch.embedding and not arch.tied:
        (values["embedding.weight"],) = model.embedding.get_weights()
    weights.check(values, arch)
    return values


def version() -> str:
    """The version of TensorFlow."""
    return tf.__version__


def devices() -> list[str]:
    """The devices that can be used here."""
    return ["cpu", *(f"gpu:{i}" for i in range(num_gpus()))]
