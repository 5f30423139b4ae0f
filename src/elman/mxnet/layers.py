"""Recurrent layers: RNNScratch, RNN, GRU, LSTM."""

from itertools import product
from typing import Any

from mxnet import gluon, np
from mxnet.gluon import rnn

from elman.core.errors import ElmanError
from elman.core.model import cells
from elman.mxnet.model import COMPILED, Module

__all__ = ["GRU", "LSTM", "RNN", "RNNScratch"]

CELLS = {"rnn_tanh": "rnn", "rnn_relu": "rnn-relu", "gru": "gru", "lstm": "lstm"}


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
            used = self._frozen(F, piece) if (source, kind) == ("h2h", "bias") else piece
            pieces.append(used.reshape(-1))
        return F.np._internal.rnn_param_concat(*pieces, dim=0)

    def _frozen(self, F: Any, bias: Any) -> Any:
        """A bias whose redundant part is zero, and has no gradient."""
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
