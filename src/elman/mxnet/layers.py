"""Recurrent layers: RNNScratch, Recurrent, RNN, GRU, LSTM."""

from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from mxnet import gluon, init, np, npx
from mxnet.gluon import nn, rnn

from elman.model import cells, layers, weights
from elman.model.layers import Named, Nonlinear, Options, Sizes, documented, run_layer, run_stack
from elman.model.registry import cell_named
from elman.mxnet import arrays
from elman.mxnet.model import COMPILED, Module

__all__ = ["GRU", "LSTM", "RNN", "RNNScratch", "Recurrent"]

CELLS = {"rnn_tanh": "rnn", "rnn_relu": "rnn-relu", "gru": "gru", "lstm": "lstm"}


class RNNScratch(Module):
    """Tanh RNN from scratch: inputs (steps, batch, num_inputs) -> a list of (batch, hidden)."""

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.W_xh = np.random.randn(num_inputs, num_hiddens) * sigma
        self.W_hh = np.random.randn(num_hiddens, num_hiddens) * sigma
        self.b_h = np.zeros(num_hiddens)

    def forward(self, inputs: np.ndarray, state: Any = None) -> tuple[list[Any], np.ndarray]:
        """Outputs of all steps, and the last output as the state."""
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


class Layers(layers.Layers, Module):
    """Stack of recurrent layers of the cell `cell`: Gluon's own layers if there are any."""

    draws: int | None = None  # seed of dropout, if there is any

    def make_stack(self) -> Any:
        """Gluon's layers, or a CellStack."""
        make = NATIVE.get(self.cell, partial(CellStack, self.cell))
        options = {"dropout": self.dropout, "bidirectional": self.bidirectional}
        if self.dropout or self.input_dropout or self.output_dropout:
            # The trainer adds the number of updates.
            self.draws = int(np.random.randint(0, 1 << 31, ()).item())
        return make(self.num_hiddens, self.num_layers, **options)

    def forward(self, inputs: np.ndarray, H: Any = None) -> tuple[np.ndarray, Any]:
        """Outputs of all steps, and the state after the last."""
        if H is None:
            H = self.rnn.begin_state(inputs.shape[1], ctx=inputs.ctx, dtype=inputs.dtype)
        outputs, states = self.rnn(drop_features(inputs, self.input_dropout), H)
        outputs = drop_features(outputs, self.output_dropout)
        return outputs, states if len(states) > 1 else states[0]


@documented
@dataclass(eq=False, repr=False)
class Recurrent(Options, Sizes, Named, Layers):
    """Stack of recurrent layers of any cell."""


@documented
@dataclass(eq=False, repr=False)
class RNN(Options, Nonlinear, Layers):
    """Stack of simple recurrent layers."""


@documented
@dataclass(eq=False, repr=False)
class GRU(Options, Sizes, Layers):
    """Stack of gated recurrent layers."""

    cell = "gru"


@documented
@dataclass(eq=False, repr=False)
class LSTM(Options, Sizes, Layers):
    """Stack of LSTM layers. The state is a pair (H, C)."""

    cell = "lstm"


class Stacked(gluon.HybridBlock):
    """Runs Gluon's recurrent layers one by one, with frozen biases and with dropout between them.

    Gluon adds `i2h_bias` and `h2h_bias` before the nonlinearity. Training both would double the
    learning rate of their sum, compared with a framework that has one bias. Gluon's kernel for
    several layers ignores dropout on a CPU.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.hybridize(**COMPILED)

    def __call__(self, inputs: np.ndarray, states: Any = None) -> Any:
        """Outputs; also the final states, if initial states are given."""
        begin = states
        if states is None:
            begin = self.begin_state(inputs.shape[1], ctx=inputs.ctx, dtype=inputs.dtype)
        outputs, final_states = super().__call__(inputs, begin)  # one graph for both
        return outputs if states is None else (outputs, final_states)

    def _forward_kernel(
        self, F: Any, inputs: Any, states: Any, sequence_length: None, **parameters: Any
    ) -> tuple[Any, list[Any]]:
        """Outputs of the last layer, and final states of all; `F` is Gluon's array module."""
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
        """Weights, then biases of a layer, as one vector."""
        pieces = []
        for kind, side, source in product(("weight", "bias"), "lr"[: self._dir], ("i2h", "h2h")):
            piece = parameters[f"{side}{layer}_{source}_{kind}"]
            used = self._frozen(F, piece) if (source, kind) == ("h2h", "bias") else piece
            pieces.append(used.reshape(-1))
        return F.np._internal.rnn_param_concat(*pieces, dim=0)

    def _frozen(self, F: Any, bias: Any) -> Any:
        """Bias with a redundant part that is zero and has no gradient."""
        spec = cells.CELLS[CELLS[self._mode]]
        if spec.redundant_gates == len(spec.gates):  # MXNet has no empty arrays to concatenate
            return F.np.zeros_like(bias)
        part = spec.redundant_bias(self._hidden_size)
        return F.np.concatenate([F.np.zeros_like(bias[part]), bias[part.stop :]])


class StackedRNN(Stacked, rnn.RNN):
    """Gluon's RNN."""


class StackedGRU(Stacked, rnn.GRU):
    """Gluon's GRU."""


class StackedLSTM(Stacked, rnn.LSTM):
    """Gluon's LSTM."""


NATIVE: dict[str, Any] = {
    "rnn": partial(StackedRNN, activation="tanh"),
    "rnn-relu": partial(StackedRNN, activation="relu"),
    "gru": StackedGRU,
    "lstm": StackedLSTM,
}


class CellStack(nn.Block):
    """Recurrent layers of a cell without Gluon layers, called like Gluon's layers.

    The first call infers the number of features of the inputs.
    """

    def __init__(
        self, cell: str, hidden: int, num_layers: int, dropout: float, bidirectional: bool
    ) -> None:
        super().__init__()
        self.cell, self._hidden_size, self._num_layers = cell, hidden, num_layers
        self.dropout, self.names = dropout, weights.layer_names(num_layers, bidirectional)
        shapes = weights.layer_shapes(cell, 0, hidden, num_layers, bidirectional)
        own = cell_named(cell).parameters
        for name, shape in shapes.items():
            kind, initial = name.rpartition("_l")[0], None
            if kind in own:
                initial = init.Constant(own[kind])
            parameter = self.params.get(name, shape=shape, init=initial, allow_deferred_init=True)
            setattr(self, name, parameter)

    def begin_state(self, batch: int, **options: Any) -> list[np.ndarray]:
        """A state of zeros."""
        shape = (sum(map(len, self.names)), batch, self._hidden_size)
        return [np.zeros(shape, **options) for _ in range(cell_named(self.cell).states)]

    def forward(self, inputs: np.ndarray, states: Any) -> tuple[np.ndarray, Any]:
        """Outputs of all steps, and the state after the last."""
        whole = (states,) if isinstance(states, np.ndarray) else tuple(states)
        return run_stack(arrays, self.names, inputs, whole, self._run, self._drop)

    def _run(self, name: str, inputs: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        cell = cell_named(self.cell)
        parameters = {kind: self._reg_params[kind + name] for kind in cell.weight_kinds}
        W_ih = parameters["weight_ih"]
        W_ih.shape = (W_ih.shape[0], inputs.shape[-1])
        W_ih._finish_deferred_init()
        found = {kind: parameter.data(inputs.ctx) for kind, parameter in parameters.items()}
        return run_layer(arrays, cell, found, inputs, state, name.endswith("_reverse"))

    def _drop(self, inputs: np.ndarray) -> np.ndarray:
        return npx.dropout(inputs, p=self.dropout)


def drop_features(values: np.ndarray, share: float) -> np.ndarray:
    """Values, (steps, batch, features), after dropout with one mask for all steps."""
    return npx.dropout(values, p=share, axes=(0,)) if share else values


def cell_of(layers: nn.Block) -> str:
    """Name of the cell of Gluon's layers, or of a CellStack."""
    cell: str = layers.cell if isinstance(layers, CellStack) else CELLS[layers._mode]
    return cell
