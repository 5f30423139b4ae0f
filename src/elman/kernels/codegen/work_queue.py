"""Work queue of a batch: counters that threads read and change atomically in compiled code."""

import ctypes
import os
from typing import Any, NamedTuple

import numpy as np
from llvmlite import binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from elman.kernels.codegen.cache import kernel
from elman.kernels.codegen.linking import inner

Counter = NDArray[np.int64]  # (1,)

SPIN_LIMIT = 1 << 22  # polls of the queue before a worker sleeps: about a millisecond
SPINS_BEFORE_YIELD = 1 << 14  # polls before a waiting thread yields its core

# Values of a worker's counter `spinning`. It is 0 while the worker sleeps.
SPINNING, CALLED_AWAY = 1, 2  # waiting on a queue for its next batch; called to another queue


class WorkQueue(NamedTuple):
    """Progress of a batch: index of the next part to take, and number of finished parts."""

    next: Counter
    finished: Counter


def counter(value: int) -> Counter:
    """Counter with an initial value, in a separate cache line."""
    return np.full(24, value, np.int64)[8:9]


def empty_queue() -> WorkQueue:
    """Work queue without a batch: all parts are taken and finished."""
    return WorkQueue(counter(1 << 62), counter(1 << 62))


if os.name == "nt":
    _yield: Any = ctypes.windll.kernel32.SwitchToThread  # type: ignore[attr-defined]
else:
    _yield = ctypes.CDLL(None).sched_yield
llvm.add_symbol("elman_yield", ctypes.cast(_yield, ctypes.c_void_p).value)


def _address(context: Any, builder: Any, kind: Any, counter: Any) -> Any:
    return context.make_array(kind)(context, builder, counter).data


@intrinsic
def atomic_load(context: Any, counter: Any) -> Any:
    """Current value of a counter."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        address = _address(context, builder, sig.args[0], arguments[0])
        return builder.load_atomic(address, "seq_cst", 8)

    return types.int64(counter), generate


@intrinsic
def atomic_store(context: Any, counter: Any, value: Any) -> Any:
    """Set a counter; a thread that reads the value also sees everything written before it."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        address = _address(context, builder, sig.args[0], arguments[0])
        builder.store_atomic(arguments[1], address, "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(counter, types.int64), generate


@intrinsic
def fetch_add(context: Any, counter: Any) -> Any:
    """Atomically increment a counter and return the previous value."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        address = _address(context, builder, sig.args[0], arguments[0])
        return builder.atomic_rmw("add", address, ir.IntType(64)(1), "seq_cst")

    return types.int64(counter), generate


@intrinsic
def load_int32(context: Any, address: Any, n: Any) -> Any:
    """Integer n of an array of 32-bit integers at an address."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        first = builder.inttoptr(arguments[0], ir.IntType(32).as_pointer())
        number = builder.load(builder.gep(first, [arguments[1]]), align=1)
        return builder.sext(number, ir.IntType(64))

    return types.int64(types.int64, types.int64), generate


@intrinsic
def yield_core(context: Any) -> Any:
    """Let another thread that waits for a core run, if there is one."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "elman_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate


@kernel
def open_queue(queue):
    """Offer the parts of a batch to all threads."""
    atomic_store(queue.finished, 0)
    atomic_store(queue.next, 0)


@inner
def wait_until_finished(queue, parts):
    """Spin until the first `parts` parts of the batch are finished."""
    spins = 0
    while atomic_load(queue.finished) < parts:
        spins += 1
        if spins % SPINS_BEFORE_YIELD == 0:
            yield_core()


@inner
def spin_for_batch(queue, parts, spinning):
    """Spin until the next batch has parts to take: True. After `SPIN_LIMIT` polls: False.

    Return False at once if `spinning`, a counter, is CALLED_AWAY. On False, the counter is 0. The
    opener of a batch reads `spinning` after opening the queue; here, the last poll of the queue
    comes after clearing `spinning`. At least one of the two therefore sees the other's write.
    """
    for spins in range(SPIN_LIMIT):
        if atomic_load(queue.next) < parts:
            return True
        if atomic_load(spinning) == CALLED_AWAY:
            break
        if spins % SPINS_BEFORE_YIELD == 0:
            yield_core()
    before = atomic_load(spinning)
    atomic_store(spinning, 0)
    if atomic_load(queue.next) < parts:
        atomic_store(spinning, before)
        return True
    return False
