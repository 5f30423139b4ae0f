"""Where an update spends its time.

    python benchmarks/parts.py [--rounds N] [CELL HIDDEN BATCH STEPS]

Of the book's job, unless another is named. One thread takes all of it: an update of the trainer,
its kernels, and the parts of the kernels, each alone on a group's arrays and as often as in the
update (but for what the first step does alone, which is among the rest). They take turns; a part
that holds a product is timed with it, and the product's time is then taken off. Prints medians and
shares, and the time that the operations would take at the best rate of NumPy's matrix product on
one thread, and at that of the processor's units that multiply and add.
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

from elman.core.model.weights import Architecture, initial
from elman.kernels.codegen.threads import begin, counter
from elman.kernels.codegen.tiles import align_stack
from elman.kernels.host.engine import Engine
from elman.kernels.host.weight_layout import zeros
from elman.kernels.rnn import head, layer
from elman.kernels.rnn.cells import backward_step, forward_step
from elman.kernels.rnn.layer import SPAN
from elman.kernels.rnn.packing import GROUP
from elman.numba import TimeMachine

BOOK = ("rnn", "32", "1024", "32")
SECONDS = 0.04  # of a turn of an update, more or less
WIDE = 128  # units: a product so wide leaves the units that multiply and add no pause


@njit
def products(S, times, left, W, bias, out):
    """The products of the steps, last to first, (steps, rows, any)."""
    for n in range(times):
        layer.product(S, left[-1 - n % len(left)], W, bias, out)


@njit
def add_weights(S, times, steps, d_gates, first, states, d_W):
    """The gradients of the state's weights."""
    for n in range(times):
        layer.add_weights_at(steps - n % steps, S, d_gates, first, states, d_W)


@njit
def forward(S, times, cell, table, ids, gates, hs, cs, W):
    """The steps of the cell."""
    for n in range(times):
        t = n % ids.shape[1]
        step = gates[t % len(gates)]
        forward_step(
            cell, S, table, ids, t, step, hs[t], cs[t], hs[t + 1], cs[t + 1], W, W.shape[1]
        )


@njit
def backward(S, times, cell, steps, gates, hs, cs, later, W, d_out, d_h, d_c, d_gates):
    """The steps of the cell, backward."""
    align_stack()
    for n in range(times):
        t = steps - 1 - n % steps
        step, depth = gates[t % len(gates)], W.shape[1]
        after = hs[t + 1], cs[t + 1]
        backward_step(
            cell, S, step, hs[t], cs[t], *after, later, W, depth, d_out, d_h, d_c, d_gates
        )


@njit
def add_rows(S, times, d_gates, ids, d_table):
    """The gradients of the rows of the table."""
    for n in range(times):
        layer.backward_to_ids(S, d_gates, ids, n % ids.shape[1], d_table)


@njit
def turn_states(T, times, hs, across_h):
    """The states as the output layer takes them."""
    align_stack()
    for n in range(times):
        head.turn(T, hs[-1 - n % len(hs)], across_h)


@njit
def output(T, times, W, bias, across_h, logits):
    """The product of the output layer."""
    align_stack()
    for _ in range(times):
        head.product(T, W, bias, across_h, logits)


@njit
def softmax(T, times, targets, scales, logits):
    """The loss and the gradient of logits."""
    align_stack()
    for _ in range(times):
        head.softmax(T, logits, targets)
        head.softmax_back(T, targets, scales, logits)


@njit
def output_back(S, times, d_logits, W, d_h):
    """The product of the output layer, backward."""
    align_stack()
    for _ in range(times):
        head.product_back(S, d_logits, W, d_h)


@njit
def add_output_gradients(T, times, d_logits, states, d_W, d_bias):
    """The gradients of the output layer's weight and bias, of some steps at a time."""
    align_stack()
    for _ in range(times):
        head.add_gradients_at(0, T, d_logits, states, d_W, d_bias)


def works(cell: str, hidden: int, batch: int, steps: int) -> dict[str, Callable[[], Any]]:
    """An update, its kernels, and their parts."""
    arch = Architecture(cell, VOCAB, hidden)
    kernels = Engine(arch)
    kernels.load(initial(arch))
    ids, targets = pair = a_batch(batch, steps, TimeMachine.id_type)
    kernels.loss(ids, targets, (), [], learn=True)
    S, T, kind = kernels.shape, kernels.head_shape, kernels.cell
    packed, work, slots = kernels.packed, kernels.work, kernels.slots
    hs, cs, gates, rows = work.hs[0, 0], work.cs[0, 0], work.gates[0, 0], work.d_gates[0]
    W, W_back, d_out = packed.state[0], packed.state_back[0], work.d_out[0, 0]
    across_h, spans, aims = work.across_h[0], work.logits[0], work.targets[0, :1]
    logits, scales, bias = spans[:, :GROUP], work.scales[0], packed.linear_bias
    d_linear, d_bias = slots.linear[0], slots.by_sequence[0]
    ids, times = work.ids[0], batch // GROUP * steps
    made = zeros(GROUP, len(W) * S.width)
    none, first = zeros(1, made.shape[1]), packed.table.shape[1] - made.shape[1]
    later, d_h, d_c = rows[:, :, first:], work.d_h[0], work.d_c[0]

    def all_kernels() -> Any:
        begin(kernels.board)
        kernels.run(*kernels.arguments, 0, counter(1))
        return pair  # the ids and targets, which the batch only points to

    return {
        "update": engine(cell, hidden, batch, steps),
        "kernels": all_kernels,
        "forward product": lambda: products(S, times, hs[:steps], W, none, made),
        "output": lambda: output(T, times, packed.linear_rows, bias, across_h, logits),
        "output back": lambda: output_back(S, times, logits, packed.linear_rows, d_out),
        "backward product": lambda: products(S, times, later, W_back, packed.none, d_out),
        "output weights": lambda: add_output_gradients(
            T, times // SPAN, spans, hs, d_linear, d_bias
        ),
        "weights": lambda: add_weights(S, times, steps, rows, first, hs, slots.state[0, 0]),
        "forward": lambda: forward(S, times, kind, packed.table, ids, gates, hs, cs, W),
        "backward": lambda: backward(
            S, times, kind, steps, gates, hs, cs, later[0], W_back, d_out, d_h, d_c, rows[1]
        ),
        "softmax": lambda: softmax(T, times, aims, scales, logits),
        "turn": lambda: turn_states(T, times, hs[1:], across_h),
        "rows": lambda: add_rows(S, times, rows[1], ids, slots.table[0]),
    }


def fastest() -> float:
    """The most operations in a second of a product of the engine, whose operands lie ready."""
    S, times = Engine(Architecture("rnn", 1, 1)).shape, 200
    left, W = zeros(1, GROUP, WIDE + layer.SPARE), zeros(WIDE // S.width, WIDE, S.width)
    out, none = zeros(GROUP, WIDE), zeros(1, WIDE)
    seconds = in_turns({"product": lambda: products(S, times, left, W, none, out)}, 100)
    return 2 * times * GROUP * WIDE**2 / seconds["product"]


def repeated(work: Callable[[], Any], times: int) -> None:
    """Some times the same, as in a training."""
    for _ in range(times):
        work()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("sizes", nargs="*")
    asked = parser.parse_args()
    cell, *numbers = asked.sizes or BOOK
    sizes = cell, _, batch, steps = (cell, *map(int, numbers))
    if batch % GROUP or steps % SPAN:
        parser.error(f"a batch has whole groups of {GROUP} and whole spans of {SPAN} steps")
    needed = operations(*sizes)
    at_fastest = needed / fastest()
    times = max(1, round(SECONDS / at_fastest))
    turns = {name: partial(repeated, work, times) for name, work in works(*sizes).items()}
    seconds = {n: t / times for n, t in in_turns(turns, asked.rounds).items()}
    with_product = [name for name in seconds if "product" in name or "weights" in name]
    parts = {
        "products": sum(seconds[name] for name in [*with_product, "output", "output back"]),
        "the cell forward, but for its product": seconds["forward"] - seconds["forward product"],
        "the cell backward, but for its product": seconds["backward"] - seconds["backward product"],
        "turning states": seconds["turn"],
        "softmax, loss, their gradients": seconds["softmax"],
        "adding to rows of the table": seconds["rows"],
    }
    parts["the rest of the kernels"] = seconds["kernels"] - sum(parts.values())
    parts["outside the kernels"] = seconds["update"] - seconds["kernels"]
    print("| part | time | share |")
    print("|---|---|---|")
    for name, part in parts.items():
        print(f"| {name} | {1e3 * part:.2f} ms | {part / seconds['update']:.2f} |")
    print(f"| an update | {1e3 * seconds['update']:.2f} ms | 1.00 |")
    print(f"\nThe operations at NumPy's best rate: {1e3 * needed / peak(threads=1):.2f} ms")
    print(f"at the rate of the units that multiply and add: {1e3 * at_fastest:.2f} ms")


if __name__ == "__main__":
    main()
