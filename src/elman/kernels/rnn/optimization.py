"""Gradient clipping and optimizer steps, with one pass over memory for each weight.

Arrays are split into chunks of `CHUNK` floats. The work is split into parts, in three phases:

    measure     a part for each chunk: the sum of the gradient's squares
    factor      one part: the norm, and the factor that clips the gradient
    update      a part for each chunk: gradient times factor, the optimizer's memory, the weight

Threads take the parts in this order. A phase begins when the previous phase is finished. Chunks
depend only on sizes, and their sums are added in order, so that the number of threads does not
change a bit of the result. Sums are in float64: squares of float32 numbers do not overflow it.

Bytes read and written for each weight: 4 to measure, then 12 with SGD, 20 with momentum, 28 with
Adam. All rows of an embedding are read, also those without an id in the batch: momentum and Adam
move them, too.
"""

from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.kernels.codegen.cache import kernel
from elman.kernels.codegen.linking import inner
from elman.kernels.codegen.tensors import floats_at
from elman.kernels.codegen.work_queue import fetch_add, spin_for_batch, wait_until_finished

CHUNK = 1 << 15  # floats

# Rules. SCALE only changes gradients, NONE changes nothing, the others leave gradients unchanged.
NONE, SCALE, SGD, MOMENTUM, ADAM = range(5)

# Rows of `Job.addresses`.
GRADIENT, WEIGHT, FIRST, SECOND = range(4)

# Elements of `Job.header`: the rule; 1 if gradients are measured.
RULE, MEASURED = range(2)

# Elements of `Job.numbers`: the norm and the factor, both set by the kernel; the largest norm; and
# arguments of the rules.
NUMBERS = 10
NORM, FACTOR, BOUND, RATE, MOMENTUM_SHARE = range(5)
KEPT, MEAN_SHARE, SQUARE_SHARE, SQUARE_SCALE, EPSILON = range(5, NUMBERS)

# Same as NumPy, except that multiply-adds may be fused and sums may be in any order.
PRODUCTS = {"contract", "nsz"}
SUMS = {"contract", "nsz", "reassoc"}


class Job(NamedTuple):
    """Arrays, and the operation to apply to them."""

    header: NDArray[np.int64]  # (2,)
    numbers: NDArray[np.float64]  # (NUMBERS,)
    addresses: NDArray[np.int64]  # (4, arrays)
    sizes: NDArray[np.int64]  # (arrays,): floats
    factors: NDArray[np.float64]  # (arrays,): factors of the rate
    chunks: NDArray[np.int64]  # (chunks, 2): index of the array, first float
    sums: NDArray[np.float64]  # (chunks,): sums of squares


@inner(fastmath=SUMS)
def sum_of_squares(gradient):
    """Sum of the squares of floats, in float64."""
    total = 0.0
    for n in range(len(gradient)):
        total += np.float64(gradient[n]) * np.float64(gradient[n])
    return total


@inner
def scale(gradient, factor):
    """Multiply a gradient by a factor in place."""
    for n in range(len(gradient)):
        gradient[n] *= factor


@inner(fastmath=PRODUCTS)
def sgd(weight, gradient, factor, rate):
    """Take a step of SGD."""
    for n in range(len(weight)):
        weight[n] -= rate * (factor * gradient[n])


@inner(fastmath=PRODUCTS)
def sgd_with_momentum(weight, gradient, velocity, factor, rate, share):
    """Take a step of SGD with momentum. `share` of the velocity remains after a step."""
    for n in range(len(weight)):
        velocity[n] = share * velocity[n] + factor * gradient[n]
        weight[n] -= rate * velocity[n]


@inner(fastmath=PRODUCTS)
def adam(weight, gradient, mean, square, factor, rate, kept, shares, bias, epsilon):
    """Take a step of Adam or AdamW.

    - `rate`: learning rate divided by the bias of the mean.
    - `kept`: factor that weight decay applies to a weight; 1 without decay.
    - `shares`: contributions of the gradient and of its square to the new means.
    - `bias`: 1 / (bias of the mean of squares).
    """
    mean_share, square_share = shares
    for n in range(len(weight)):
        g = factor * gradient[n]
        mean[n] += mean_share * (g - mean[n])
        square[n] += square_share * (g * g - square[n])
        weight[n] = kept * weight[n] - rate * mean[n] / (sqrt(bias * square[n]) + epsilon)


@inner
def bounds(job, chunk):
    """Index of a chunk's array, the chunk's first float, and the float after its last."""
    array, start = job.chunks[chunk, 0], job.chunks[chunk, 1]
    return array, start, min(start + CHUNK, job.sizes[array])


@inner
def measure_chunk(job, chunk):
    """Sum the squares of a chunk's gradient, if gradients are measured."""
    array, start, stop = bounds(job, chunk)
    if job.header[MEASURED]:
        job.sums[chunk] = sum_of_squares(floats_at(job.addresses[GRADIENT, array], start, stop))


@inner
def find_factor(job):
    """Set the norm of all gradients, if it is measured, and the clipping factor.

    As in NumPy, a norm of NaN does not clip.
    """
    numbers, total = job.numbers, 0.0
    numbers[FACTOR] = 1
    if job.header[MEASURED]:
        for chunk in range(len(job.sums)):
            total += job.sums[chunk]
        numbers[NORM] = sqrt(total)
        if numbers[NORM] > numbers[BOUND]:
            numbers[FACTOR] = numbers[BOUND] / numbers[NORM]


@inner
def update_chunk(job, chunk):
    """Apply the rule to a chunk."""
    array, start, stop = bounds(job, chunk)
    rule, numbers, addresses = job.header[RULE], job.numbers, job.addresses
    factor = np.float32(numbers[FACTOR])
    rate = np.float32(numbers[RATE] * job.factors[array])
    weight = floats_at(addresses[WEIGHT, array], start, stop)
    gradient = floats_at(addresses[GRADIENT, array], start, stop)
    first = floats_at(addresses[FIRST, array], start, stop)
    second = floats_at(addresses[SECOND, array], start, stop)
    if rule == SCALE:
        if numbers[FACTOR] != 1:
            scale(gradient, factor)
    elif rule == SGD:
        sgd(weight, gradient, factor, rate)
    elif rule == MOMENTUM:
        share = np.float32(numbers[MOMENTUM_SHARE])
        sgd_with_momentum(weight, gradient, first, factor, rate, share)
    elif rule == ADAM:
        kept, epsilon = np.float32(numbers[KEPT]), np.float32(numbers[EPSILON])
        bias = np.float32(numbers[SQUARE_SCALE])
        shares = np.float32(numbers[MEAN_SHARE]), np.float32(numbers[SQUARE_SHARE])
        adam(weight, gradient, first, second, factor, rate, kept, shares, bias, epsilon)


@kernel
def run(job, queue, thread, spinning):
    """Work of a thread: take parts of the job until none are left.

    Thread 0 returns when all parts are finished. Other threads continue with the following jobs
    until no job arrives for a while. `spinning` is as in `spin_for_batch`.
    """
    chunks = len(job.sums)
    parts = chunks + 1 + chunks
    while True:
        part = fetch_add(queue.next)
        if part < chunks:
            measure_chunk(job, part)
        elif part == chunks:
            wait_until_finished(queue, chunks)
            find_factor(job)
        elif part < parts:
            wait_until_finished(queue, chunks + 1)
            update_chunk(job, part - chunks - 1)
        elif thread == 0:
            wait_until_finished(queue, parts)
            return
        elif spin_for_batch(queue, parts, spinning):
            continue
        else:
            return
        fetch_add(queue.finished)
