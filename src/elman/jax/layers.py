"""Recurrent layers: RNNScratch, Recurrent, RNN, GRU, LSTM."""

import inspect
from functools import partial
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp

from elman.errors import ElmanError
from elman.jax import arrays
from elman.model import weights
from elman.model.cells import Cell
from elman.model.layers import Named, Nonlinear, Options, Sizes, documented, linear_forms, run_stack
from elman.model.registry import cell_named, check_cell

__all__ = ["GRU", "LSTM", "RNN", "RNNScratch", "Recurrent"]


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


class Layers(nn.Module):
    """Stack of recurrent layers of the cell `cell`; subclasses declare the fields.

    Inputs are (steps, batch, features), outputs (steps, batch, num_hiddens), states
    (num_layers, batch, num_hiddens). Bidirectional layers have outputs (steps, batch,
    2 * num_hiddens) and states (2 * num_layers, batch, num_hiddens).
    """

    def __post_init__(self) -> None:
        check_cell(self.cell)
        weights.check_dropout(input_dropout=self.input_dropout, output_dropout=self.output_dropout)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, inputs: Any, state: Any = None, training: bool = False, num_inputs: int = 0
    ) -> tuple[Any, Any]:
        """Outputs of all steps, and the state after the last.

        Integer inputs, (steps, batch), below `num_inputs`, represent one-hot vectors.
        """
        names = weights.layer_names(self.num_layers, self.bidirectional)
        parts = cell_named(self.cell).states
        if state is None:
            number = sum(map(len, names))
            shape = (number, inputs.shape[1], self.num_hiddens)
            state = (jnp.zeros(shape),) * parts
        elif parts == 1:
            state = (state,)
        if jnp.issubdtype(inputs.dtype, jnp.integer):
            weights.check_one_hot(self.input_dropout)
        outputs, state = run_stack(
            arrays,
            names,
            self._drop_features(inputs, self.input_dropout, training),
            state,
            partial(self._run, num_inputs),
            lambda inputs: nn.Dropout(self.dropout, deterministic=not training)(inputs),
        )
        outputs = self._drop_features(outputs, self.output_dropout, training)
        return outputs, state if parts > 1 else state[0]

    @property
    def _spec(self) -> Cell:
        return cell_named(self.cell)

    def _drop_features(self, values: Any, share: float, training: bool) -> Any:
        """Values, (steps, batch, features), after dropout with one mask for all steps."""
        if not share:
            return values
        return nn.Dropout(share, broadcast_dims=(0,), deterministic=not training)(values)

    def _run(self, num_inputs: int, name: str, inputs: Any, state: Any) -> tuple[Any, Any]:
        """One layer in one direction."""
        ids = jnp.issubdtype(inputs.dtype, jnp.integer)
        w, cell = self._weights(name, num_inputs if ids else inputs.shape[-1]), self._spec
        # (steps, batch, gates * hidden)
        W_ih, b_ih = w.pop("weight_ih"), w.pop("bias_ih")
        x = (W_ih.T + b_ih)[inputs] if ids else inputs @ W_ih.T + b_ih
        return recurrence(cell, w, x, state, name.endswith("_reverse"))

    def _weights(self, name: str, inputs: int) -> dict[str, Any]:
        """Weights by kind. A redundant part of bias_hh is zero and not a parameter."""
        cell, hidden, bound = self._spec, self.num_hiddens, self.num_hiddens**-0.5
        redundant = cell.redundant_bias(hidden).stop
        shapes = weights.layer_shapes(self.cell, inputs, hidden, 1)
        initial = {kind: nn.initializers.constant(value) for kind, value in cell.parameters.items()}
        draw = partial(jax.random.uniform, minval=-bound, maxval=bound)
        found = {}
        for kind in cell.weight_kinds:
            rows, *columns = shapes[f"{kind}_l0"]
            rows -= redundant * (kind == "bias_hh")
            if rows:
                found[kind] = self.param(kind + name, initial.get(kind, draw), (rows, *columns))
        if "bias_hh" in found:
            found["bias_hh"] = jnp.pad(found["bias_hh"], (redundant, 0))
        return found


# Outside of compiled code, as in the book's own loops, JAX compiles a scan over a new function at
# each call. It compiles this function once for each shape.
@partial(jax.jit, static_argnames=("cell", "reverse"), inline=True)
def recurrence(cell: Cell, w: dict[str, Any], x: Any, state: Any, reverse: bool) -> tuple[Any, Any]:
    """Outputs of all steps, (steps, batch, hidden), and the last state, given W_ih x + b_ih."""

    def step(state: Any, x: Any) -> tuple[Any, Any]:
        r = state[0] @ w["weight_hh"].T if "weight_hh" in w else None
        if "bias_hh" in w:
            r = r + w["bias_hh"]
        state = cell.next_state(arrays, x, r, state, w)
        return state, state[0]

    def one_by_one() -> tuple[Any, Any]:
        last, outputs = jax.lax.scan(step, state, x, reverse=reverse)
        return outputs, last

    def together() -> tuple[Any, Any]:
        outputs = scan_linear(*linear_forms(arrays, cell, w, x), state[0], reverse)
        return outputs, (outputs[0 if reverse else -1],)

    if cell.linear is None:
        return one_by_one()
    # A CPU computes the steps faster one by one.
    return jax.lax.platform_dependent(cpu=one_by_one, default=together)


def scan_linear(a: Any, b: Any, h: Any, reverse: bool) -> Any:
    """All h_t = a_t h_{t-1} + b_t, (steps, batch, hidden), given the h before the first step."""

    def joined(one: Any, two: Any) -> Any:
        (a_one, b_one), (a_two, b_two) = one, two
        return a_two * a_one, a_two * b_one + b_two

    a_all, b_all = jax.lax.associative_scan(joined, (a, b), reverse=reverse)
    return a_all * h + b_all


@documented
class Recurrent(Options, Sizes, Named, Layers):
    """Stack of recurrent layers of any cell."""


@documented
class RNN(Options, Nonlinear, Layers):
    """Stack of simple recurrent layers."""


@documented
class GRU(Options, Sizes, Layers):
    """Stack of gated recurrent layers."""

    cell = "gru"


@documented
class LSTM(Options, Sizes, Layers):
    """Stack of LSTM layers. The state is a pair (H, C)."""

    cell = "lstm"


def check_call(rnn: nn.Module) -> None:
    """Raise an ElmanError unless layers accept the arguments that an RNNLM passes."""
    signature = inspect.signature(type(rnn).__call__)
    try:
        signature.bind(rnn, "inputs", "state", "training")
    except TypeError as error:
        _, *takes = signature.parameters
        raise ElmanError(
            "layers must accept (inputs, state, training), and "
            f"{type(rnn).__name__} takes ({', '.join(takes)}): give its __call__ training=False "
            "after state"
        ) from error


def accepts_ids(rnn: nn.Module) -> bool:
    """True for this package's layers: they accept ids instead of one-hot vectors."""
    return type(rnn) in (RNN, GRU, LSTM, Recurrent)
