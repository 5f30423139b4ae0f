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

from limits import VOCAB, operations, peak
from numba import njit
from scaling import in_turns
from sizes import a_batch, engine

from elman.core.weights import Architecture, initial
from elman.kernels import head, layer
from elman.kernels.cells import backward_step, forward_step
from elman.kernels.engine import Engine
from elman.kernels.layer import SPAN
from elman.kernels.packing import GROUP
from elman.kernels.threads import begin, counter

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
        layer.add_products_of_rows(S, SPAN * GROUP, left, right, out)


@njit
def forward(S, times, cell, table, ids, gates, h, h_to, W):
    """A step of the cell."""
    for n in range(times):
        forward_step(cell, S, table, ids, n % ids.shape[1], gates, h, h, h_to, h_to, W, W.shape[1])


@njit
def backward(S, times, cell, h, later, W, d_out, d_gates):
    """A step of the cell, backward."""
    for _ in range(times):
        backward_step(cell, S, h, h, h, h, h, later, W, W.shape[1], d_out, d_out, d_out, d_gates)


@njit
def add_rows(S, times, d_gates, ids, d_table):
    """The gradients of the rows of the table."""
    for n in range(times):
        layer.backward_to_ids(S, d_gates, ids, n % ids.shape[1], d_table)


@njit
def turn_states(T, times, h, across_h):
    """The states as the output layer takes them."""
    for _ in range(times):
        head.turn(T, h, across_h)


@njit
def output(T, times, W, bias, across_h, logits):
    """The product of the output layer."""
    for _ in range(times):
        head.product(T, W, bias, across_h, logits)


@njit
def softmax(T, times, targets, scales, logits, d_bias):
    """The loss and the gradient of logits."""
    for _ in range(times):
        head.softmax(T, logits, targets)
        head.softmax_back(T, targets, scales, logits, d_bias)


@njit
def output_back(S, times, d_logits, W, d_h):
    """The product of the output layer, backward."""
    for _ in range(times):
        head.product_back(S, d_logits, W, d_h)


@njit
def add_output_weights(T, times, d_logits, states, d_W):
    """The gradient of the output layer's weight, of some steps at a time."""
    for _ in range(times):
        head.add_weight_at(0, T, d_logits, states, d_W)


def works() -> dict[str, Callable[[], Any]]:
    """An update, its kernels, and their parts."""
    of = Architecture("rnn", VOCAB, HIDDEN)
    kernels = Engine(of)
    kernels.load(initial(of))
    ids, targets = pair = a_batch(BATCH, STEPS)
    kernels.loss(ids, targets, (), [], learn=True)
    S, T, cell = kernels.shape, kernels.head_shape, kernels.cell
    packed, work, slots = kernels.packed, kernels.work, kernels.slots
    states, gates, rows = work.hs[0, 0], work.gates[0, 0, 0], work.d_gates[0]
    h, h_to, later, d_gates = states[1], states[2], rows[1], rows[2]
    W, W_back, d_out = packed.state[0], packed.state_back[0], work.d_out[0, 0]
    across_h, spans, aims = work.across_h[0], work.logits[0], work.targets[0, :1]
    logits, scales, bias = spans[:, :GROUP], work.scales[0], packed.linear_bias
    d_linear, d_bias = slots.linear[0], slots.by_sequence[0]
    ids = ids[:GROUP]

    def all_kernels() -> Any:
        begin(kernels.board)
        kernels.run(*kernels.arguments, 0, counter(1))
        return pair  # the ids and targets, which the batch only points to

    return {
        "update": engine(*SIZES),
        "kernels": all_kernels,
        "forward product": lambda: product(S, TIMES, h, W, packed.none, d_out),
        "output": lambda: output(T, TIMES, packed.linear_rows, bias, across_h, logits),
        "output back": lambda: output_back(S, TIMES, logits, packed.linear_rows, d_out),
        "backward product": lambda: product(S, TIMES, later, W_back, packed.none, d_out),
        "output weights": lambda: add_output_weights(T, TIMES // SPAN, spans, states, d_linear),
        "weights": lambda: add_weights(S, TIMES // SPAN, rows[0], states[0], slots.state[0, 0]),
        "forward": lambda: forward(S, TIMES, cell, packed.table, ids, gates, h, h_to, W),
        "backward": lambda: backward(S, TIMES, cell, h, later, W_back, d_out, d_gates),
        "softmax": lambda: softmax(T, TIMES, aims, scales, logits, d_bias),
        "turn": lambda: turn_states(T, TIMES, h, across_h),
        "rows": lambda: add_rows(S, TIMES, d_gates, ids, slots.table[0]),
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
    products = [name for name in seconds if "product" in name or "weights" in name]
    parts = {
        "products": sum(seconds[name] for name in [*products, "output", "output back"]),
        "looking up rows of the table, tanh": seconds["forward"] - seconds["forward product"],
        "turning states": seconds["turn"],
        "softmax, loss, their gradients": seconds["softmax"],
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
