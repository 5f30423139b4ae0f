"""Stacks of recurrent layers of any cell, over any array module `xp`; see `cells`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from elman.model.cells import Cell, State

FEW_STEPS = 4  # computed one by one


def run_stack(
    xp: Any,
    names: Sequence[Sequence[str]],
    inputs: Any,
    state: State,
    run: Callable[[str, Any, State], tuple[Any, State]],
    drop: Callable[[Any], Any],
) -> tuple[Any, State]:
    """Run each layer, in each of its directions, on the outputs of the layer below.

    `names` are as in `weights.layer_names`. `run` takes the name of a layer in one direction, its
    inputs (steps, batch, features) and its state; it returns the outputs of all steps in order, and
    the final state. `drop` is applied between layers. Returns the outputs of the last layer,
    (steps, batch, directions * hidden), and the stacked final states of all layers.
    """
    final_states: list[State] = []
    for layer, directions in enumerate(names):
        if layer > 0:
            inputs = drop(inputs)
        outputs = []
        for name in directions:
            output, last = run(name, inputs, tuple(part[len(final_states)] for part in state))
            outputs.append(output)
            final_states.append(last)
        inputs = xp.concat(outputs, 2)  # (steps, batch, directions * hidden)
    return inputs, tuple(xp.stack(parts) for parts in zip(*final_states, strict=True))


def run_layer(
    xp: Any, cell: Cell, weights: Mapping[str, Any], inputs: Any, state: State, reverse: bool
) -> tuple[Any, State]:
    """Run a layer through all steps: inputs (steps, batch, features).

    `weights` contains the layer's weights by kind. With `reverse`, it begins at the last step; the
    outputs, (steps, batch, hidden), keep the order of the inputs.
    """
    order = slice(None, None, -1 if reverse else 1)
    x = xp.matmul(inputs, xp.transpose(weights["weight_ih"])) + weights["bias_ih"]
    if cell.linear is not None:
        a, b = linear_forms(xp, cell, weights, x)
        if reverse:
            a, b = xp.stack(list(a)[order]), xp.stack(list(b)[order])
        outputs = scan_linear(xp, a, b, state[0])
        return xp.stack(list(outputs)[order]) if reverse else outputs, (outputs[-1],)
    outputs, r = [], None
    bias = recurrent_bias(xp, cell, weights) if cell.recurrent else None
    for x_t in list(x)[order]:  # (batch, gates * hidden)
        if cell.recurrent:
            r = xp.matmul(state[0], xp.transpose(weights["weight_hh"])) + bias
        state = cell.next_state(xp, x_t, r, state, weights)
        outputs.append(state[0])
    return xp.stack(outputs[order]), state


def recurrent_bias(xp: Any, cell: Cell, weights: Mapping[str, Any]) -> Any:
    """The bias b_hh of a layer. Its redundant part is zero and gets no gradient.

    Training both biases would double the learning rate of their sum.
    """
    bias = weights["bias_hh"]
    if cell.one_bias:
        return bias * 0
    redundant = bias.shape[0] * cell.redundant_gates // len(cell.gates)
    if not redundant:
        return bias
    return xp.concat([bias[:redundant] * 0, bias[redundant:]], 0)


def linear_forms(xp: Any, cell: Cell, weights: Mapping[str, Any], x: Any) -> tuple[Any, Any]:
    """a and b of a linear cell for all steps, (steps, batch, hidden), computed from x."""
    steps, batch, columns = x.shape
    parts = cell.linear_form(xp, xp.reshape(x, (-1, columns)), weights)
    a, b = (xp.reshape(part, (steps, batch, columns // len(cell.gates))) for part in parts)
    return a, b


def scan_linear(xp: Any, a: Any, b: Any, h: Any) -> Any:
    """All h_t = a_t h_{t-1} + b_t, (steps, batch, hidden), given the h before the first step.

    Two steps combine into one of the same form, h_t = a_t a_{t-1} h_{t-2} + (a_t b_{t-1} + b_t).
    The combined steps give every second h; one operation computes the others from them. This takes
    about log2(steps) consecutive operations.
    """
    steps = a.shape[0]
    if steps <= FEW_STEPS:
        outputs = []
        for a_t, b_t in zip(list(a), list(b), strict=True):
            h = a_t * h + b_t
            outputs.append(h)
        return xp.stack(outputs)
    pairs = steps // 2
    a_even, b_even, a_odd = a[: 2 * pairs : 2], b[: 2 * pairs : 2], a[1::2]
    odd = scan_linear(xp, a_odd * a_even, a_odd * b_even + b[1::2], h)
    before = xp.concat([xp.stack([h]), odd], 0)  # h before the steps 0, 2, 4, ...
    even = a_even * before[:pairs] + b_even
    outputs = xp.reshape(xp.stack([even, odd], 1), (2 * pairs, *h.shape))
    if steps == 2 * pairs:
        return outputs
    return xp.concat([outputs, a[-1:] * before[-1:] + b[-1:]], 0)
