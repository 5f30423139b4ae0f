"""Recurrent layers: RNNScratch, RNN, GRU, LSTM."""

import inspect
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp

from elman.core.errors import ElmanError
from elman.core.model import cells, weights

__all__ = ["GRU", "LSTM", "RNN", "RNNScratch"]


class RNNScratch(nn.Module):
    """Tanh RNN from scratch: inputs (steps, batch, num_inputs) -> a list of (batch, hidden)."""

    num_inputs: int
    num_hiddens: int
    sigma: float = 0.01

    def setup(self) -> None:
        """Create the parameters."""
        normal = nn.initializers.normal(self.sigma)
        self.W_xh = self.param("W_xh", normal, (self.num_inputs, self.num_hiddens))
        self.W_hh = self.param("W_hh", normal, (self.num_hiddens, self.num_hiddens))
        self.b_h = self.param("b_h", nn.initializers.zeros, (self.num_hiddens,))

    def __call__(self, inputs: Any, state: Any = None) -> tuple[list[Any], Any]:
        """Outputs of all steps, and the last output as the state."""
        if state is None:
            state = jnp.zeros((inputs.shape[1], self.num_hiddens))
        elif isinstance(state, tuple) or state.ndim == 3:
            (state,) = state
        outputs = []
        for X in inputs:  # (batch, num_inputs)
            state = jnp.tanh(X @ self.W_xh + state @ self.W_hh + self.b_h)
            outputs.append(state)
        return outputs, state


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
    """Stack of recurrent layers of the cell `cell`; subclasses have the fields."""

    @nn.compact
    def __call__(
        self, inputs: Any, state: Any = None, training: bool = False, num_inputs: int = 0
    ) -> tuple[Any, Any]:
        """Outputs of all steps, and the state after the last.

        Integer inputs, (steps, batch), below `num_inputs`, stand for one-hot vectors.
        """
        names = weights.layer_names(self.num_layers, self.bidirectional)
        parts = 2 if self.cell == "lstm" else 1
        if state is None:
            number = sum(map(len, names))
            shape = (number, inputs.shape[1], self.num_hiddens)
            state = (jnp.zeros(shape),) * parts
        elif parts == 1:
            state = (state,)
        final_states: list[Any] = []
        for layer, directions in enumerate(names):
            if layer > 0:
                inputs = nn.Dropout(self.dropout, deterministic=not training)(inputs)
            outputs = []
            for name in directions:
                start = tuple(part[len(final_states)] for part in state)
                output, last = self._run(name, inputs, start, num_inputs)
                outputs.append(output)
                final_states.append(last)
            inputs = jnp.concatenate(outputs, axis=2)  # (steps, batch, directions * hidden)
        state = tuple(jnp.stack(part) for part in zip(*final_states, strict=True))
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
        hidden, gates = self.num_hiddens, len(cells.CELLS[self.cell].gates) * self.num_hiddens

        def draw(key: Any, shape: tuple[int, ...]) -> Any:
            bound = hidden**-0.5
            return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

        W_ih = self.param(f"weight_ih{name}", draw, (gates, inputs))
        W_hh = self.param(f"weight_hh{name}", draw, (gates, hidden))
        b_ih = self.param(f"bias_ih{name}", draw, (gates,))
        b = self.param(f"bias_hh{name}", draw, (hidden,)) if self.cell == "gru" else None
        return W_ih, W_hh, b_ih, b


class RNN(Layers):
    """Stack of recurrent layers; `nonlinearity` is tanh or relu.

    Inputs are (steps, batch, features), outputs (steps, batch, num_hiddens), states
    (num_layers, batch, num_hiddens). Bidirectional layers have outputs (steps, batch,
    2 * num_hiddens) and states (2 * num_layers, batch, num_hiddens).

    - `num_hiddens`: hidden units per layer.
    - `num_layers`: number of layers in the stack.
    - `nonlinearity`: tanh or relu; GRU and LSTM have no such option.
    - `dropout`: share of a layer's outputs that training sets to zero before the next layer.
    - `bidirectional`: also run backward, from the last step to the first.
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
        """Name of the cell."""
        return "rnn" if self.nonlinearity == "tanh" else "rnn-relu"


class GRU(Layers):
    """Stack of gated recurrent layers.

    `num_hiddens`, `num_layers`, `dropout` and `bidirectional` are as in RNN.
    """

    num_hiddens: int
    num_layers: int = 1
    dropout: float = 0
    bidirectional: bool = False

    cell = "gru"


class LSTM(Layers):
    """Stack of LSTM layers; its state is a pair (H, C).

    `num_hiddens`, `num_layers`, `dropout` and `bidirectional` are as in RNN.
    """

    num_hiddens: int
    num_layers: int = 1
    dropout: float = 0
    bidirectional: bool = False

    cell = "lstm"


def check_call(rnn: nn.Module) -> None:
    """Raise an ElmanError unless layers accept the arguments that an RNNLM passes."""
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


def accepts_ids(rnn: nn.Module) -> bool:
    """True for this package's own layers, which accept ids in place of one-hot vectors."""
    return type(rnn) in (RNN, GRU, LSTM)
