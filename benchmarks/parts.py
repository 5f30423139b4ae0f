"""Time that each part of an update takes.

    python benchmarks/parts.py [--rounds N] [CELL HIDDEN BATCH STEPS]

The model is that of the book's training, unless another is named. A single thread does all of it:
an update of the trainer, its kernels, and the parts of the kernels, each alone on a group's arrays
and as often as in the update (the first step's special treatment is among the rest). They take
turns. A part that contains a product is timed with it, and the product's time is then subtracted.
Prints medians and shares, and the time that the operations would take at the best rate of NumPy's
matrix product on one thread, and at that of the processor's multiply-add units.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ["NUMBA_NUM_THREADS"] = "1"  # before Numba is imported

from limits import Job, peak
from numba import njit
from scaling import in_turns
from updates import a_batch, engine

from elman.core.model.weights import Architecture, initial
from elman.kernels.codegen.tile_builder import align_stack
from elman.kernels.codegen.work_queue import counter, open_queue
from elman.kernels.host.arrays import DropoutMasks
from elman.kernels.host.engine import Engine
from elman.kernels.host.weight_layout import zeros
from elman.kernels.rnn import head, layer
from elman.kernels.rnn.cells import StateGradients, backward_step, forward_step
from elman.kernels.rnn.layer import SPAN, Activations
from elman.kernels.rnn.packing import GROUP
from elman.numba import TimeMachine

BOOK = ("rnn", "32", "1024", "32")
SECONDS = 0.04  # of an update's turn, approximately
WIDE = 128  # units: a product so wide keeps the multiply-add units busy


@njit
def products(S, times, left, W, bias, out):
    """The products of the steps, last to first, (steps, rows, any)."""
    for n in range(times):
        layer.product(S, left[-1 - n % len(left)], W, bias, out)


@njit
def add_weights(S, times, steps, ring, column, states, d_W):
    """The gradients of W_hh."""
    for n in range(times):
        layer.add_weight_gradient(steps - n % steps, S, ring, column, states, d_W)


@njit
def forward(S, times, cell, table, ids, activations, W):
    """The steps of the cell."""
    for n in range(times):
        t = n % ids.shape[1]
        forward_step(cell, S, table, ids, t, layer.at_step(activations, t), W, W.shape[1])


@njit
def backward(S, times, cell, steps, activations, later, W, d_state, d_gates):
    """The steps of the cell, backward."""
    align_stack()
    for n in range(times):
        step = layer.at_step(activations, steps - 1 - n % steps)
        backward_step(cell, S, step, later, W, W.shape[1], d_state, d_gates)


@njit
def add_rows(S, times, d_gates, ids, d_table):
    """The gradients of the rows of the table."""
    for n in range(times):
        layer.backward_to_ids(S, d_gates, ids, n % ids.shape[1], d_table)


@njit
def transpose(T, times, h, h_T):
    """The states as the output layer takes them."""
    align_stack()
    for n in range(times):
        head.transpose(T, h[-1 - n % len(h)], h_T)


@njit
def output(T, times, W, bias, h_T, logits):
    """The product of the output layer."""
    align_stack()
    for _ in range(times):
        head.product(T, W, bias, h_T, logits)


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
def add_output_gradients(T, times, d_logits, h, d_W, d_bias):
    """The gradients of the output layer's weight and bias, of a span of steps at a time."""
    align_stack()
    for _ in range(times):
        head.add_weight_gradients(0, T, d_logits, h, d_W, d_bias)


def works(job: Job) -> dict[str, Callable[[], Any]]:
    """An update, its kernels, and their parts, by name."""
    kernels, steps = Engine(job.arch), job.steps
    kernels.load(initial(job.arch))
    ids, targets = pair = a_batch(job, TimeMachine.id_type)
    kernels.loss(ids, targets, (), DropoutMasks(), training=True)
    S, T, kind = kernels.shape, kernels.head_shape, kernels.cell
    packed, work, sums = kernels.packed, kernels.work, kernels.accumulators
    gates, h, c = (array[0, 0] for array in work.activations)
    activations, ring = Activations(gates, h, c), work.d_gates[0]
    W, W_back, d_out = packed.W_hh[0], packed.W_hh_back[0], work.d_out[0, 0]
    h_T, spans, aims = work.h_T[0], work.logits[0], work.targets[0, :1]
    logits, scales, bias = spans[:, :GROUP], work.scales[0], packed.b_out
    d_W_out, d_b_out = sums.W_out[0], sums.b_out_by_sequence[0]
    ids, times, column = work.ids[0], job.batch // GROUP * steps, packed.recurrent
    made = zeros(GROUP, len(W) * S.width)
    no_bias, d_state = zeros(1, made.shape[1]), StateGradients(d_out, work.d_h[0], work.d_c[0])
    later = ring[:, :, column:]

    def all_kernels() -> Any:
        open_queue(kernels.queue)
        kernels.run(*kernels.arguments, 0, counter(1))
        return pair  # the ids and targets, which the batch only points to

    products_with_state = {
        "forward product": lambda: products(S, times, h[:steps], W, no_bias, made),
        "backward product": lambda: products(S, times, later, W_back, packed.zeros, d_out),
        "weights": lambda: add_weights(S, times, steps, ring, column, h, sums.W_hh[0, 0]),
    }
    return {
        "update": engine(job),
        "kernels": all_kernels,
        **(products_with_state if kind.recurrent_blocks else {}),
        "output": lambda: output(T, times, packed.W_out, bias, h_T, logits),
        "output back": lambda: output_back(S, times, logits, packed.W_out, d_out),
        "output weights": lambda: add_output_gradients(
            T, times // SPAN, spans, h, d_W_out, d_b_out
        ),
        "forward": lambda: forward(S, times, kind, packed.table, ids, activations, W),
        "backward": lambda: backward(
            S, times, kind, steps, activations, later[0], W_back, d_state, ring[1]
        ),
        "softmax": lambda: softmax(T, times, aims, scales, logits),
        "transpose": lambda: transpose(T, times, h[1:], h_T),
        "rows": lambda: add_rows(S, times, ring[1], ids, sums.table[0]),
    }


def fastest() -> float:
    """Operations in a second of the engine's product whose operands are in the cache."""
    S, times = Engine(Architecture("rnn", 1, 1)).shape, 200
    left, W = zeros(1, GROUP, WIDE + layer.SPARE), zeros(WIDE // S.width, WIDE, S.width)
    out, none = zeros(GROUP, WIDE), zeros(1, WIDE)
    seconds = in_turns({"product": lambda: products(S, times, left, W, none, out)}, 100)
    return 2 * times * GROUP * WIDE**2 / seconds["product"]


def repeated(work: Callable[[], Any], times: int) -> None:
    """Do the same work some times, as in a training."""
    for _ in range(times):
        work()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("sizes", nargs="*")
    asked = parser.parse_args()
    cell, *numbers = asked.sizes or BOOK
    job = Job(cell, *map(int, numbers))
    if job.batch % GROUP or job.steps % SPAN:
        parser.error(f"a batch has whole groups of {GROUP} and whole spans of {SPAN} steps")
    needed = job.operations
    at_fastest = needed / fastest()
    times = max(1, round(SECONDS / at_fastest))
    turns = {name: partial(repeated, work, times) for name, work in works(job).items()}
    seconds = {n: t / times for n, t in in_turns(turns, asked.rounds).items()}
    with_product = [name for name in seconds if "product" in name or "weights" in name]
    parts = {
        "products": sum(seconds[name] for name in [*with_product, "output", "output back"]),
        "the cell forward, but for its product": seconds["forward"]
        - seconds.get("forward product", 0),
        "the cell backward, but for its product": seconds["backward"]
        - seconds.get("backward product", 0),
        "transposing states": seconds["transpose"],
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
