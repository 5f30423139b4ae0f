"""Models, losses and optimizers: Module, Classifier, LinearRegression, RNNLMScratch, RNNLM."""

import inspect
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

import numpy as np
import tensorflow as tf

from elman.book import module, rnnlm
from elman.errors import ElmanError
from elman.inference import language_model
from elman.model.optimizers import Optimizer
from elman.tensorflow import arrays
from elman.tensorflow.arrays import num_gpus

__all__ = ["RNNLM", "Classifier", "LinearRegression", "Module", "RNNLMScratch"]

KERAS_3 = "time_major" not in inspect.signature(tf.keras.layers.RNN).parameters


class Compiled:
    """Function compiled to TensorFlow graphs, one for each set of argument shapes.

    A function that needs the value of a tensor cannot be traced and runs eagerly. With `xla`, XLA
    compiles the graphs if it can; the function must then have no side effects.
    """

    def __init__(self, function: Callable[..., Any], xla: bool = False) -> None:
        self.function = function
        self.jit_options = (True, False) if xla else (False,)
        self.graphs: dict[Any, Callable[..., Any]] = {}

    def __call__(self, *arguments: Any) -> Any:
        """Call the function, compiled if possible."""
        leaves = [leaf for leaf in tf.nest.flatten(arguments) if leaf is not None]
        if not all(tf.is_tensor(leaf) or isinstance(leaf, np.ndarray) for leaf in leaves):
            return self.function(*arguments)
        key = (*map(type, arguments), *[(leaf.shape, leaf.dtype) for leaf in leaves])
        if key not in self.graphs:
            self.graphs[key] = self._trace(arguments)
        return self.graphs[key](*arguments)

    def _trace(self, arguments: Sequence[Any]) -> Callable[..., Any]:
        for xla in self.jit_options:
            with suppress(Exception):  # the user's code may raise anything
                # float(tensor) has to fail, and with AutoGraph it would be another tensor.
                graph = tf.function(self.function, autograph=False, jit_compile=xla)
                traced: Callable[..., Any] = graph.get_concrete_function(*arguments)
                if xla:
                    traced(*arguments)  # XLA compiles, or fails, when first called
                return traced
        return self.function


class Adam(tf.keras.optimizers.Adam):
    """Adam with the paper's epsilon, added to the bias-corrected deviation, as in PyTorch.

    Keras adds it before the correction, so that it is larger in early steps.
    `factor` is a factor of the learning rate of some variables, whose decay stays the same, and
    `scaled` finds these variables, which are created later.
    """

    factor: float = 1
    scaled: Callable[[], Sequence[Any]] = tuple

    @property
    def epsilon(self) -> tf.Tensor:
        """Epsilon for Keras to add at this step."""
        step = tf.cast(self.iterations, tf.float32) + 1
        return self._epsilon * tf.sqrt(1 - self.beta_2**step)

    @epsilon.setter
    def epsilon(self, value: float) -> None:
        self._epsilon = value

    def update_step(self, gradient: Any, variable: Any, *rate: Any) -> None:
        """Update one variable; `rate` is an argument in Keras 3 only."""
        scaled = self.factor != 1 and self._var_key(variable) in map(self._var_key, self.scaled())
        before = tf.identity(variable) if scaled else variable
        super().update_step(gradient, variable, *rate)
        if scaled:
            variable.assign(before + self.factor * (variable - before))


def make_optimizer(wanted: Optimizer, recurrent: Callable[[], Sequence[Any]] = tuple) -> Any:
    """Optimizer with this description.

    - `recurrent`: finds the variables of the recurrent layers.
    """
    lr = float(wanted.lr)  # Keras 3 rejects integers
    if wanted.optimizer == "adam":
        return Adam(lr, epsilon=1e-8)
    if wanted.optimizer == "adamw":
        found = Adam(lr, epsilon=1e-8, weight_decay=float(wanted.decay))
        found.factor, found.scaled = wanted.recurrent_factor, recurrent
        return found
    return tf.keras.optimizers.SGD(lr, momentum=wanted.momentum)


def mean(model: Any, values: tf.Tensor) -> tf.Tensor:
    """Mean of a value for each target, (targets,), over the targets that count."""
    mask = model.target_mask
    if mask is None:
        return tf.reduce_mean(values)
    weights = tf.cast(tf.reshape(mask, (-1,)), values.dtype)
    return tf.reduce_sum(weights * values) / tf.reduce_sum(weights)


def chunked_loss(model: Any, rows: tf.Tensor, targets: tf.Tensor, size: int) -> tf.Tensor:
    """Mean loss of states, (steps * batch, hidden), with `size` rows of logits at a time.

    The targets are (steps * batch,).
    """
    weight, bias = map(tf.convert_to_tensor, (model.linear.kernel, model.linear.bias))
    mask = model.target_mask
    if mask is None:
        return chunked_total(model, rows, weight, bias, targets, size) / rows.shape[0]
    weights = tf.cast(tf.reshape(tf.transpose(mask), (-1,)), rows.dtype)  # (steps * batch,)
    total = chunked_total(model, rows, weight, bias, targets, size, weights)
    return total / tf.reduce_sum(weights)


def chunked_total(
    model: Any,
    rows: tf.Tensor,
    weight: tf.Tensor,
    bias: tf.Tensor,
    targets: tf.Tensor,
    size: int,
    weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """Sum of the losses of `rows`, computed `size` rows at a time.

    `rows` is (number, hidden), `weight` (hidden, vocab), `bias` (vocab,) and `targets` (number,).
    With `weights`, (number,), each loss is multiplied by its weight.
    The backward pass computes the logits of each chunk again.
    """
    number = rows.shape[0]
    loop = partial(_for_each_chunk, number, size)

    def chunk_loss(start: Any, rows: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        labels = targets[start : start + size]
        losses = model.token_losses(rows @ weight + bias, labels)
        if weights is not None:
            losses *= weights[start : start + size]
        return tf.reduce_sum(losses)

    @tf.custom_gradient
    def total(rows: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor) -> Any:
        def forward(start: Any, total: tf.Tensor) -> Any:
            return (total + chunk_loss(start, rows[start : start + size], weight, bias),)

        def backward(start: Any, d_rows: Any, d_weight: tf.Tensor, d_bias: tf.Tensor) -> Any:
            parts = rows[start : start + size], weight, bias
            with tf.GradientTape() as tape:
                tape.watch(parts)
                loss = chunk_loss(start, *parts)
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


def _for_each_chunk(number: int, size: int, body: Callable[..., Any], *sums: tf.Tensor) -> Any:
    """For each chunk of rows, replace the sums by `body(start, *sums)`."""
    return tf.while_loop(
        lambda start, *_: start < number,
        lambda start, *sums: (start + size, *body(start, *sums)),
        (0, *sums),
        parallel_iterations=1,
    )[1:]


class Module(module.Module, tf.keras.Model):
    """Base class of models."""

    _training = False

    def __init__(self, plot_train_per_epoch: int = 2, plot_valid_per_epoch: int = 1) -> None:
        super().__init__()
        self.built = True  # Keras 3 would call the model on symbolic inputs to build it,
        self.__dict__.pop("loss", None)  # and hides the method loss by an attribute
        self.prepare_plots(plot_train_per_epoch, plot_valid_per_epoch)

    def __reduce__(self) -> NoReturn:
        """Raise an ElmanError: a copy made by Keras would lack the variables."""
        raise ElmanError(
            "a TensorFlow model cannot be copied or pickled: write it with elman.save(folder, "
            "model) and read it with elman.load(folder, 'tensorflow')"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> NoReturn:
        """Raise the same error."""
        self.__reduce__()

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        """Call the model through Keras, so that its layers receive the training mode."""
        if "training" in inspect.signature(self.call).parameters:
            kwargs.setdefault("training", self.training)
        return tf.keras.Model.__call__(self, *inputs, **kwargs)

    def call(self, X: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Set the mode, if one is given, and return `forward`."""
        if training is not None and training != self.training:
            self.training = training
        return self.forward(X, *args)

    @property
    def training(self) -> bool:
        """Mode of the model and of all models in it: true during training."""
        return self._training

    @training.setter
    def training(self, value: bool) -> None:
        self._training = value
        for layer in self._flatten_layers(include_self=False):
            if isinstance(layer, Module):
                layer._training = value

    @property
    def trainable_variables(self) -> list[Any]:
        """Variables that training updates."""
        found = list(super().trainable_variables)
        if KERAS_3 and self.trainable:  # it does not track tf.Variables that are attributes
            found += [value for value in self._attributes() if isinstance(value, tf.Variable)]
            found += [value for layer in self.layers for value in layer.trainable_variables]
        return list({id(value): value for value in found if value.trainable}.values())

    def _attributes(self) -> Iterator[Any]:
        """Values of all attributes; elements of lists separately."""
        for value in vars(self).values():
            yield from value if isinstance(value, list | tuple) else [value]

    def configure_optimizers(self) -> Any:
        """SGD with the learning rate `self.lr`."""
        lr = float(self.lr) if isinstance(self.lr, int) else self.lr  # Keras 3 rejects integers
        return tf.keras.optimizers.SGD(lr)


class Classifier(module.Classifier, Module):
    """Base class of classification models."""

    def accuracy(self, Y_hat: tf.Tensor, Y: tf.Tensor, averaged: bool = True) -> tf.Tensor:
        """Share of correct predictions; unless `averaged`, 1 or 0 for each."""
        preds = tf.cast(tf.argmax(tf.reshape(Y_hat, (-1, Y_hat.shape[-1])), axis=1), Y.dtype)
        correct = tf.cast(preds == tf.reshape(Y, (-1,)), tf.float32)
        return mean(self, correct) if averaged else correct

    def token_losses(self, logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Cross-entropy in nats of each row of logits, (targets, classes)."""
        return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)

    def loss(self, Y_hat: tf.Tensor, Y: tf.Tensor, averaged: bool = True) -> tf.Tensor:
        """Mean cross-entropy in nats; unless `averaged`, one value for each prediction."""
        flat = tf.reshape(Y_hat, (-1, Y_hat.shape[-1]))  # (targets, classes)
        losses = self.token_losses(flat, tf.reshape(Y, (-1,)))
        return mean(self, losses) if averaged else losses

    def layer_summary(self, X_shape: tuple[int, ...]) -> None:
        """Print the output shape of each layer of `self.net`."""
        module.print_output_shapes(self.net.layers, tf.random.normal(X_shape))


class LinearRegression(Module):
    """Linear regression with the mean squared error."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = tf.keras.layers.Dense(
            1, kernel_initializer=tf.keras.initializers.RandomNormal(stddev=0.01)
        )

    def forward(self, X: tf.Tensor) -> tf.Tensor:
        """Predictions, (batch, 1)."""
        return self.net(X)

    def loss(self, y_hat: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Mean squared error."""
        return tf.reduce_mean(tf.square(y_hat - y))

    def get_w_b(self) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias."""
        w, b = self.net.get_weights()
        return w, b


class RNNLMScratch(rnnlm.RNNLMScratch, Classifier):
    """Language model from scratch around `rnn`: ids (batch, steps) -> (batch, steps, vocab).

    A subclass may override `init_params`, `one_hot` and `output_layer`; `predict` and all
    other methods use the overrides.
    """

    xp = arrays

    def init_params(self) -> None:
        """Create the parameters of the output layer."""
        self.W_hq = tf.Variable(
            tf.random.normal((self.rnn.num_hiddens, self.vocab_size)) * self.rnn.sigma
        )
        self.b_q = tf.Variable(tf.zeros(self.vocab_size))

    def one_hot(self, X: tf.Tensor) -> tf.Tensor:
        """Inputs of the layers, (steps, batch, vocab), for ids (batch, steps)."""
        return tf.one_hot(tf.transpose(X), self.vocab_size)

    def output_layer(self, rnn_outputs: Any) -> tf.Tensor:
        """Logits, (batch, steps, vocab), for a list of outputs (batch, hidden)."""
        return tf.stack([H @ self.W_hq + self.b_q for H in rnn_outputs], 1)

    def loss(self, Y_hat: tf.Tensor, Y: tf.Tensor, averaged: bool = True) -> tf.Tensor:
        """Mean cross-entropy in nats; unless `averaged`, one value for each token."""
        batch_major = averaged and len(Y.shape) == 2 and self.target_mask is None
        if batch_major:  # time-major, as returned by the layers: needs no copy
            Y_hat, Y = tf.transpose(Y_hat, (1, 0, 2)), tf.transpose(Y)
        return super().loss(Y_hat, Y, averaged)

    def forward(self, X: tf.Tensor, state: Any = None) -> tf.Tensor:
        """Logits for ids."""
        rnn_outputs, state = self.rnn(self.one_hot(X), state)
        set_final_state(self, rnnlm.detached(self.xp, state))
        return self.output_layer(rnn_outputs)

    _reader: "Reader | None" = None

    def step(self, ids: np.ndarray, state: Any = None) -> tuple[np.ndarray, Any]:
        """Logits for ids, a NumPy array, and the state after them, without dropout."""
        ids = language_model.ids_of(ids, self.vocab_size)
        if self._reader is None or (state is None and not self._reader.is_current()):
            self._reader = Reader(self, ids[:, :1])
        return language_model.in_chunks(self._reader, ids, state)

    def read(self, X: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """Logits for ids and the state after them, without dropout."""
        with self.evaluating():
            rnn_outputs, state = self.rnn(self.one_hot(X), state)
            return self.output_layer(rnn_outputs), state


def set_final_state(model: Module, state: Any) -> None:
    """Set `final_state` without Keras: it would search the state for layers."""
    model.__dict__["final_state"] = state


class Reader:
    """`read` of a language model, compiled for the few sequence lengths that `step` uses.

    `ids`, (batch, 1), are arbitrary. Reading them makes the layers create their variables; a graph
    should not do that.
    """

    def __init__(self, model: RNNLMScratch, ids: np.ndarray) -> None:
        self.model = model
        self(ids, None)
        self.parts = self._parts()
        self.one = Compiled(model.read, xla=not num_gpus())  # XLA would not use cuDNN
        self.many = Compiled(model.read)

    def __call__(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        """Logits for ids, (batch, steps), and the state after them."""
        if ids.shape[1] > 1:
            read: Callable[..., Any] = self.many
        elif state is not None:
            read = self.one
        else:
            read = self.model.read  # a text's first token is not worth a separate graph
        logits, state = read(tf.constant(ids, tf.int32), state)
        return logits.numpy(), state

    def is_current(self) -> bool:
        """True if the model still has the variables and the code that were compiled."""
        now = self._parts()
        return len(now) == len(self.parts) and all(map(operator.is_, now, self.parts))

    def _parts(self) -> list[Any]:
        kind, layers = type(self.model), type(self.model.rnn)
        forward = layers.forward if issubclass(layers, module.Module) else None
        code = [kind.one_hot, kind.output_layer, forward]
        return [*code, *self.model.trainable_variables]


class RNNLM(rnnlm.RNNLM, RNNLMScratch):
    """Language model: one-hot or embedding input, recurrent layers, a linear output layer.

    Maps ids (batch, steps) to logits (batch, steps, `vocab_size`).
    """

    def init_params(self) -> None:
        """Create the embedding, if there is a separate one, and the output layer."""
        self.linear = tf.keras.layers.Dense(self.vocab_size)
        if self.tied:
            self.linear.build((None, self.embedding_size))
        elif self.embedding_size:
            self.embedding = tf.keras.layers.Embedding(self.vocab_size, self.embedding_size)

    def one_hot(self, X: tf.Tensor) -> tf.Tensor:
        """Inputs of the layers, (steps, batch, features), for ids (batch, steps)."""
        if self.tied:
            return tf.gather(tf.transpose(self.linear.kernel), tf.transpose(X))
        return self.embedding(tf.transpose(X)) if self.embedding_size else super().one_hot(X)

    def output_layer(self, hiddens: tf.Tensor) -> tf.Tensor:
        """Logits, (batch, steps, vocab), for outputs (steps, batch, hidden)."""
        return tf.transpose(self.linear(hiddens), (1, 0, 2))

    def chunked_loss(self, X: tf.Tensor, Y: tf.Tensor, state: Any = None) -> tf.Tensor:
        """Mean loss of a batch, computed with one chunk of logits at a time."""
        hiddens, state = self.rnn(self.one_hot(X), state)
        set_final_state(self, rnnlm.detached(self.xp, state))
        rows = tf.reshape(hiddens, (-1, hiddens.shape[-1]))  # (steps * batch, hidden)
        targets = tf.reshape(tf.transpose(Y), (-1,))  # (steps * batch,)
        self.linear(rows[:1])  # creates the layer's variables, if it has none
        return chunked_loss(self, rows, targets, rnnlm.chunk_rows(self.vocab_size))

    def configure_optimizers(self) -> Any:
        """The optimizer named in `optimizer`."""
        wanted = rnnlm.optimizer_of(self)
        return make_optimizer(wanted, lambda: getattr(self.rnn, "trainable_variables", ()))


RNNLM.chunked_head = rnnlm.head_of(RNNLM)
