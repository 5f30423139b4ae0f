"""Models: Module, Classifier, LinearRegression, RNNLMScratch, RNNLM."""

import inspect
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
import tensorflow as tf

from elman.core.errors import ElmanError
from elman.core.model import language_model
from elman.core.training import module, trainer
from elman.tensorflow.arrays import num_gpus
from elman.tensorflow.blocks import chunked_total
from elman.tensorflow.compiled import Compiled
from elman.tensorflow.keras import KERAS_3, Adam


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

    def get_w_b(self) -> tuple[np.ndarray, np.ndarray]:
        """The weight and the bias."""
        w, b = self.net.get_weights()
        return w, b


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

    def step(self, ids: np.ndarray, state: Any = None) -> tuple[np.ndarray, Any]:
        """The logits of ids and the state after them, without dropout; ids and logits in NumPy."""
        ids = language_model.ids_of(ids, self.vocab_size)
        if self._reader is None or (state is None and not self._reader.fits()):
            self._reader = Reader(self, ids[:, :1])
        return language_model.in_chunks(self._reader, ids, state)

    def read(self, X: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """The logits of ids and the state after them, without dropout."""
        with self.evaluating():
            rnn_outputs, state = self.rnn(self.one_hot(X), state)
            return self.output_layer(rnn_outputs), state


def keep(model: Module, state: Any) -> None:
    """Keep the state that a model has reached, without Keras, which would look for layers in it."""
    model.__dict__["final_state"] = state


class Reader:
    """The `read` of a language model, compiled for the few lengths in which `step` needs it.

    `ids`, (batch, 1), are any: once they are read, the layers have their variables, which no graph
    should make.
    """

    def __init__(self, model: RNNLMScratch, ids: np.ndarray) -> None:
        self.model = model
        self(ids, None)
        self.made_of = self._parts()
        self.one = Compiled(model.read, xla=not num_gpus())  # XLA would do without cuDNN
        self.many = Compiled(model.read)

    def __call__(self, ids: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
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

    def chunked_loss(self, X: tf.Tensor, Y: tf.Tensor, state: Any = None) -> tf.Tensor:
        """The loss of a batch, of whose logits there is one block at a time, made anew backward."""
        hiddens, state = self.rnn(self.one_hot(X), state)
        keep(self, state)
        rows = tf.reshape(hiddens, (-1, hiddens.shape[-1]))  # (steps * batch, hidden)
        targets = tf.reshape(tf.transpose(Y), (-1,))  # (steps * batch,)
        self.linear(rows[:1])  # a layer without variables makes them
        weight, bias = map(tf.convert_to_tensor, (self.linear.kernel, self.linear.bias))
        size = language_model.chunk_rows(self.vocab_size)
        return chunked_total(rows, weight, bias, targets, size) / rows.shape[0]

    def configure_optimizers(self) -> Any:
        """The optimiser named at the start."""
        if self.optimizer == "adam":
            return Adam(float(self.lr), epsilon=1e-8)
        return tf.keras.optimizers.SGD(float(self.lr), momentum=self.momentum)


RNNLM.default_head = language_model.head_methods(RNNLM)
