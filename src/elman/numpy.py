"""The specification: recurrent language models in plain NumPy, with gradients by hand.

Cells are equations on pre-activations, each with its backward pass beside it; a layer runs a cell
through time; a model adds the input, the output layer and the loss. Arrays inside a layer are
(steps, batch, features). Every other module must agree with this one.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.data import corpus
from elman.core.data.corpus import TextFile
from elman.core.data.data_module import DataModule
from elman.core.errors import ElmanError, is_one_of, require_at_least
from elman.core.files.download import DATA_URL, download
from elman.core.hyperparameters import HyperParameters, add_to_class
from elman.core.model import cells, language_model, weights
from elman.core.model.metrics import perplexity
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
    "SGD",
    "Adam",
    "Architecture",
    "DataModule",
    "HyperParameters",
    "Module",
    "ProgressBoard",
    "TextFile",
    "TimeMachine",
    "Trainer",
    "Vocab",
    "add_to_class",
    "architecture",
    "build",
    "devices",
    "download",
    "export_weights",
    "plot",
    "set_figsize",
    "version",
]

Array = NDArray[Any]


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), which no x makes overflow."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)


# The cells. With x = W_ih x_t + b_ih and r = W_hh h_{t-1} + b_hh, both (batch, gates * hidden),
# `forward` gives the next state, a tuple of (batch, hidden) whose first is h, and what `backward`
# needs. `backward` takes the loss's gradient with respect to that state, and gives those with
# respect to x, to r, and to the state before, other than through r.


class TanhCell:
    """h = tanh(x + r) (Elman 1990)."""

    states = 1

    @staticmethod
    def forward(x: Array, r: Array, state: tuple[Array]) -> tuple[tuple[Array], Any]:
        """The next state."""
        h = np.tanh(x + r)
        return (h,), h

    @staticmethod
    def backward(d_state: tuple[Array], h: Array) -> tuple[Array, Array, tuple[Any]]:
        """The gradients."""
        (dh,) = d_state
        da = dh * (1 - h * h)
        return da, da, (0.0,)


class ReluCell:
    """h = max(x + r, 0)."""

    states = 1

    @staticmethod
    def forward(x: Array, r: Array, state: tuple[Array]) -> tuple[tuple[Array], Any]:
        """The next state."""
        h = np.maximum(x + r, 0)
        return (h,), h

    @staticmethod
    def backward(d_state: tuple[Array], h: Array) -> tuple[Array, Array, tuple[Any]]:
        """The gradients."""
        (dh,) = d_state
        da = dh * (h > 0)
        return da, da, (0.0,)


class LSTMCell:
    """The long short-term memory of Hochreiter and Schmidhuber (1997), with a forget gate."""

    states = 2

    @staticmethod
    def forward(x: Array, r: Array, state: tuple[Array, Array]) -> tuple[tuple[Array, Array], Any]:
        """The next state (h, c)."""
        _, c_before = state
        a_i, a_f, a_g, a_o = np.split(x + r, 4, axis=1)
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
        c = f * c_before + i * g
        tanh_c = np.tanh(c)
        return (o * tanh_c, c), (i, f, g, o, c_before, tanh_c)

    @staticmethod
    def backward(d_state: tuple[Array, Array], memo: Any) -> tuple[Array, Array, tuple[Any, Array]]:
        """The gradients."""
        dh, dc = d_state
        i, f, g, o, c_before, tanh_c = memo
        dc = dc + dh * o * (1 - tanh_c * tanh_c)
        d_i = dc * g * i * (1 - i)
        d_f = dc * c_before * f * (1 - f)
        d_g = dc * i * (1 - g * g)
        d_o = dh * tanh_c * o * (1 - o)
        da = np.concatenate([d_i, d_f, d_g, d_o], axis=1)
        return da, da, (0.0, dc * f)


class GRUCell:
    """The gated recurrent unit of Cho et al. (2014), with the reset after the product."""

    states = 1

    @staticmethod
    def forward(x: Array, r: Array, state: tuple[Array]) -> tuple[tuple[Array], Any]:
        """The next state."""
        (h_before,) = state
        x_r, x_z, x_n = np.split(x, 3, axis=1)
        r_r, r_z, r_n = np.split(r, 3, axis=1)
        reset, z = sigmoid(x_r + r_r), sigmoid(x_z + r_z)
        n = np.tanh(x_n + reset * r_n)
        return ((1 - z) * n + z * h_before,), (reset, z, n, r_n, h_before)

    @staticmethod
    def backward(d_state: tuple[Array], memo: Any) -> tuple[Array, Array, tuple[Array]]:
        """The gradients."""
        (dh,) = d_state
        reset, z, n, r_n, h_before = memo
        d_n = dh * (1 - z) * (1 - n * n)
        d_z = dh * (h_before - n) * z * (1 - z)
        d_reset = d_n * r_n * reset * (1 - reset)
        dx = np.concatenate([d_reset, d_z, d_n], axis=1)
        dr = np.concatenate([d_reset, d_z, d_n * reset], axis=1)
        return dx, dr, (dh * z,)


CELLS: dict[str, Any] = {"rnn": TanhCell, "rnn-relu": ReluCell, "gru": GRUCell, "lstm": LSTMCell}


def look_up(table: Array, ids: Array) -> Array:
    """The rows `ids` of a table: the product of one-hot vectors with it."""
    return table[ids]


def look_up_backward(d_rows: Array, ids: Array, rows: int) -> Array:
    """The gradient of the table, (rows, features): for each id the sum of its rows' gradients."""
    flat_ids, flat = ids.ravel(), d_rows.reshape(-1, d_rows.shape[-1])  # (steps * batch, features)
    order = np.argsort(flat_ids, kind="stable")
    present, starts = np.unique(flat_ids[order], return_index=True)
    d_table = np.zeros((rows, flat.shape[1]), flat.dtype)
    d_table[present] = np.add.reduceat(flat[order], starts, axis=0)
    return d_table


def loss_and_gradient(logits: Array, targets: Array) -> tuple[float, Array]:
    """The mean cross-entropy in nats, and its gradient: softmax minus one-hot, over the number.

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


class Module(module.Module):
    """A model with `parameters` and, after `backward`, `gradients`, both by canonical name.

    What `backward` needs is kept between `train()` and `eval()`.
    """

    parameters: Weights
    gradients: Weights

    def __init__(self, plot_train_per_epoch: int = 2, plot_valid_per_epoch: int = 1) -> None:
        self.prepare_plots(plot_train_per_epoch, plot_valid_per_epoch)


class RNN(Module):
    """A stack of recurrent layers; `nonlinearity` is tanh or relu.

    Inputs are (steps, batch, num_inputs), or integers (steps, batch) that stand for one-hot
    vectors; states (num_layers, batch, num_hiddens). Returns the outputs of the last layer,
    (steps, batch, num_hiddens), and the state after the last step. While it trains, `dropout` is
    the share of the outputs that each layer but the last puts to zero, the others scaled up.
    Bidirectional layers also run from the last step to the first: outputs are (steps, batch,
    2 * num_hiddens), states (2 * num_layers, batch, num_hiddens), each layer's forward one first.
    """

    def __init__(
        self,
        num_inputs: int,
        num_hiddens: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        dropout: float = 0,
        bidirectional: bool = False,
        seed: int = 0,
    ) -> None:
        """Make the layers.

        - `num_inputs`: features of an input; of one-hot input the size of the vocabulary.
        - `num_hiddens`: hidden units of a layer.
        - `num_layers`: layers, one above the other.
        - `nonlinearity`: tanh or relu; GRU and LSTM have none to choose.
        - `dropout`: share of a layer's outputs that training puts to zero before the next.
        - `bidirectional`: also run from the last step to the first.
        - `seed`: that of the initial weights and of dropout.
        """
        if not is_one_of(nonlinearity, ("tanh", "relu")):
            raise ElmanError(f"the nonlinearity is tanh or relu, got {nonlinearity!r}")
        cell = "rnn" if nonlinearity == "tanh" else "rnn-relu"
        self._build(cell, num_inputs, num_hiddens, num_layers, dropout, bidirectional, seed)

    def _build(
        self,
        cell: str,
        num_inputs: int,
        num_hiddens: int,
        num_layers: int,
        dropout: float,
        bidirectional: bool,
        seed: int,
    ) -> None:
        weights.check_layers(num_inputs, num_hiddens, num_layers, dropout, bidirectional)
        require_at_least(0, seed=seed)
        super().__init__()
        self.save_hyperparameters()
        self.rng = np.random.default_rng(seed)
        self.names = weights.layer_names(num_layers, bidirectional)
        shapes = weights.layer_shapes(cell, num_inputs, num_hiddens, num_layers, bidirectional)
        self.parameters = weights.draw(shapes, cell, num_hiddens, seed, prefix="rnn.")

    cell: str
    num_inputs: int
    num_hiddens: int
    num_layers: int
    dropout: float
    bidirectional: bool
    _memos: dict[str, tuple[Array, Array, list[Any]]]
    _masks: list[Any]

    def _weights(self, name: str) -> tuple[Array, Array, Array, Array]:
        """W_ih, W_hh, b_ih and b_hh of a layer in one direction."""
        w = self.parameters
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        W_ih, W_hh, b_ih, b_hh = (w[kind + name] for kind in kinds)
        return W_ih, W_hh, b_ih, b_hh

    def forward(self, inputs: Array, state: Any = None) -> tuple[Array, Any]:
        """Run all layers through all steps."""
        self._check_inputs(inputs)
        states = CELLS[self.cell].states
        shape = (sum(map(len, self.names)), inputs.shape[1], self.num_hiddens)
        if state is None:
            state = (np.zeros(shape, self.parameters["bias_ih_l0"].dtype),) * states
        elif states == 1:
            state = (state,)
        _check_state(state, [shape] * states)
        self._memos, self._masks = {}, []
        final_states: list[tuple[Array, ...]] = []
        for layer, names in enumerate(self.names):
            if layer > 0:
                inputs = self._drop(inputs)
            outputs = []
            for name in names:
                start = tuple(part[len(final_states)] for part in state)
                run, last = self._forward_layer(name, inputs[:: direction(name)], start)
                outputs.append(run[:: direction(name)])
                final_states.append(last)
            inputs = np.concatenate(outputs, axis=2)  # (steps, batch, directions * hidden)
        state = tuple(np.stack(parts) for parts in zip(*final_states, strict=True))
        return inputs, state if states > 1 else state[0]

    def _check_inputs(self, inputs: Any) -> None:
        if isinstance(inputs, np.ndarray) and np.issubdtype(inputs.dtype, np.integer):
            language_model.check_ids(language_model.integers(inputs, 2), self.num_inputs)
        elif not isinstance(inputs, np.ndarray) or inputs.shape[2:] != (self.num_inputs,):
            raise ElmanError(
                f"inputs are an array (steps, batch, {self.num_inputs}), or of ids (steps, batch), "
                f"got {getattr(inputs, 'shape', inputs)!r}"
            )

    def _drop(self, inputs: Array) -> Array:
        """Dropout (Srivastava et al. 2014), which changes nothing but while training."""
        if not (self.dropout and self.training):
            self._masks.append(1)
            return inputs
        self._masks.append(self.mask(inputs.shape, inputs.dtype))
        dropped: Array = inputs * self._masks[-1]
        return dropped

    def mask(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Factors of dropout for the outputs of a layer, (steps, batch, features)."""
        kept = self.rng.random(shape) >= self.dropout
        mask: Array = kept.astype(dtype) / dtype.type(1 - self.dropout)
        return mask

    def _forward_layer(
        self, name: str, inputs: Array, state: tuple[Array, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        cell = CELLS[self.cell]
        W_ih, W_hh, b_ih, b_hh = self._weights(name)
        if np.issubdtype(inputs.dtype, np.integer):
            x = look_up(W_ih.T + b_ih, inputs)  # (steps, batch, gates * hidden)
        else:
            x = inputs @ W_ih.T + b_ih  # (steps, batch, gates * hidden)
        hidden, memos = [state[0]], []
        for x_t in x:
            state, memo = cell.forward(x_t, hidden[-1] @ W_hh.T + b_hh, state)
            hidden.append(state[0])
            if self.training:
                memos.append(memo)
        if self.training:
            self._memos[name] = (inputs, np.stack(hidden[:-1]), memos)
        return np.stack(hidden[1:]), state  # (steps, batch, hidden)

    def backward(self, d_outputs: Array) -> Array | None:
        """Fill `gradients`, and give that of the inputs (None where they were ids).

        `d_outputs` is the loss's gradient with respect to the outputs of the last `forward`.
        """
        self.gradients = {}
        for layer, names in reversed(list(enumerate(self.names))):
            parts = np.split(d_outputs, len(names), axis=2)  # (steps, batch, hidden) each
            d_inputs = [
                self._backward_layer(name, part[:: direction(name)])
                for name, part in zip(names, parts, strict=True)
            ]
            if d_inputs[0] is None:
                return None
            d_outputs = sum(d[:: direction(name)] for name, d in zip(names, d_inputs, strict=True))
            if layer > 0:
                d_outputs = d_outputs * self._masks[layer - 1]
        return d_outputs

    def _backward_layer(self, name: str, d_outputs: Array) -> Any:
        cell = CELLS[self.cell]
        inputs, hidden_before, memos = self._memos[name]
        W_ih, W_hh, _, _ = self._weights(name)
        steps, batch, _ = d_outputs.shape
        d_x = np.empty((steps, batch, len(W_hh)), d_outputs.dtype)
        d_r = np.empty_like(d_x) if self.cell == "gru" else d_x
        d_state: tuple[Any, ...] = (0.0,) * cell.states
        for t in reversed(range(steps)):
            d_h, *d_rest = d_state
            d_x[t], d_r[t], (d_h, *d_rest) = cell.backward((d_outputs[t] + d_h, *d_rest), memos[t])
            d_state = (d_h + d_r[t] @ W_hh, *d_rest)
        flat_x = d_x.reshape(-1, len(W_hh))  # (steps * batch, gates * hidden)
        flat_r = d_r.reshape(-1, len(W_hh))
        d_b_hh = flat_r.sum(axis=0)
        d_b_hh[cells.CELLS[self.cell].redundant_bias(self.num_hiddens)] = 0
        if ids := np.issubdtype(inputs.dtype, np.integer):
            d_W_ih = look_up_backward(d_x, inputs, self.num_inputs).T
        else:
            d_W_ih = flat_x.T @ inputs.reshape(-1, inputs.shape[-1])
        self.gradients |= {
            f"weight_ih{name}": d_W_ih,
            f"weight_hh{name}": flat_r.T @ hidden_before.reshape(-1, self.num_hiddens),
            f"bias_ih{name}": flat_x.sum(axis=0),
            f"bias_hh{name}": d_b_hh,
        }
        return None if ids else d_x @ W_ih  # (steps, batch, features)


def _check_state(parts: Any, wanted: list[tuple[int, ...]]) -> None:
    """Raise an ElmanError unless a state has arrays of these shapes."""
    whole = parts if isinstance(parts, tuple | list) else [parts]
    got = [getattr(part, "shape", part) for part in whole]
    if got != wanted:
        raise ElmanError(f"the state has {len(wanted)} of the shape {wanted[0]}, got {got!r}")


def direction(name: str) -> int:
    """1 for a layer that reads the steps as they come, -1 for one that begins at the last."""
    return -1 if name.endswith("_reverse") else 1


class GRU(RNN):
    """A stack of gated recurrent layers."""

    def __init__(
        self,
        num_inputs: int,
        num_hiddens: int,
        num_layers: int = 1,
        dropout: float = 0,
        bidirectional: bool = False,
        seed: int = 0,
    ) -> None:
        self._build("gru", num_inputs, num_hiddens, num_layers, dropout, bidirectional, seed)


class LSTM(RNN):
    """A stack of LSTM layers; its state is a pair (H, C)."""

    def __init__(
        self,
        num_inputs: int,
        num_hiddens: int,
        num_layers: int = 1,
        dropout: float = 0,
        bidirectional: bool = False,
        seed: int = 0,
    ) -> None:
        self._build("lstm", num_inputs, num_hiddens, num_layers, dropout, bidirectional, seed)


class RNNLM(language_model.LanguageModel, Module):
    """A language model: one-hot or embedding input, recurrent layers, a linear output layer.

    Maps ids (batch, steps) to logits (batch, steps, vocab_size).
    """

    def __init__(
        self,
        rnn: RNN,
        vocab_size: int,
        lr: float = 0.01,
        embedding_size: int = 0,
        optimizer: str = "sgd",
        momentum: float = 0.0,
        tied: bool = False,
        seed: int = 0,
    ) -> None:
        """Make the model.

        `rnn` is an RNN, GRU or LSTM, `vocab_size` the number of tokens, `lr` the learning rate. An
        `embedding_size` of 0 means one-hot input; `optimizer` is sgd or adam; `momentum` goes with
        sgd; with `tied` the embedding is the output layer's weight; `seed` is that of the initial
        weights.
        """
        super().__init__()
        if not hasattr(rnn, "num_hiddens"):
            raise ElmanError(f"rnn is a stack of recurrent layers, such as RNN(...), got {rnn!r}")
        trainer.check_optimizer(optimizer, lr, momentum)
        language_model.check_language_model(rnn, tied, embedding_size)
        require_at_least(1, vocab=vocab_size)
        require_at_least(0, embedding=embedding_size, seed=seed)
        wanted = embedding_size or vocab_size
        if getattr(rnn, "num_inputs", wanted) != wanted:
            raise ElmanError(
                f"the rnn reads {rnn.num_inputs} inputs, and gets {wanted}: give it num_inputs of "
                "vocab_size, or of embedding_size where there is one"
            )
        self.save_hyperparameters()
        own = {
            name: shape
            for name, shape in weights.shapes(architecture(self)).items()
            if not name.startswith("rnn.")
        }
        self.parameters = weights.draw(own, rnn.cell, rnn.num_hiddens, seed)
        self.parameters |= {f"rnn.{name}": value for name, value in rnn.parameters.items()}

    rnn: RNN
    vocab_size: int
    lr: float
    embedding_size: int
    optimizer: str
    momentum: float
    tied: bool
    _d_logits: Any = None
    _targets: Any = None  # of a loss by blocks, (steps * batch,)
    exp = staticmethod(perplexity)

    def load_weights(self, values: Weights) -> None:
        """Take these weights, with their precision."""
        self.parameters = weights.checked(values, architecture(self))
        self.rnn.parameters = {
            name.removeprefix("rnn."): value
            for name, value in self.parameters.items()
            if name.startswith("rnn.")
        }

    def train(self) -> None:
        """From here on, keep what `backward` needs."""
        self.training = self.rnn.training = True

    def eval(self) -> None:
        """From here on, keep nothing."""
        self.training = self.rnn.training = False

    @property
    def _output_weight(self) -> Array:
        return self.parameters["embedding.weight" if self.tied else "linear.weight"]

    def _read(self, ids: Array, state: Any) -> tuple[Array, Any]:
        hidden, state = self._run(ids, state)
        return self._logits(hidden).swapaxes(0, 1), state  # (batch, steps, vocab)

    def _run(self, ids: Array, state: Any) -> tuple[Array, Any]:
        """The outputs of the layers, (steps, batch, hidden), and the state after them."""
        ids = language_model.integers(ids, 2)
        inputs = ids.T  # (steps, batch)
        if self.embedding_size:
            language_model.check_ids(ids, self.vocab_size)
            inputs = look_up(
                self.parameters["embedding.weight"], inputs
            )  # (steps, batch, features)
        hidden, state = self.rnn(inputs, state)
        self._ids, self._hidden = ids, hidden
        return hidden, state

    def _logits(self, hidden: Array) -> Array:
        logits: Array = hidden @ self._output_weight.T + self.parameters["linear.bias"]
        return logits

    def forward(self, X: Array, state: Any = None) -> Array:
        """The logits of ids."""
        logits, self.final_state = self._read(X, state)
        return logits

    def step(self, ids: Array, state: Any = None) -> tuple[Array, Any]:
        """The logits of ids and the state after them, without dropout."""
        with self.evaluating(), np.errstate(over="ignore", invalid="ignore"):  # the logits show it
            return self._read(ids, state)

    def loss(self, y_hat: Array, y: Array) -> float:
        """The mean cross-entropy of logits (batch, steps, vocab) for targets (batch, steps)."""
        y = language_model.integers(y, 2)
        wanted = (*y.shape, self.vocab_size)
        if (got := getattr(y_hat, "shape", y_hat)) != wanted:
            raise ElmanError(f"the logits for targets {y.shape} are {wanted}, got {got!r}")
        language_model.check_ids(y, self.vocab_size)
        flat = y_hat.swapaxes(0, 1).reshape(-1, y_hat.shape[-1])  # (steps * batch, vocab)
        loss, self._d_logits = loss_and_gradient(flat, y.T.ravel())
        return loss

    def chunked_loss(self, X: Array, Y: Array, state: Any = None) -> float:
        """The loss of a batch, of whose logits there is one block at a time."""
        language_model.check_ids(Y, self.vocab_size)
        _, self.final_state = self._run(X, state)
        self._d_logits, self._targets = None, Y.T.ravel()
        return sum(loss * share for _, share, loss, _ in self._blocks())

    def _blocks(self) -> Iterator[tuple[slice, float, float, Array]]:
        """Of each block its rows, their share of all, their mean loss and the logits' gradient."""
        hidden = self._hidden.reshape(len(self._targets), -1)  # (steps * batch, hidden)
        size = language_model.chunk_rows(self.vocab_size)
        for start in range(0, len(hidden), size):
            rows = slice(start, start + size)
            targets = self._targets[rows]
            yield (
                rows,
                len(targets) / len(hidden),
                *loss_and_gradient(self._logits(hidden[rows]), targets),
            )

    def backward(self) -> None:
        """Fill `gradients` with those of the last loss."""
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
        """The gradients of the layers' outputs, and of the output layer's weight and bias."""
        weight = self._output_weight
        if self._d_logits is not None:
            d_logits = self._d_logits  # (steps * batch, vocab)
            return d_logits @ weight, d_logits.T @ hidden, d_logits.sum(axis=0)
        d_hidden, d_weight = np.empty_like(hidden), np.zeros_like(weight)
        d_bias = np.zeros(len(weight), weight.dtype)
        for rows, share, _, d_logits in self._blocks():
            d_logits *= share
            d_hidden[rows] = d_logits @ weight
            d_weight += d_logits.T @ hidden[rows]
            d_bias += d_logits.sum(axis=0)
        return d_hidden, d_weight, d_bias

    def configure_optimizers(self) -> "SGD | Adam":
        """The optimiser named at the start."""
        if self.optimizer == "adam":
            return Adam(self, self.lr)
        return SGD(self, self.lr, self.momentum)


RNNLM.default_head = language_model.head_methods(RNNLM)


class SGD:
    """Stochastic gradient descent with momentum, as in torch.optim.SGD."""

    def __init__(self, model: Module, lr: float, momentum: float = 0.0) -> None:
        trainer.check_optimizer("sgd", lr, momentum)
        self.model, self.lr, self.momentum = model, lr, momentum
        self.velocity = {name: np.zeros_like(value) for name, value in model.parameters.items()}

    @property
    def memory(self) -> tuple[str, ...]:
        """Arrays that it keeps of each parameter."""
        return ("velocity",) if self.momentum else ()

    def step(self) -> None:
        """Change the model's parameters by its gradients."""
        for name, change in self.model.gradients.items():
            if self.momentum:
                velocity = self.velocity[name]
                velocity *= self.momentum
                velocity += change
                change = velocity
            self.model.parameters[name] -= self.lr * change


class Adam:
    """Adam (Kingma and Ba 2015) with the paper's constants, as in torch.optim.Adam."""

    memory = ("mean", "square")  # what it keeps of each parameter
    beta1, beta2, epsilon = 0.9, 0.999, 1e-8

    def __init__(self, model: Module, lr: float) -> None:
        trainer.check_optimizer("adam", lr, 0.0)
        self.model, self.lr, self.steps = model, lr, 0
        self.mean = {name: np.zeros_like(value) for name, value in model.parameters.items()}
        self.square = {name: np.zeros_like(value) for name, value in model.parameters.items()}

    def step(self) -> None:
        """Change the model's parameters by its gradients."""
        self.steps += 1
        for name, gradient in self.model.gradients.items():
            mean, square = self.mean[name], self.square[name]
            mean += (1 - self.beta1) * (gradient - mean)
            square += (1 - self.beta2) * (gradient * gradient - square)
            unbiased = mean / (1 - self.beta1**self.steps)
            deviation = np.sqrt(square / (1 - self.beta2**self.steps))
            self.model.parameters[name] -= self.lr * unbiased / (deviation + self.epsilon)


class Trainer(trainer.Trainer):
    """The loop, with NumPy's step; it always runs on the CPU."""

    def update(self, batch: Sequence[Any]) -> float:
        """Take one optimisation step and return the batch's mean loss, in nats."""
        with np.errstate(over="ignore", invalid="ignore"):  # the loss shows it
            loss = self.model.training_step(batch)
            self.model.backward()
            if self.gradient_clip_val > 0:
                self.clip_gradients(self.gradient_clip_val, self.model)
            else:
                self.gradient_norm = global_norm(self.model.gradients)
            self.optim.step()
        return float(loss)

    def validate(self, batch: Sequence[Any]) -> float | None:
        """Return the batch's mean loss."""
        with np.errstate(over="ignore", invalid="ignore"):  # the loss shows it
            loss: float | None = self.model.validation_step(batch)
        return loss

    def clip_gradients(self, grad_clip_val: float, model: Module) -> None:
        """Scale all gradients so that their common norm is at most `grad_clip_val`."""
        norm = self.gradient_norm = global_norm(model.gradients)
        if norm > grad_clip_val:
            for gradient in model.gradients.values():
                gradient *= grad_clip_val / norm

    def prepare_optimizer(self) -> None:
        """Ask the model for its optimiser."""
        super().prepare_optimizer()
        self._rate: Any = getattr(self.optim, "lr", None)

    def scale_learning_rate(self, factor: float) -> None:
        """From here on the learning rate is `factor` times what the optimiser has begun with."""
        self.optim.lr = self._rate * factor

    def state_dict(self) -> Weights:
        """Copies of all arrays that training changes: weights, optimiser, generators."""
        arrays = {name: array.copy() for name, array in self._arrays().items()}
        if hasattr(self.optim, "steps"):
            arrays["steps"] = np.array(self.optim.steps)
        for name, rng in self._generators().items():
            text = json.dumps(rng.bit_generator.state)
            arrays[f"generator.{name}"] = np.frombuffer(text.encode(), np.uint8)
        return arrays | checkpoint.flatten_state(self.hidden_state, np.asarray)

    def load_state_dict(self, arrays: Mapping[str, Array]) -> None:
        """Load what `state_dict` returned; the model and its optimiser must be prepared."""
        for name, array in self._arrays().items():
            array[...] = arrays[name]
        if hasattr(self.optim, "steps"):
            self.optim.steps = int(arrays["steps"])
        for name, rng in self._generators().items():
            rng.bit_generator.state = json.loads(arrays[f"generator.{name}"].tobytes())
        self.hidden_state = checkpoint.unflatten_state(arrays, np.asarray)

    def _arrays(self) -> Weights:
        """The model's parameters, and what the optimiser keeps of each."""
        arrays = {f"model.{name}": array for name, array in self.model.parameters.items()}
        for kind in getattr(self.optim, "memory", ()):
            kept = getattr(self.optim, kind)
            arrays |= {f"{kind}.{name}": array for name, array in kept.items()}
        return arrays

    def _generators(self) -> dict[str, np.random.Generator]:
        """Generators of dropout."""
        rng = getattr(getattr(self.model, "rnn", None), "rng", None)
        return {"rnn": rng} if rng else {}


def global_norm(gradients: Weights) -> float:
    """The norm of all gradients as if they were one vector."""
    return float(np.sqrt(sum(float(np.vdot(array, array)) for array in gradients.values())))


class TimeMachine(corpus.TimeMachine):
    """The Time Machine in overlapping windows, as in d2l."""

    __init__ = corpus.TimeMachine.build_windows


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
    inputs = arch.embedding or arch.vocab
    rnn = LAYERS[arch.cell](inputs, arch.hidden, arch.layers, dropout=dropout, seed=seed)
    model = RNNLM(rnn, arch.vocab, lr, arch.embedding, optimizer, momentum, arch.tied)
    model.load_weights(values)
    return model


def architecture(model: RNNLM) -> Architecture:
    """Architecture of a model."""
    if not isinstance(model, RNNLM):
        cure = "numpy.savez(path, **model.parameters)"
        raise weights.not_canonical("an RNNLM", model, cure)
    return Architecture(*described(model))


def described(model: RNNLM) -> tuple[Any, ...]:
    """Fields of an Architecture for a model, in their order and unchecked."""
    rnn = model.rnn
    sizes = model.vocab_size, rnn.num_hiddens, rnn.num_layers, model.embedding_size
    return rnn.cell, *sizes, model.tied


def export_weights(model: RNNLM) -> Weights:
    """The weights of a model by canonical name; copies."""
    return {name: value.copy() for name, value in model.parameters.items()}


def version() -> str:
    """The version of NumPy."""
    return np.__version__


def devices() -> list[str]:
    """The devices that can be used here."""
    return ["cpu"]
