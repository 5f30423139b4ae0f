"""Stacks of recurrent layers of any cell, over any array module `xp`; see `cells`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from elman.core.model.cells import CellSpec, State


def run_stack(
    xp: Any,
    names: Sequence[Sequence[str]],
    inputs: Any,
    state: State,
    run: Callable[[str, Any, State], tuple[Any, State]],
    drop: Callable[[Any], Any],
) -> tuple[Any, State]:
    """Run each layer, in each of its directions, on the outputs of the layer below.

    `names` are those of `weights.layer_names`. `run` takes the name of a layer in one direction,
    its inputs (steps, batch, features) and its state; it returns the outputs of all steps, in their
    order, and the final state. `drop` is applied between layers. Returns the outputs of the last
    layer, (steps, batch, directions * hidden), and the final states of all, stacked.
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
    xp: Any, spec: CellSpec, weights: Mapping[str, Any], inputs: Any, state: State, reverse: bool
) -> tuple[Any, State]:
    """Run a layer through all steps, one by one: inputs (steps, batch, features).

    `weights` has the layer's weights by kind. `reverse` begins at the last step; the outputs,
    (steps, batch, hidden), keep the order of the inputs.
    """
    order = slice(None, None, -1 if reverse else 1)
    x = xp.matmul(inputs, xp.transpose(weights["weight_ih"])) + weights["bias_ih"]
    outputs, r = [], None
    for x_t in list(x)[order]:  # (batch, gates * hidden)
        if "weight_hh" in weights:
            r = xp.matmul(state[0], xp.transpose(weights["weight_hh"])) + weights["bias_hh"]
        state = spec.step(xp, x_t, r, state)
        outputs.append(state[0])
    return xp.stack(outputs[order]), state
