"""Array functions, devices, and data sets."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.book import data_sets
from elman.book.data_sets import DataModule, TextFile
from elman.model.metrics import perplexity

__all__ = ["DataModule", "TextFile", "TimeMachine", "devices"]

Array = NDArray[Any]


concat, stack = np.concatenate, np.stack
numpy = np.asarray
exp = perplexity  # infinite on overflow, without a warning


def round_to_bfloat16(x: Array) -> Array:
    """Nearest bfloat16 of each number (ties to even) as float32; NaN stays NaN."""
    single = np.asarray(x, np.float32)
    bits = single.view(np.uint32)
    odd = (bits >> 16) & 1
    rounded = (bits + 0x7FFF + odd) & 0xFFFF0000
    return np.where(np.isnan(single), single, rounded.view(np.float32))


def matmul(x: Array, y: Array, precision: str) -> Array:
    """Matrix product; with bf16, factors are rounded to bfloat16 and sums are single precision."""
    if precision == "bf16":
        x, y = round_to_bfloat16(x), round_to_bfloat16(y)
    product: Array = x @ y
    return product


def look_up(table: Array, ids: Array) -> Array:
    """Rows `ids` of a table: the product of one-hot vectors and the table."""
    return table[ids]


def look_up_backward(d_rows: Array, ids: Array, rows: int) -> Array:
    """Gradient of the table, (rows, features): for each id, the sum of its rows' gradients."""
    flat_ids, flat = ids.ravel(), d_rows.reshape(-1, d_rows.shape[-1])  # (steps * batch, features)
    nonzero = flat.any(axis=1)  # zero rows of padding would change the rounding
    flat_ids, flat = flat_ids[nonzero], flat[nonzero]
    order = np.argsort(flat_ids, kind="stable")
    present, starts = np.unique(flat_ids[order], return_index=True)
    d_table = np.zeros((rows, flat.shape[1]), flat.dtype)
    d_table[present] = np.add.reduceat(flat[order], starts, axis=0)
    return d_table


def global_norm(gradients: dict[str, Array]) -> float:
    """Norm of all gradients as one vector."""
    return float(np.sqrt(sum(float(np.vdot(array, array)) for array in gradients.values())))


def devices() -> list[str]:
    """Names of the devices that can be used here."""
    return ["cpu"]


class TimeMachine(data_sets.TimeMachine):
    """The Time Machine in overlapping windows, as in d2l."""

    __init__ = data_sets.TimeMachine.build_windows
