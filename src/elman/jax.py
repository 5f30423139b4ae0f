"""The names of D2L on JAX and flax.linen: `from elman import jax as d2l`."""

import inspect
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any, cast

import numpy as _numpy

from elman.core.errors import ElmanError, not_installed

try:
    import jax
    import optax
    from flax import linen as nn
    from flax.training import train_state
except ModuleNotFoundError as error:
    raise not_installed("jax", error) from error
from jax import numpy as jnp

from elman.core.data import corpus, data_module
from elman.core.files.download import DATA_URL, download
from elman.core.hyperparameters import HyperParameters, add_to_class, check_len, check_shape
from elman.core.model import language_model, weights
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
    "get_key",
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

arange = jnp.arange
concat = jnp.concatenate
cos = jnp.cos
exp = jnp.exp
float32 = jnp.float32
int32 = jnp.int32
int64 = jnp.int64
log = jnp.log
matmul = jnp.matmul


def get_key() -> jax.Array:
    """A random key, other at each call; `random.seed` makes the sequence repeat."""
    return jax.random.PRNGKey(random.randrange(10**6))


def normal(shape: Sequence[int]) -> jax.Array:
    """Standard normal numbers."""
    return jax.random.normal(get_key(), shape)


ones = jnp.ones


def rand(*shape: int) -> jax.Array:
    """Uniform numbers between 0 and 1."""
    return jax.random.uniform(get_key(), shape)


def randn(*shape: int) -> jax.Array:
    """Standard normal numbers."""
    return normal(shape)


sigmoid = jax.nn.sigmoid
sin = jnp.sin
stack = jnp.stack
tanh = jnp.tanh
tensor = jnp.array
zeros = jnp.zeros

argmax = jnp.argmax
astype = jnp.astype
reduce_mean = jnp.mean
reduce_sum = jnp.sum
reshape = jnp.reshape
size = jnp.size
swapaxes = jnp.swapaxes
to = jax.device_put
transpose = jnp.transpose


def numpy(x: Any) -> _numpy.ndarray:
    """An array as a NumPy array, from wherever it lies."""
    return _numpy.asarray(x)


# Devices.


def cpu() -> jax.Device:
    """The CPU."""
    return jax.devices("cpu")[0]


def gpu(i: int = 0) -> jax.Device:
    """The i-th GPU."""
    return jax.devices("gpu")[i]


def num_gpus() -> int:
    """Number of GPUs that can be used here."""
    try:
        return len(jax.devices("gpu"))
    except RuntimeError:  # JAX knows none
        return 0


def try_gpu(i: int = 0) -> jax.Device:
    """The i-th GPU where there is one, else the CPU."""
    return gpu(i) if num_gpus() > i else cpu()


def try_all_gpus() -> list[jax.Device]:
    """All GPUs; an empty list where there is none."""
    return [gpu(i) for i in range(num_gpus())]


# Models, data and the loop.


class Module(nn.Module, module.Module):
    """The base class of models; `params` are its parameters once it is built or trained.

    `built` are the variables it goes by where no trainer has others, `key` the seed of dropout.
    """

    plot_train_per_epoch: int = field(default=2, init=False)
    plot_valid_per_epoch: int = field(default=1, init=False)
    board: ProgressBoard = field(default_factory=ProgressBoard, init=False)

    # Without annotations, of which flax would make fields.
    trainer = built = key = compiled_read = compiled_follow = cast(Any, None)

    def __getstate__(self) -> dict[str, Any]:
        """State of a copy or a pickle: the variables as they are now, and nothing compiled."""
        compiled = {"compiled_read": None, "compiled_follow": None}
        return {**module.Module.__getstate__(self), "built": self.variables_now, **compiled}

    @property
    def params(self) -> Any:
        """The parameters as they are now, or None before there are any."""
        return None if self.variables_now is None else self.variables_now["params"]

    @property
    def variables_now(self) -> Any:
        """Variables that its trainer has made of the model, or those it was built with, or None."""
        trainer = self.trainer
        if trainer is None or trainer.model is not self or trainer.state is None:
            return self.built
        return {"params": trainer.state.params, "batch_stats": trainer.state.batch_stats}

    def __call__(self, X: Any, *args: Any, **kwargs: Any) -> Any:
        """`forward`."""
        return self.forward(X, *args, **kwargs)

    def forward(self, X: Any, *args: Any, **kwargs: Any) -> Any:
        """The outputs for a batch of inputs; those of `self.net` unless overridden."""
        return module.Module.forward(self, X, *args, **kwargs)

    def loss(self, params: Any, X: Any, y: Any, state: Any) -> Any:
        """The mean loss of a batch of inputs X, a tuple; `state` is a trainer's."""
        raise NotImplementedError("define loss(params, X, y, state)")

    def training_step(self, params: Any, batch: Sequence[Any], state: Any) -> tuple[Any, Any]:
        """The loss of a training batch, (inputs ..., targets), and its gradients."""
        loss, gradients = jax.value_and_grad(self.loss)(params, batch[:-1], batch[-1], state)
        self.plot("loss", loss, train=True)
        return loss, gradients

    def validation_step(self, params: Any, batch: Sequence[Any], state: Any) -> Any:
        """The loss of a validation batch, (inputs ..., targets)."""
        loss = self.loss(params, batch[:-1], batch[-1], state)
        self.plot("loss", loss, train=False)
        return loss

    def configure_optimizers(self) -> optax.GradientTransformation:
        """SGD with the learning rate `self.lr`."""
        return optax.sgd(self.lr)

    def apply_init(self, dummy_input: Sequence[Any], key: Any) -> Any:
        """Draw the variables, for inputs of this shape."""
        return self.init(key, *dummy_input)


class DataModule(data_module.DataModule):
    """The base class of data; minibatches are NumPy arrays, as in d2l."""

    def to_tensor(self, array: _numpy.ndarray) -> _numpy.ndarray:
        """An integer array in 32 bits, which is all that JAX computes with; others as they are."""
        return array.astype(_numpy.int32) if array.dtype == _numpy.int64 else array


class TrainState(train_state.TrainState):
    """State that training changes: parameters, optimiser, statistics, and the key of dropout.

    What the optimiser makes of the gradients is scaled by `scale`, as its learning rate would.
    """

    batch_stats: Any
    dropout_rng: Any
    scale: Any = 1.0

    def apply_gradients(self, *, grads: Any, **changes: Any) -> Any:
        """The state after the optimiser's step."""
        updates, opt_state = self.tx.update(grads, self.opt_state, self.params)
        updates = jax.tree.map(lambda update: self.scale * update, updates)
        params = optax.apply_updates(self.params, updates)
        return self.replace(step=self.step + 1, params=params, opt_state=opt_state, **changes)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` under `jax.jit`, or as it is where its code needs the values of its arrays."""
    run = jax.jit(function)

    def call(*arguments: Any) -> Any:
        nonlocal run
        try:
            return run(*arguments)
        except (TypeError, IndexError):  # as are the errors that tracing raises
            if run is function:
                raise
        result = function(*arguments)  # which raises what is the caller's mistake
        run = function
        return result

    return call


def reached_in(changed: Mapping[str, Any]) -> Any:
    """The state after a batch, among the variables that a model has changed on the way."""
    return changed.get("intermediates", {}).get("reached")


class Trainer(trainer.Trainer):
    """Trains a model on data; with `num_gpus=1` on a GPU where there is one.

    `state` holds what training changes: parameters, optimiser, statistics.
    """

    model: Any = None
    state: Any = None

    @cached_property
    def gpus(self) -> list[jax.Device]:
        """The GPUs to train on, at most `num_gpus`."""
        return try_all_gpus()[: self.num_gpus]

    @cached_property
    def device(self) -> jax.Device:
        """The device to train on."""
        return self.gpus[0] if self.gpus else cpu()

    def fit(self, model: Module, data: Any, key: Any = None, resume: Any = None) -> None:
        """Train `model` on `data` from the weights it has, or from new ones drawn with `key`.

        With `resume`, a checkpoint, from that on.
        """
        self.key = key
        try:
            super().fit(model, data, resume)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise MemoryError(str(error)) from error

    def prepare_model(self, model: Module) -> None:
        """Tie the model to this trainer; models keep what earlier trainings made of them."""
        for trained in (self.model, model):
            if trained is not None:
                trained.built = trained.variables_now
        self.state = None
        model.compiled_read = model.compiled_follow = None
        super().prepare_model(model)

    def prepare_optimizer(self) -> None:
        """Ask the model for its optimiser, and make the state that training changes."""
        super().prepare_optimizer()
        key = self.model.key if self.key is None else self.key
        params_key, dropout_key = jax.random.split(get_key() if key is None else key)
        variables = self.model.built
        if variables is None or self.key is not None:
            inputs = self.example()[:-1]
            variables = self.model.apply_init(
                inputs, key={"params": params_key, "dropout": dropout_key}
            )
        state = TrainState.create(
            apply_fn=self.model.apply,
            params=variables["params"],
            batch_stats=variables.get("batch_stats", {}),
            dropout_rng=dropout_key,
            tx=self.optim,
            scale=jnp.float32(1),
        )
        self.state = jax.device_put(state, self.device)
        self._update, self._validate_batch = compiled(self._step), compiled(self._validation)

    def prepare_batch(self, batch: Sequence[Any]) -> Sequence[Any]:
        """Move a batch to the GPU; elsewhere it goes where the parameters are."""
        return jax.device_put(list(batch), self.device) if self.gpus else list(batch)

    def update(self, batch: Sequence[Any]) -> float:
        """Take one optimisation step and return the batch's mean loss."""
        self.state, (loss, self.gradient_norm), plots, self.model.reached = self._update(
            self.state, batch
        )
        self.model.plot_all(plots, train=True)
        return float(loss)

    def _step(self, state: TrainState, batch: Sequence[Any]) -> tuple[TrainState, Any, Any, Any]:
        with self.model.collecting() as plots:
            value, gradients = self.model.training_step(state.params, batch, state)
        loss, changed = value if isinstance(value, tuple) else (value, {})
        norm = global_norm(gradients)
        if self.gradient_clip_val > 0:
            gradients = self.clip_gradients(self.gradient_clip_val, gradients)
        state = state.apply_gradients(grads=gradients)
        return (
            state.replace(
                dropout_rng=jax.random.split(state.dropout_rng)[0],
                batch_stats=changed.get("batch_stats", state.batch_stats),
            ),
            (loss, norm),
            plots,
            reached_in(changed),
        )

    def scale_learning_rate(self, factor: float) -> None:
        """From here on the learning rate is `factor` times what the optimiser has begun with."""
        scale = jax.device_put(jnp.float32(factor), self.device)
        self.state = self.state.replace(scale=scale)

    def capture(self) -> dict[str, Any]:
        """All that training has changed by now: weights, optimiser, generators; copies."""
        leaves = jax.tree_util.tree_leaves(self.state)
        arrays = {str(number): _numpy.array(leaf) for number, leaf in enumerate(leaves)}
        return arrays | checkpoint.parts_of(self.carried, numpy)

    def restore(self, arrays: Mapping[str, Any]) -> None:
        """Take what `capture` gave, after the model and its optimiser are prepared."""
        leaves, tree = jax.tree_util.tree_flatten(self.state)
        kept = [arrays[str(number)] for number in range(len(leaves))]
        taken = [
            jnp.asarray(array, getattr(leaf, "dtype", None))
            for array, leaf in zip(kept, leaves, strict=True)
        ]
        self.state = jax.device_put(jax.tree_util.tree_unflatten(tree, taken), self.device)
        self.carried = jax.device_put(checkpoint.state_of(arrays, jnp.asarray), self.device)

    def validate(self, batch: Sequence[Any]) -> float | None:
        """Return the batch's mean loss, or None where the model gives none."""
        loss, plots, self.model.reached = self._validate_batch(self.state, batch)
        self.model.plot_all(plots, train=False)
        return None if loss is None else float(loss)

    def _validation(self, state: TrainState, batch: Sequence[Any]) -> tuple[Any, Any, Any]:
        with self.model.collecting() as plots:
            value = self.model.validation_step(state.params, batch, state)
        loss, changed = value if isinstance(value, tuple) else (value, {})
        return loss, plots, reached_in(changed)

    def clip_gradients(self, grad_clip_val: float, grads: Any) -> Any:
        """The gradients, scaled so that their common norm is at most `grad_clip_val`."""
        scale = jnp.minimum(1, grad_clip_val / global_norm(grads))
        return jax.tree.map(lambda gradient: gradient * scale, grads)


def global_norm(grads: Any) -> Any:
    """The norm of all gradients as if they were one vector."""
    return jnp.sqrt(sum(jnp.vdot(gradient, gradient) for gradient in jax.tree.leaves(grads)))


class Classifier(Module):
    """The base class of classification models."""

    def training_step(self, params: Any, batch: Sequence[Any], state: Any) -> tuple[Any, Any]:
        """The loss of a training batch with what else has changed, and its gradients."""
        with_gradients = jax.value_and_grad(self.loss, has_aux=True)
        value, gradients = with_gradients(params, batch[:-1], batch[-1], state)
        self.plot("loss", value[0], train=True)
        return value, gradients

    def validation_step(self, params: Any, batch: Sequence[Any], state: Any) -> Any:
        """The loss of a validation batch; plots it and the accuracy."""
        loss, _ = self.loss(params, batch[:-1], batch[-1], state)
        self.plot("loss", loss, train=False)
        accuracy = self.accuracy(params, batch[:-1], batch[-1], state)
        self.plot("acc", accuracy, train=False)
        return loss

    def accuracy(self, params: Any, X: Any, Y: Any, state: Any, averaged: bool = True) -> Any:
        """The share of correct predictions for the inputs X, a tuple, or 1 and 0 for each."""
        Y_hat = state.apply_fn({"params": params, "batch_stats": state.batch_stats}, *X)
        preds = Y_hat.reshape(-1, Y_hat.shape[-1]).argmax(axis=1)
        correct = (preds == Y.reshape(-1)).astype(jnp.float32)
        return correct.mean() if averaged else correct

    def loss(self, params: Any, X: Any, Y: Any, state: Any, averaged: bool = True) -> Any:
        """The cross-entropy in nats for the inputs X, a tuple: the mean, or that of each.

        With it comes a dict of the variables that the model has changed on the way.
        """
        Y_hat, changed = state.apply_fn(
            {"params": params, "batch_stats": state.batch_stats},
            *X,
            mutable=["batch_stats", "intermediates"],
            rngs={"dropout": state.dropout_rng},
        )
        targets = Y.reshape(Y_hat.shape[:-1])  # logits in a new shape would be a copy
        losses = optax.softmax_cross_entropy_with_integer_labels(Y_hat, targets)
        return (losses.mean() if averaged else losses.reshape(-1)), changed

    def layer_summary(self, X_shape: tuple[int, ...], key: Any = None) -> None:
        """Print the output shape of each layer of `self.net`."""
        X = jnp.zeros(X_shape)
        variables = self.init(get_key() if key is None else key, X)
        bound = self.bind(variables, mutable=["batch_stats"])
        for layer in bound.net.layers:
            X = layer(X)
            print(layer.__class__.__name__, "output shape:\t", X.shape)


class LinearRegression(Module):
    """Linear regression with half the mean squared error."""

    lr: float

    def setup(self) -> None:
        """Make the layer."""
        self.net = nn.Dense(1, kernel_init=nn.initializers.normal(0.01))

    def forward(self, X: Any) -> Any:
        """The predictions, (batch, 1)."""
        return self.net(X)

    def loss(self, params: Any, X: Any, y: Any, state: Any) -> Any:
        """Half the mean squared error for the inputs X, a tuple."""
        return optax.l2_loss(state.apply_fn({"params": params}, *X), y).mean()

    def get_w_b(self, state: Any) -> tuple[Any, Any]:
        """The weight and the bias of a trainer's state."""
        net = state.params["net"]
        return net["kernel"], net["bias"]


class TimeMachine(corpus.TimeMachine, DataModule):
    """The Time Machine in overlapping windows, as in d2l."""

    __init__ = corpus.TimeMachine.build_windows


class TextFile(corpus.TextFile, DataModule):
    """A text of any size, in three parts that do not overlap: `train`, `val`, `test`."""


class RNNScratch(nn.Module):
    """A tanh RNN from scratch: inputs (steps, batch, num_inputs) -> a list of (batch, hidden)."""

    num_inputs: int
    num_hiddens: int
    sigma: float = 0.01

    def setup(self) -> None:
        """Make the parameters."""
        normal = nn.initializers.normal(self.sigma)
        self.W_xh = self.param("W_xh", normal, (self.num_inputs, self.num_hiddens))
        self.W_hh = self.param("W_hh", normal, (self.num_hiddens, self.num_hiddens))
        self.b_h = self.param("b_h", nn.initializers.zeros, (self.num_hiddens,))

    def __call__(self, inputs: Any, state: Any = None) -> tuple[list[Any], Any]:
        """The outputs of all steps, and the last as the state."""
        if state is None:
            state = jnp.zeros((inputs.shape[1], self.num_hiddens))
        elif isinstance(state, tuple) or state.ndim == 3:
            (state,) = state
        outputs = []
        for X in inputs:  # (batch, num_inputs)
            state = jnp.tanh(X @ self.W_xh + state @ self.W_hh + self.b_h)
            outputs.append(state)
        return outputs, state


class RNNLMScratch(Classifier):
    """A language model from scratch around `rnn`: ids (batch, steps) -> (batch, steps, vocab).

    A subclass may override `setup`, `one_hot` and `output_layer`; `predict` and all else use what
    it puts there.
    """

    rnn: nn.Module
    vocab_size: int
    lr: float = 0.01

    built_in = cast(Any, None)  # the head that `loss_by_blocks` is for, if there is one

    def setup(self) -> None:
        """Make the parameters of the output layer."""
        normal = nn.initializers.normal(self.rnn.sigma)
        self.W_hq = self.param("W_hq", normal, (self.rnn.num_hiddens, self.vocab_size))
        self.b_q = self.param("b_q", nn.initializers.zeros, (self.vocab_size,))

    def training_step(self, params: Any, batch: Sequence[Any], state: Any) -> tuple[Any, Any]:
        """The loss of a training batch with what else has changed, and its gradients.

        Plots the perplexity.
        """
        with_gradients = jax.value_and_grad(self.batch_loss, has_aux=True)
        value, gradients = with_gradients(params, batch, state)
        self.plot("ppl", jnp.exp(value[0]), train=True)
        return value, gradients

    def validation_step(self, params: Any, batch: Sequence[Any], state: Any) -> Any:
        """The loss of a validation batch with what else has changed; plots its perplexity."""
        value = self.batch_loss(params, batch, state)
        self.plot("ppl", jnp.exp(value[0]), train=False)
        return value

    def batch_loss(self, params: Any, batch: Sequence[Any], state: Any) -> Any:
        """The loss of a batch, (ids, a state if there is one, targets), with what has changed."""
        X, *begin, Y = batch
        if not language_model.has_blocks(self, Y):
            return self.loss(params, batch[:-1], Y, state)
        return state.apply_fn(
            {"params": params, "batch_stats": state.batch_stats},
            *(X, Y, *begin),
            mutable=["batch_stats", "intermediates"],
            rngs={"dropout": state.dropout_rng},
            method="loss_by_blocks",
        )

    def one_hot(self, X: Any) -> Any:
        """The layers' inputs for ids (batch, steps): (steps, batch, vocab)."""
        return jax.nn.one_hot(X.T, self.vocab_size)

    def output_layer(self, rnn_outputs: Any) -> Any:
        """The logits, (batch, steps, vocab), for a list of outputs (batch, hidden)."""
        return jnp.stack([H @ self.W_hq + self.b_q for H in rnn_outputs], 1)

    def read(self, X: Any, state: Any = None) -> tuple[Any, Any]:
        """The logits for ids, and the state after them."""
        rnn_outputs, state = self.rnn(self.one_hot(X), state)
        return self.output_layer(rnn_outputs), state

    def forward(self, X: Any, state: Any = None) -> Any:
        """The logits for ids."""
        logits, state = self.read(X, state)
        self.keep(state)
        return logits

    def keep(self, state: Any) -> None:
        """Put the state reached among the variables that a model changes on the way."""
        self.sow("intermediates", "reached", state, lambda _, last: last, lambda: None)

    def step(
        self, ids: _numpy.ndarray, state: Any = None, params: Any = None
    ) -> tuple[_numpy.ndarray, Any]:
        """The logits of ids and the state after them, without dropout; ids and logits in NumPy.

        With the parameters `params`, where they are given.
        """
        ids = language_model.ids_of(ids, self.vocab_size)
        if self.compiled_read is None:
            self.compiled_read = compiled(partial(self.apply, method="read"))
        variables = {"params": self.params if params is None else params}

        def read(ids: _numpy.ndarray, state: Any) -> tuple[_numpy.ndarray, Any]:
            logits, state = self.compiled_read(variables, ids, state)
            return _numpy.asarray(logits), state

        with self.evaluating():
            return language_model.in_pieces(read, ids, state)

    def predict(
        self, prefix: str, num_preds: int, vocab: Vocab | None = None, params: Any = None
    ) -> str:
        """`prefix` and the `num_preds` likeliest tokens after it, one after the other.

        A model that was trained on a text, or loaded, knows its vocabulary. Without `params` (a
        device in their place is taken for the seed's code, and unused) they are the model's, or
        such as a training might begin with.
        """
        if not isinstance(params, Mapping):
            params = self.params or self._first_params()
        return language_model.predict(self._reader(params), prefix, num_preds, vocab)

    def _reader(self, params: Any) -> Any:
        reader = SimpleNamespace(
            step=partial(self.step, params=params), codec=self.codec, vocab_size=self.vocab_size
        )
        if looks_up(self.rnn):
            reader.follow = partial(self.follow, params=params)
        return reader

    def _first_params(self) -> Any:
        return self.init(jax.random.PRNGKey(0), jnp.zeros((1, 1), int))["params"]


# The cells. With x = W_ih x_t + b_ih and r = W_hh h_{t-1}, both (batch, gates * hidden), each gives
# the next state, a tuple of (batch, hidden) whose first is h. The bias b is the one of b_hh that
# counts: that of the GRU's candidate.


def tanh_cell(x: Any, r: Any, b: Any, state: Any) -> Any:
    """The next h = tanh(x + r) (Elman 1990)."""
    return (jnp.tanh(x + r),)


def relu_cell(x: Any, r: Any, b: Any, state: Any) -> Any:
    """The next h = max(x + r, 0)."""
    return (jax.nn.relu(x + r),)


def lstm_cell(x: Any, r: Any, b: Any, state: Any) -> Any:
    """The long short-term memory of Hochreiter and Schmidhuber (1997), with a forget gate."""
    i, f, g, o = jnp.split(x + r, 4, axis=1)
    c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def gru_cell(x: Any, r: Any, b: Any, state: Any) -> Any:
    """The gated recurrent unit of Cho et al. (2014), with the reset after the product."""
    x_r, x_z, x_n = jnp.split(x, 3, axis=1)
    r_r, r_z, r_n = jnp.split(r, 3, axis=1)
    z = jax.nn.sigmoid(x_z + r_z)
    n = jnp.tanh(x_n + jax.nn.sigmoid(x_r + r_r) * (r_n + b))
    return ((1 - z) * n + z * state[0],)


CELLS: dict[str, Any] = {
    "rnn": tanh_cell,
    "rnn-relu": relu_cell,
    "gru": gru_cell,
    "lstm": lstm_cell,
}


class Layers(nn.Module):
    """A stack of recurrent layers of the cell `cell`; subclasses have the fields."""

    @nn.compact
    def __call__(
        self, inputs: Any, state: Any = None, training: bool = False, num_inputs: int = 0
    ) -> tuple[Any, Any]:
        """The outputs of all steps, and the state after the last.

        Integer inputs, (steps, batch), below `num_inputs` stand for one-hot vectors.
        """
        names = weights.layer_names(self.num_layers, self.bidirectional)
        parts = 2 if self.cell == "lstm" else 1
        if state is None:
            number = sum(map(len, names))
            shape = (number, inputs.shape[1], self.num_hiddens)
            state = (jnp.zeros(shape),) * parts
        elif parts == 1:
            state = (state,)
        reached: list[Any] = []
        for layer, directions in enumerate(names):
            if layer > 0:
                inputs = nn.Dropout(self.dropout, deterministic=not training)(inputs)
            outputs = []
            for name in directions:
                start = tuple(part[len(reached)] for part in state)
                output, last = self._run(name, inputs, start, num_inputs)
                outputs.append(output)
                reached.append(last)
            inputs = jnp.concatenate(outputs, axis=2)  # (steps, batch, directions * hidden)
        state = tuple(jnp.stack(part) for part in zip(*reached, strict=True))
        return inputs, state if parts > 1 else state[0]

    def _run(self, name: str, inputs: Any, state: Any, num_inputs: int) -> tuple[Any, Any]:
        """One layer in one direction."""
        ids = jnp.issubdtype(inputs.dtype, jnp.integer)
        W_ih, W_hh, b_ih, b = self._weights(name, num_inputs if ids else inputs.shape[-1])

        def step(state: Any, x: Any) -> tuple[Any, Any]:
            state = CELLS[self.cell](x, state[0] @ W_hh.T, b, state)
            return state, state[0]

        # (steps, batch, gates * hidden)
        x = (W_ih.T + b_ih)[inputs] if ids else inputs @ W_ih.T + b_ih
        state, outputs = jax.lax.scan(step, state, x, reverse=name.endswith("_reverse"))
        return outputs, state

    def _weights(self, name: str, inputs: int) -> Any:
        """W_ih, W_hh, b_ih and the part of b_hh that counts; the rest is zero, and no parameter."""
        hidden, gates = self.num_hiddens, weights.GATES[self.cell] * self.num_hiddens

        def draw(key: Any, shape: tuple[int, ...]) -> Any:
            bound = hidden**-0.5
            return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

        W_ih = self.param(f"weight_ih{name}", draw, (gates, inputs))
        W_hh = self.param(f"weight_hh{name}", draw, (gates, hidden))
        b_ih = self.param(f"bias_ih{name}", draw, (gates,))
        b = self.param(f"bias_hh{name}", draw, (hidden,)) if self.cell == "gru" else None
        return W_ih, W_hh, b_ih, b


class RNN(Layers):
    """A stack of recurrent layers; `nonlinearity` is tanh or relu.

    Inputs are (steps, batch, features), outputs (steps, batch, num_hiddens), states
    (num_layers, batch, num_hiddens). Bidirectional layers have outputs (steps, batch,
    2 * num_hiddens) and states (2 * num_layers, batch, num_hiddens).

    - `num_hiddens`: hidden units of a layer.
    - `num_layers`: layers, one above the other.
    - `nonlinearity`: tanh or relu; GRU and LSTM have none to choose.
    - `dropout`: share of a layer's outputs that training puts to zero before the next.
    - `bidirectional`: also run from the last step to the first.
    """

    num_hiddens: int
    num_layers: int = 1
    nonlinearity: str = "tanh"
    dropout: float = 0
    bidirectional: bool = False

    def __post_init__(self) -> None:
        if self.nonlinearity not in ("tanh", "relu"):
            raise ElmanError(f"the nonlinearity is tanh or relu, got {self.nonlinearity!r}")
        super().__post_init__()

    @property
    def cell(self) -> str:
        """The name of the cell."""
        return "rnn" if self.nonlinearity == "tanh" else "rnn-relu"


class GRU(Layers):
    """A stack of gated recurrent layers.

    `num_hiddens`, `num_layers`, `dropout` and `bidirectional` are as in RNN.
    """

    num_hiddens: int
    num_layers: int = 1
    dropout: float = 0
    bidirectional: bool = False

    cell = "gru"


class LSTM(Layers):
    """A stack of LSTM layers; its state is a pair (H, C).

    `num_hiddens`, `num_layers`, `dropout` and `bidirectional` are as in RNN.
    """

    num_hiddens: int
    num_layers: int = 1
    dropout: float = 0
    bidirectional: bool = False

    cell = "lstm"


def check_call(rnn: nn.Module) -> None:
    """Raise an ElmanError unless layers can be called as an RNNLM calls them."""
    signature = inspect.signature(type(rnn).__call__)
    try:
        signature.bind(rnn, "inputs", "state", "training")
    except TypeError as error:
        _, *takes = signature.parameters
        raise ElmanError(
            "an RNNLM calls its layers with (inputs, state, training), and "
            f"{type(rnn).__name__} takes ({', '.join(takes)}): give its __call__ training=False "
            "after state"
        ) from error


def looks_up(rnn: nn.Module) -> bool:
    """True if these layers are this module's own, which take ids for one-hot vectors."""
    return type(rnn) in (RNN, GRU, LSTM)


class RNNLM(RNNLMScratch):
    """A language model: one-hot or embedding input, recurrent layers, a linear output layer.

    Maps ids (batch, steps) to logits (batch, steps, `vocab_size`). `rnn` is an RNN, GRU or
    LSTM, and `lr` the learning rate. An `embedding_size` of 0 means one-hot input; `optimizer` is
    sgd or adam; `momentum` goes with sgd; with `tied` the embedding is the output layer's weight.
    `training` is Flax's: false for a model that only reads.
    """

    training: bool = True
    embedding_size: int = 0
    optimizer: str = "sgd"
    momentum: float = 0.0
    tied: bool = False

    def __post_init__(self) -> None:
        trainer.check_optimizer(self.optimizer, self.lr, self.momentum)
        language_model.check_language_model(self.rnn, self.tied, self.embedding_size)
        check_call(self.rnn)
        super().__post_init__()

    def setup(self) -> None:
        """Make the embedding, where there is one, and the output layer."""
        if self.embedding_size:
            scale = self.embedding_size**-0.5 if self.tied else 1
            self.embedding = nn.Embed(
                self.vocab_size, self.embedding_size, embedding_init=nn.initializers.normal(scale)
            )
        if self.tied:
            self.bias = self.param("bias", nn.initializers.zeros, (self.vocab_size,))
        else:
            self.linear = nn.Dense(self.vocab_size)

    def one_hot(self, X: Any) -> Any:
        """The layers' inputs for ids (batch, steps): (steps, batch, features).

        Without an embedding this module's layers get the ids, (steps, batch), and look rows up.
        """
        if self.embedding_size:
            return self.embedding(X.T)
        return X.T if looks_up(self.rnn) else super().one_hot(X)

    def output_layer(self, hiddens: Any) -> Any:
        """The logits, (batch, steps, vocab), for (steps, batch, hidden)."""
        logits = self.embedding.attend(hiddens) + self.bias if self.tied else self.linear(hiddens)
        return logits.swapaxes(0, 1)

    def read(self, X: Any, state: Any = None) -> tuple[Any, Any]:
        """The logits for ids, and the state after them."""
        rnn_outputs, state = self.run(X, state)
        return self.output_layer(rnn_outputs), state

    def run(self, X: Any, state: Any) -> tuple[Any, Any]:
        """The outputs of the layers for ids, (steps, batch, hidden), and the state after them."""
        sizes = {"num_inputs": self.vocab_size} if looks_up(self.rnn) else {}
        rnn_outputs, state = self.rnn(self.one_hot(X), state, self.training, **sizes)
        return rnn_outputs, state

    def loss_by_blocks(self, X: Any, Y: Any, state: Any = None) -> Any:
        """The loss of a batch, of whose logits there is one block at a time, made anew backward."""
        hiddens, state = self.run(X, state)
        self.keep(state)
        weight, bias = self._output_weights()

        def row_loss(row: tuple[Any, Any]) -> Any:
            hidden, target = row
            logits = hidden @ weight + bias
            return optax.softmax_cross_entropy_with_integer_labels(logits, target)

        rows = hiddens.reshape(-1, hiddens.shape[-1]), Y.T.reshape(-1)  # (steps * batch, hidden)
        size = language_model.rows_of_block(self.vocab_size)
        return jax.lax.map(jax.checkpoint(row_loss), rows, batch_size=size).mean()

    def _output_weights(self) -> tuple[Any, Any]:
        """The output layer's weight, (hidden, vocab), and bias."""
        if self.tied:
            return self.embedding.embedding.T, self.bias
        linear = self.linear.variables["params"]
        return linear["kernel"], linear["bias"]

    def follow(
        self, token: int, state: Any, mask: _numpy.ndarray, params: Any = None
    ) -> tuple[list[int], Any]:
        """The likeliest ids after `token`, one after the other, and the state before the last.

        `mask`, (vocab,), is added to the logits.
        """
        if self.compiled_follow is None:
            self.compiled_follow = compiled(self._follow)
        variables = {"params": self.params if params is None else params}
        with self.evaluating():
            ids, state = self.compiled_follow(variables, jnp.full((1, 1), token), state, mask)
        return numpy(ids).tolist(), state

    def _follow(self, variables: Any, ids: Any, state: Any, mask: Any) -> tuple[Any, Any]:
        def step(carry: Any, _: Any) -> tuple[Any, Any]:
            logits, state = self.apply(variables, *carry, method="read")
            ids = (logits + mask).argmax(axis=-1).astype(jnp.int32)  # (1, 1)
            return (ids, state), ids[0, 0]

        (_, state), ids = jax.lax.scan(step, (ids, state), length=language_model.FOLLOWING)
        return ids, state

    def configure_optimizers(self) -> optax.GradientTransformation:
        """The optimiser named at the start."""
        if self.optimizer == "adam":
            return optax.adam(self.lr)
        return optax.sgd(self.lr, self.momentum or None)


RNNLM.built_in = language_model.head_of(RNNLM)


# Weights from and to other frameworks.

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
    model = RNNLM(
        LAYERS[arch.cell](arch.hidden, arch.layers, dropout=dropout),
        arch.vocab,
        lr,
        embedding_size=arch.embedding,
        optimizer=optimizer,
        momentum=momentum,
        tied=arch.tied,
    )
    model.built = {"params": jax.tree.map(jnp.asarray, to_params(values, arch))}
    model.key = jax.random.PRNGKey(seed)
    return model


def to_params(values: Weights, arch: Architecture) -> dict[str, Any]:
    """The tree of a model's parameters for weights by canonical name."""
    rnn = {}
    for name, value in values.items():
        if name.startswith("rnn.") and "bias_hh" not in name:
            rnn[name.removeprefix("rnn.")] = value
        elif "bias_hh" in name and arch.cell == "gru":
            rnn[name.removeprefix("rnn.")] = value[2 * arch.hidden :]
    params: dict[str, Any] = {"rnn": rnn}
    if arch.embedding:
        params["embedding"] = {"embedding": values["embedding.weight"]}
    if arch.tied:
        return params | {"bias": values["linear.bias"]}
    linear = {"kernel": values["linear.weight"].T, "bias": values["linear.bias"]}
    return params | {"linear": linear}


def architecture(model: RNNLMScratch) -> Architecture:
    """Architecture of a model whose layers are this module's."""
    if not isinstance(model, RNNLM) or not looks_up(model.rnn):
        wanted = "an RNNLM around this module's RNN, GRU or LSTM"
        cure = "flax.serialization.to_bytes(model.params)"
        raise weights.not_canonical(wanted, model, cure)
    rnn = model.rnn
    sizes = rnn.num_hiddens, rnn.num_layers, model.embedding_size
    return Architecture(rnn.cell, model.vocab_size, *sizes, model.tied)


def export_weights(model: RNNLMScratch) -> Weights:
    """The weights of a model by canonical name; copies."""
    arch = architecture(model)
    if model.params is None:
        raise ElmanError("this model has no weights yet: fit it first")
    params = jax.tree.map(numpy, model.params)
    values = {f"rnn.{name}": value for name, value in params["rnn"].items()}
    for name, shape in weights.shapes(arch).items():
        if "bias_hh" in name:
            whole = _numpy.zeros(shape, _numpy.float32)
            if arch.cell == "gru":
                whole[2 * arch.hidden :] = values[name]
            values[name] = whole
    if arch.embedding:
        values["embedding.weight"] = params["embedding"]["embedding"]
    if arch.tied:
        values["linear.bias"] = params["bias"]
    else:
        values["linear.weight"] = params["linear"]["kernel"].T
        values["linear.bias"] = params["linear"]["bias"]
    return {name: value.copy() for name, value in values.items()}


def version() -> str:
    """The version of JAX."""
    return str(jax.__version__)


def devices() -> list[str]:
    """The devices that can be used here."""
    return [str(device) for device in (cpu(), *try_all_gpus())]
