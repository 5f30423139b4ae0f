"""Models, losses and optimizers: Module, Classifier, LinearRegression, RNNLMScratch, RNNLM."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import jax
import numpy as np
import optax
from flax import linen as nn
from jax import numpy as jnp

from elman.book import module, rnnlm
from elman.book.plotting import ProgressBoard
from elman.inference import language_model
from elman.inference.text_model import TextModel
from elman.jax import arrays
from elman.jax.arrays import get_key, numpy
from elman.jax.layers import accepts_ids, check_call
from elman.model.optimizers import Optimizer
from elman.model.options import ModelOptions
from elman.model.weights import is_recurrent
from elman.text.vocab import Vocab

__all__ = ["RNNLM", "Classifier", "LinearRegression", "Module", "RNNLMScratch"]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` by `jax.jit`; if it needs the values of its arrays, it runs uncompiled."""
    run = jax.jit(function)

    def call(*arguments: Any) -> Any:
        nonlocal run
        try:
            return run(*arguments)
        except (TypeError, IndexError):  # the base classes of tracing errors
            if run is function:
                raise
        result = function(*arguments)  # raises again if the caller made a mistake
        run = function
        return result

    return call


def make_optimizer(wanted: Optimizer) -> optax.GradientTransformation:
    """Optimizer with this description."""
    if wanted.optimizer == "adam":
        return optax.adam(wanted.lr)
    if wanted.optimizer == "adamw":
        return optax.chain(
            optax.scale_by_adam(),
            recurrent_scaled(wanted.recurrent_factor),
            optax.add_decayed_weights(wanted.decay),
            optax.scale_by_learning_rate(wanted.lr),
        )
    return optax.sgd(wanted.lr, wanted.momentum or None)


def recurrent_scaled(factor: float) -> optax.GradientTransformation:
    """Multiply the steps of recurrent layers by a factor."""
    if factor == 1:
        return optax.identity()

    def scaled(path: Any, step: Any) -> Any:
        return step * factor if is_recurrent(name_of(path)) else step

    return optax.stateless(lambda steps, _: jax.tree_util.tree_map_with_path(scaled, steps))


def name_of(path: Any) -> str:
    """Name of a weight at a path in a model's parameters."""
    return ".".join(key.key for key in path)


def mean(values: Any, mask: Any) -> Any:
    """Mean of a value for each target, over the targets that count."""
    return values.mean(where=None if mask is None else mask.reshape(values.shape))


def chunked_loss(
    model: Any, rows: Any, targets: Any, weight: Any, bias: Any, mask: Any, size: int
) -> Any:
    """Mean loss of states, (steps * batch, hidden), with `size` rows of logits at a time.

    The targets are (steps * batch,), and the mask is (steps, batch).
    """

    def row_loss(row: tuple[Any, Any]) -> Any:
        hidden, target = row
        return model.token_losses(hidden @ weight + bias, target)

    losses = jax.lax.map(jax.checkpoint(row_loss), (rows, targets), batch_size=size)
    return mean(losses, mask)


class Mode:
    """Default of `training` in models that do not declare it.

    The class itself has no `training`: a declaration without a default, as in the book, would count
    as one.
    """

    def __get__(self, model: Any, kind: type) -> bool:
        if model is None:
            raise AttributeError("training")
        return False


class Modes:
    """Attribute of models; Flax would wrap it in one of its module classes."""

    training = cast(Any, Mode())


class Module(nn.Module, Modes, module.Module):
    """Base class of models; `params` contains the parameters once it is built or trained.

    `built` are its variables until a trainer has newer ones; `key` seeds dropout.
    """

    plot_train_per_epoch: int = field(default=2, init=False)
    plot_valid_per_epoch: int = field(default=1, init=False)
    board: ProgressBoard = field(default_factory=ProgressBoard, init=False)

    # Flax would turn annotated attributes into fields.
    trainer = built = key = compiled_read = compiled_decode = cast(Any, None)

    def __getstate__(self) -> dict[str, Any]:
        """State for a copy or a pickle: with the current variables, without compiled functions."""
        compiled = {"compiled_read": None, "compiled_decode": None}
        return {**module.Module.__getstate__(self), "built": self.current_variables, **compiled}

    @property
    def params(self) -> Any:
        """Current parameters, or None before there are any."""
        return None if self.current_variables is None else self.current_variables["params"]

    @property
    def current_variables(self) -> Any:
        """Variables of its trainer, or the ones it was built with, or None."""
        trainer = self.trainer
        if trainer is None or trainer.model is not self or trainer.state is None:
            return self.built
        return {"params": trainer.state.params, "batch_stats": trainer.state.batch_stats}

    def __call__(self, X: Any, *args: Any, **kwargs: Any) -> Any:
        """`forward`."""
        return self.forward(X, *args, **kwargs)

    def forward(self, X: Any, *args: Any, **kwargs: Any) -> Any:
        """Outputs for a batch of inputs, computed by `self.net` unless overridden."""
        return module.Module.forward(self, X, *args, **kwargs)

    def loss(self, params: Any, X: Any, y: Any, state: Any) -> Any:
        """Mean loss of a batch of inputs X, a tuple; `state` is a trainer's state."""
        raise NotImplementedError("define loss(params, X, y, state)")

    def training_step(self, params: Any, batch: Sequence[Any], state: Any) -> tuple[Any, Any]:
        """Loss of a training batch, (inputs ..., targets), and its gradients."""
        loss, gradients = jax.value_and_grad(self.loss)(params, batch[:-1], batch[-1], state)
        self.plot("loss", loss, train=True)
        return loss, gradients

    def validation_step(self, params: Any, batch: Sequence[Any], state: Any) -> Any:
        """Loss of a validation batch, (inputs ..., targets)."""
        loss = self.loss(params, batch[:-1], batch[-1], state)
        self.plot("loss", loss, train=False)
        return loss

    def configure_optimizers(self) -> optax.GradientTransformation:
        """SGD with the learning rate `self.lr`."""
        return optax.sgd(self.lr)

    def apply_init(self, dummy_input: Sequence[Any], key: Any) -> Any:
        """Initialize the variables for inputs of this shape."""
        return self.init(key, *dummy_input)


class Classifier(Module):
    """Base class of classification models."""

    def training_step(self, params: Any, batch: Sequence[Any], state: Any) -> tuple[Any, Any]:
        """Loss of a training batch with the changed variables, and its gradients."""
        with_gradients = jax.value_and_grad(self.loss, has_aux=True)
        value, gradients = with_gradients(params, batch[:-1], batch[-1], state)
        self.plot("loss", value[0], train=True)
        return value, gradients

    def validation_step(self, params: Any, batch: Sequence[Any], state: Any) -> Any:
        """Loss of a validation batch; plots it and the accuracy."""
        loss, _ = self.loss(params, batch[:-1], batch[-1], state)
        self.plot("loss", loss, train=False)
        with self.measuring():
            accuracy = self.accuracy(params, batch[:-1], batch[-1], state)
        self.plot("acc", accuracy, train=False)
        return loss

    def accuracy(self, params: Any, X: Any, Y: Any, state: Any, averaged: bool = True) -> Any:
        """Share of correct predictions for inputs X, a tuple; unless `averaged`, 1 or 0 each."""
        Y_hat = state.apply_fn({"params": params, "batch_stats": state.batch_stats}, *X)
        preds = Y_hat.reshape(-1, Y_hat.shape[-1]).argmax(axis=1)
        correct = (preds == Y.reshape(-1)).astype(jnp.float32)
        return mean(correct, self.target_mask) if averaged else correct

    def token_losses(self, logits: Any, targets: Any) -> Any:
        """Cross-entropy in nats of logits, (..., classes), for each target."""
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets)

    def loss(self, params: Any, X: Any, Y: Any, state: Any, averaged: bool = True) -> Any:
        """Mean cross-entropy in nats for the inputs X, a tuple; unless `averaged`, one for each.

        Also returns a dict of the variables changed by the forward pass.
        """
        Y_hat, changed = state.apply_fn(
            {"params": params, "batch_stats": state.batch_stats},
            *X,
            mutable=["batch_stats", "intermediates"],
            rngs={"dropout": state.dropout_rng},
        )
        # Reshaping the logits would copy them.
        losses = self.token_losses(Y_hat, Y.reshape(Y_hat.shape[:-1]))
        return mean(losses, self.target_mask) if averaged else losses.reshape(-1), changed

    def layer_summary(self, X_shape: tuple[int, ...], key: Any = None) -> None:
        """Print the output shape of each layer of `self.net`."""
        X = jnp.zeros(X_shape)
        variables = self.init(get_key() if key is None else key, X)
        bound = self.bind(variables, mutable=["batch_stats"])
        module.print_output_shapes(bound.net.layers, X)


class LinearRegression(Module):
    """Linear regression with half the mean squared error."""

    lr: float

    def setup(self) -> None:
        """Create the layer."""
        self.net = nn.Dense(1, kernel_init=nn.initializers.normal(0.01))

    def forward(self, X: Any) -> Any:
        """Predictions, (batch, 1)."""
        return self.net(X)

    def loss(self, params: Any, X: Any, y: Any, state: Any) -> Any:
        """Half the mean squared error for the inputs X, a tuple."""
        return optax.l2_loss(state.apply_fn({"params": params}, *X), y).mean()

    def get_w_b(self, state: Any) -> tuple[Any, Any]:
        """Weight and bias from a trainer's state."""
        net = state.params["net"]
        return net["kernel"], net["bias"]


class RNNLMScratch(TextModel, Classifier):
    """Language model from scratch around `rnn`: ids (batch, steps) -> (batch, steps, vocab).

    A subclass may override `setup`, `one_hot` and `output_layer`; `predict` and all other
    methods use the overrides.
    """

    rnn: nn.Module
    vocab_size: int
    lr: float = 0.01

    xp = cast(Any, arrays)
    chunked_head = cast(Any, None)  # methods for which `chunked_loss` is valid

    def setup(self) -> None:
        """Create the parameters of the output layer."""
        normal = nn.initializers.normal(self.rnn.sigma)
        self.W_hq = self.param("W_hq", normal, (self.rnn.num_hiddens, self.vocab_size))
        self.b_q = self.param("b_q", nn.initializers.zeros, (self.vocab_size,))

    def training_step(self, params: Any, batch: Sequence[Any], state: Any) -> tuple[Any, Any]:
        """Loss of a training batch with the changed variables, and its gradients."""
        with_gradients = jax.value_and_grad(self.batch_loss, has_aux=True)
        value, gradients = with_gradients(params, batch, state)
        self.plot_loss(value[0], train=True)
        return value, gradients

    def validation_step(self, params: Any, batch: Sequence[Any], state: Any) -> Any:
        """Loss of a validation batch with the changed variables."""
        value = self.batch_loss(params, batch, state)
        self.plot_loss(value[0], train=False)
        return value

    def batch_loss(self, params: Any, batch: Sequence[Any], state: Any) -> Any:
        """Loss of a batch, (ids, a state if there is one, targets), with the changed variables."""
        X, *begin, Y = batch
        if not rnnlm.uses_chunks(self, Y):
            return self.loss(params, batch[:-1], Y, state)
        return state.apply_fn(
            {"params": params, "batch_stats": state.batch_stats},
            *(X, Y, *begin),
            mask=self.target_mask,
            mutable=["batch_stats", "intermediates"],
            rngs={"dropout": state.dropout_rng},
            method="chunked_loss",
        )

    def one_hot(self, X: Any) -> Any:
        """Inputs of the layers, (steps, batch, vocab), for ids (batch, steps)."""
        return jax.nn.one_hot(X.T, self.vocab_size)

    def output_layer(self, rnn_outputs: Any) -> Any:
        """Logits, (batch, steps, vocab), for a list of outputs (batch, hidden)."""
        return jnp.stack([H @ self.W_hq + self.b_q for H in rnn_outputs], 1)

    def read(self, X: Any, state: Any = None) -> tuple[Any, Any]:
        """Logits for ids, and the state after them."""
        rnn_outputs, state = self.rnn(self.one_hot(X), state)
        return self.output_layer(rnn_outputs), state

    def forward(self, X: Any, state: Any = None) -> Any:
        """Logits for ids."""
        logits, state = self.read(X, state)
        self.set_final_state(state)
        return logits

    def set_final_state(self, state: Any) -> None:
        """Store the final state among the variables that the forward pass changes."""
        last = rnnlm.detached(self.xp, state)
        self.sow("intermediates", "final_state", last, lambda _, last: last, lambda: None)

    def step(
        self, ids: np.ndarray, state: Any = None, params: Any = None
    ) -> tuple[np.ndarray, Any]:
        """Logits for ids, a NumPy array, and the state after them, without dropout.

        `params` replace the model's parameters if given.
        """
        ids = language_model.ids_of(ids, self.vocab_size)
        if self.compiled_read is None:
            self.compiled_read = compiled(partial(self.apply, method="read"))
        variables = {"params": self.params if params is None else params}

        def read(ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
            logits, state = self.compiled_read(variables, ids, state)
            return np.asarray(logits), state

        with self.evaluating():
            return language_model.in_chunks(read, ids, state)

    def predict(
        self, prefix: str, num_preds: int, vocab: Vocab | None = None, params: Any = None
    ) -> str:
        """`prefix` followed by the `num_preds` likeliest tokens, one by one.

        A trained or loaded model contains its vocabulary. Without `params`, the model's own or
        newly initialized parameters are used. The book passes a device instead of `params`; it is
        ignored.
        """
        if not isinstance(params, Mapping):
            params = self.params or self._first_params()
        return language_model.predict(self._reader(params), prefix, num_preds, vocab)

    def _reader(self, params: Any) -> Any:
        reader = SimpleNamespace(
            step=partial(self.step, params=params), codec=self.codec, vocab_size=self.vocab_size
        )
        if accepts_ids(self.rnn):
            reader.greedy_decode = partial(self.greedy_decode, params=params)
        return reader

    def _first_params(self) -> Any:
        return self.init(jax.random.PRNGKey(0), jnp.zeros((1, 1), int))["params"]


class RNNLM(RNNLMScratch):
    """Language model: one-hot or embedding input, recurrent layers, a linear output layer.

    Maps ids (batch, steps) to logits (batch, steps, `vocab_size`). `rnn` is an RNN, GRU or
    LSTM, and `lr` the learning rate. An `embedding_size` of 0 means one-hot input; `optimizer` is
    sgd, adam or adamw; `momentum` is for sgd, `weight_decay` (0.01 by default) and `recurrent_lr`
    (the learning rate of the recurrent layers, `lr` by default) are for adamw. With `tied`, the
    output layer shares the embedding's weights. `training` turns dropout on, as in Flax. `options`
    are the options of `build`.
    """

    training: bool = True
    embedding_size: int = 0
    optimizer: str = "sgd"
    momentum: float = 0.0
    tied: bool = False
    weight_decay: float | None = None
    recurrent_lr: float | None = None
    options: ModelOptions = field(default=ModelOptions(), kw_only=True)

    def __post_init__(self) -> None:
        rnnlm.optimizer_of(self)  # raises for invalid values
        rnnlm.check_language_model(self.rnn, self.tied, self.embedding_size)
        check_call(self.rnn)
        super().__post_init__()

    def setup(self) -> None:
        """Create the embedding, if there is one, and the output layer."""
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
        """Inputs of the layers, (steps, batch, features), for ids (batch, steps).

        Without an embedding, this package's layers get the ids, (steps, batch), and look up rows.
        """
        if self.embedding_size:
            return self.embedding(X.T)
        return X.T if accepts_ids(self.rnn) else super().one_hot(X)

    def output_layer(self, hiddens: Any) -> Any:
        """Logits, (batch, steps, vocab), for outputs (steps, batch, hidden)."""
        logits = self.embedding.attend(hiddens) + self.bias if self.tied else self.linear(hiddens)
        return logits.swapaxes(0, 1)

    def read(self, X: Any, state: Any = None) -> tuple[Any, Any]:
        """Logits for ids, and the state after them."""
        rnn_outputs, state = self.run(X, state)
        return self.output_layer(rnn_outputs), state

    def run(self, X: Any, state: Any) -> tuple[Any, Any]:
        """Outputs of the layers for ids, (steps, batch, hidden), and the state after them."""
        sizes = {"num_inputs": self.vocab_size} if accepts_ids(self.rnn) else {}
        rnn_outputs, state = self.rnn(self.one_hot(X), state, self.training, **sizes)
        return rnn_outputs, state

    def chunked_loss(self, X: Any, Y: Any, state: Any = None, mask: Any = None) -> Any:
        """Mean loss of a batch, computed with one chunk of logits at a time."""
        hiddens, state = self.run(X, state)
        self.set_final_state(state)
        rows, targets = hiddens.reshape(-1, hiddens.shape[-1]), Y.T.reshape(-1)
        size, own = rnnlm.chunk_rows(self.vocab_size), None if mask is None else mask.T
        return chunked_loss(self, rows, targets, *self._output_weights(), own, size)

    def _output_weights(self) -> tuple[Any, Any]:
        """Weight, (hidden, vocab), and bias of the output layer."""
        if self.tied:
            return self.embedding.embedding.T, self.bias
        linear = self.linear.variables["params"]
        return linear["kernel"], linear["bias"]

    def greedy_decode(
        self, token: int, state: Any, mask: np.ndarray, params: Any = None
    ) -> tuple[list[int], Any]:
        """Most likely ids after `token`, one by one, and the state before the last.

        `mask`, (vocab,), is added to the logits. An id is -1 if the logits are not finite.
        """
        if self.compiled_decode is None:
            self.compiled_decode = compiled(self._greedy_decode)
        variables = {"params": self.params if params is None else params}
        with self.evaluating():
            ids, state = self.compiled_decode(variables, jnp.full((1, 1), token), state, mask)
        return numpy(ids).tolist(), state

    def _greedy_decode(self, variables: Any, ids: Any, state: Any, mask: Any) -> tuple[Any, Any]:
        def step(carry: Any, _: Any) -> tuple[Any, Any]:
            logits, state = self.apply(variables, *carry, method="read")
            ids = (logits + mask).argmax(axis=-1).astype(jnp.int32)  # (1, 1)
            return (ids, state), jnp.where(jnp.isfinite(logits).all(), ids[0, 0], -1)

        (_, state), ids = jax.lax.scan(step, (ids, state), length=language_model.GREEDY_TOKENS)
        return ids, state

    def configure_optimizers(self) -> optax.GradientTransformation:
        """The optimizer named in `optimizer`."""
        return make_optimizer(rnnlm.optimizer_of(self))


RNNLM.chunked_head = rnnlm.head_of(RNNLM)
