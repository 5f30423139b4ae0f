"""Cells that a user could register."""

from typing import Any

from examples import cells

import elman


def everything(xp: Any, x: Any, r: Any, state: Any, scale: Any) -> Any:
    """A step that calls every function and operator that a step may use."""
    a, b = xp.split(x, 2, 1)
    c, d = xp.split(r, 2, 1)
    first = xp.exp(-xp.relu(a)) + xp.log(xp.sigmoid(c) + 1.5) / scale
    second = xp.sin(b) - xp.cos(d) * xp.reduce_mean(first, 1, keepdims=True)
    third = (2 - xp.reduce_sum(xp.concat([first, second], 1) ** 2, 1, keepdims=True)) / 50
    h = xp.tanh(1 / (+first + 4) + third + scale * state[2] + 2 ** -xp.relu(b))
    return h, state[0], 0.5 * state[1]


EVERYTHING = elman.Cell("everything", ("a", "b"), everything, parameters={"scale": 0.7}, states=3)
elman.register(EVERYTHING)
CUSTOM = (cells.MINLSTM.name, cells.NORMALIZED_RNN.name, EVERYTHING.name)
