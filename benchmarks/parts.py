"""Where an update of the book's job spends its time.

    python benchmarks/parts.py [--rounds N]

One thread takes all of it: an update of the trainer, its kernels, and the parts of the kernels,
each alone on a group's arrays and as often as in the update (but for what the first step does
alone, which is among the rest). They take turns of ten times; a part that holds a product is timed
with it, and the product's time is then taken off. Prints medians and shares, and the time that the
operations would take at the best rate of NumPy's matrix product on one thread.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ["NUMBA_NUM_THREADS"] = "1"  # before Numba is imported

import numpy as np
from limits import VOCAB, operations, peak
from numba import njit
from scaling import in_turns
from sizes import a_batch, engine

from elman.core.weights import Architecture, initial
from elman.kernels import head, layer
from elman.kernels.cells import backward_step, forward_step
from elman.kernels.engine import Engine
from elman.kernels.update import GROUP, run

SIZES = ("rnn", 32, 1024, 32)
_, HIDDEN, BATCH, STEPS = SIZES
TURN = 10
TIMES = BATCH // GROUP * STEPS  # steps of groups in an update


@njit
def product(S, times, left, W, bias, out):
    """The product of a step."""
    for _ in range(times):
        layer.product(S, left, W, bias, out)


@njit
def add_weights(S, times, left, right, out):
    """The gradients of weights, of some steps at a time."""
    for _ in range(times):
        layer.add_products_of_rows(S, left, right, out)


@njit
def forward(S, times, cell, table, ids, gates, h, h_to, W):
    """A step of the cell."""
    for n in range(times):
        forward_step(cell, S, table, ids, n % ids.shape[1], gates, h, h, h_to, h_to, W)


@njit
def backward(S, times, cell, h, later, W, d_out, d_gates):
    """A step of the cell, backward."""
    for _ in range(times):
        backward_step(cell, S, h, h, h, h, h, later, W, d_out, d_out, d_out, d_gates)


@njit
def output(S, times, h, targets, W, bias, logits, d_bias):
    """The output layer, its loss and gradients."""
    for n in range(times):
        t = n % targets.shape[1]
        head.loss(S, h, targets, t, len(h), W, bias, logits)
        head.backward(S, targets, t, len(h), np.float32(1e-6), logits, d_bias)


@njit
def add_rows(S, times, d_gates, ids, d_table):
    """The gradients of the rows of the table."""
    for n in range(times):
        layer.backward_to_ids(S, d_gates, ids, n % ids.shape[1], d_table)


def works() -> dict[str, Callable[[], Any]]:
    """An update, its kernels, and their parts."""
    of = Architecture("rnn", VOCAB, HIDDEN)
    kernels = Engine(of)
    kernels.load(initial(of))
    ids, targets = a_batch(BATCH, STEPS)
    kernels.loss(ids, targets, (), [], learn=True)
    S, cell, packed, work = kernels.shape, kernels.cell, kernels.packed, kernels.work
    slots, batch = kernels.slots, kernels._batch(ids, targets, (), [])
    totals = np.zeros(len(slots.table))
    h, h_to, gates, rows = work.hs[0, 0, 1], work.hs[0, 0, 2], work.gates[0, 0, 0], work.d_rows[0]
    later, d_gates, logits = rows[1], rows[2], rows[1][:, kernels.hidden :]
    W, W_back = packed.state[0], packed.state_back[0]
    d_out, d_table, d_W = work.d_out[0, 0], slots.table[0], slots.state[0, 0]
    ids, targets, bias = ids[:GROUP], targets[:GROUP], packed.linear_bias
    span = max(1, layer.SPAN // GROUP)
    left = rows.reshape(-1, rows.shape[2])[: span * GROUP]
    right = work.hs[0, 0].reshape(-1, work.hs.shape[4])[: span * GROUP]
    d_bias = slots.linear_bias[0]
    return {
        "update": engine(*SIZES),
        "kernels": lambda: run(S, cell, batch, packed, work, slots, totals, 0, 1, True),
        "forward product": lambda: product(S, TIMES, h, W, packed.none, d_out),
        "logits": lambda: product(S, TIMES, h, packed.linear, bias, logits),
        "backward product": lambda: product(S, TIMES, later, W_back, packed.none, d_out),
        "weights": lambda: add_weights(S, TIMES // span, left, right, d_W),
        "forward": lambda: forward(S, TIMES, cell, packed.table, ids, gates, h, h_to, W),
        "backward": lambda: backward(S, TIMES, cell, h, later, W_back, d_out, d_gates),
        "output": lambda: output(S, TIMES, h, targets, packed.linear, bias, logits, d_bias),
        "rows": lambda: add_rows(S, TIMES, d_gates, ids, d_table),
    }


def turn(work: Callable[[], Any]) -> None:
    """Some times the same, as in a training."""
    for _ in range(TURN):
        work()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=40)
    turns = {name: partial(turn, work) for name, work in works().items()}
    seconds = {n: t / TURN for n, t in in_turns(turns, parser.parse_args().rounds).items()}
    parts = {
        "products": sum(
            seconds[n] for n in ("forward product", "logits", "backward product", "weights")
        ),
        "looking up rows of the table, tanh": seconds["forward"] - seconds["forward product"],
        "softmax, loss, their gradients": seconds["output"] - seconds["logits"],
        "the derivative of tanh": seconds["backward"] - seconds["backward product"],
        "adding to rows of the table": seconds["rows"],
    }
    parts["the rest of the kernels"] = seconds["kernels"] - sum(parts.values())
    parts["outside the kernels"] = seconds["update"] - seconds["kernels"]
    print("| part | time | share |")
    print("|---|---|---|")
    for name, part in parts.items():
        print(f"| {name} | {1e3 * part:.2f} ms | {part / seconds['update']:.2f} |")
    print(f"| an update | {1e3 * seconds['update']:.2f} ms | 1.00 |")
    limit = operations(*SIZES) / peak(threads=1)
    print(f"\nThe operations at NumPy's best rate: {1e3 * limit:.2f} ms")


if __name__ == "__main__":
    main()
