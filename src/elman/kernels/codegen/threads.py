"""The threads among which a batch is divided.

An update of the book's model lasts a millisecond, and a thread that sleeps takes a tenth of that to
wake and to have its data in the cache again. So one that has helped with a batch looks out for the
next for a while, in compiled code, before it sleeps.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

import numpy as np
from llvmlite import binding as llvm
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils, config
from numba.extending import intrinsic
from numpy.typing import NDArray

from elman.kernels.codegen.cache import kernel

Counter = NDArray[np.int64]  # (1,)
Work = Callable[[int, Counter], None]

LOOKS = 1 << 22  # that a helper takes before it sleeps: a millisecond, more or less
LOOKS_AT_ONCE = 1 << 14  # before a thread that waits lets others run that have no core


class Board(NamedTuple):
    """Progress of a batch: threads take the next of its parts, and count those that have ended."""

    next: Counter
    ended: Counter


def counter(value: int) -> Counter:
    """A counter that begins at a value, in a line of the cache that has nothing else."""
    return np.full(24, value, np.int64)[8:9]


def new_board() -> Board:
    """A board all of whose parts are taken and ended."""
    return Board(counter(1 << 62), counter(1 << 62))


def number_of_threads(parts: int) -> int:
    """Among how many threads so many parts are divided: one a core, or NUMBA_NUM_THREADS."""
    return min(int(config.NUMBA_NUM_THREADS), parts)


if os.name == "nt":
    _give_way: Any = ctypes.windll.kernel32.SwitchToThread  # type: ignore[attr-defined]
else:
    _give_way = ctypes.CDLL(None).sched_yield
llvm.add_symbol("elman_give_way", ctypes.cast(_give_way, ctypes.c_void_p).value)


# In compiled code.


def _address(context: Any, builder: Any, kind: Any, counter: Any) -> Any:
    return context.make_array(kind)(context, builder, counter).data


@intrinsic
def value_of(context: Any, counter: Any) -> Any:
    """Value of a counter now."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        address = _address(context, builder, sig.args[0], arguments[0])
        return builder.load_atomic(address, "seq_cst", 8)

    return types.int64(counter), generate


@intrinsic
def set_to(context: Any, counter: Any, value: Any) -> Any:
    """Set a counter; who sees the value sees all that was written before."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        address = _address(context, builder, sig.args[0], arguments[0])
        builder.store_atomic(arguments[1], address, "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(counter, types.int64), generate


@intrinsic
def count(context: Any, counter: Any) -> Any:
    """Add 1 to a counter; what it held before, which no other thread gets."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        address = _address(context, builder, sig.args[0], arguments[0])
        return builder.atomic_rmw("add", address, ir.IntType(64)(1), "seq_cst")

    return types.int64(counter), generate


@intrinsic
def integer_at(context: Any, address: Any, n: Any) -> Any:
    """The n-th integer of 32 bits from an address on: of an array that the thread was not given."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        first = builder.inttoptr(arguments[0], ir.IntType(32).as_pointer())
        number = builder.load(builder.gep(first, [arguments[1]]), align=1)
        return builder.sext(number, ir.IntType(64))

    return types.int64(types.int64, types.int64), generate


@intrinsic
def give_way(context: Any) -> Any:
    """Let another thread run that has no core, if there is one."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "elman_give_way"), [])
        return context.get_dummy_value()

    return types.void(), generate


@kernel
def begin(board):
    """Lay out the parts of a batch for all threads."""
    set_to(board.ended, 0)
    set_to(board.next, 0)


@njit
def wait_for(board, parts):
    """Wait until so many parts are ended."""
    looks = 0
    while value_of(board.ended) < parts:
        looks += 1
        if looks % LOOKS_AT_ONCE == 0:
            give_way()


@njit
def another_comes(board, parts, awake):
    """True if a batch has parts to take within a while; else `awake` is 0.

    Who begins a batch looks at `awake` after it has laid out the parts, and here the last look at
    the parts comes after `awake` is set: one of the two sees the other.
    """
    for looks in range(LOOKS):
        if value_of(board.next) < parts:
            return True
        if looks % LOOKS_AT_ONCE == 0:
            give_way()
    set_to(awake, 0)
    if value_of(board.next) < parts:
        set_to(awake, 1)
        return True
    return False


# In Python.


class Helper:
    """A thread that helps with every batch of a board, until none has come for a while.

    A batch does not wait for it: what it does not take is done without it.
    """

    def __init__(self) -> None:
        self.calls: SimpleQueue[tuple[Work, int, Board]] = SimpleQueue()
        self.awake, self.board = counter(0), new_board()
        Thread(target=self._serve, name="elman", daemon=True).start()

    def call(self, work: Work, thread: int, board: Board) -> None:
        """Have it call `work(thread, awake)`, unless it still looks at this board."""
        looks = self.awake[0] and self.board is board
        if not looks and self.calls.empty():
            self.calls.put((work, thread, board))

    def _serve(self) -> None:
        while True:
            self._do(*self.calls.get())  # and keep no reference to it

    def _do(self, work: Work, thread: int, board: Board) -> None:
        self.board, self.awake[0] = board, 1
        work(thread, self.awake)


_helpers: list[Helper] = []


def in_threads(work: Work, threads: int, board: Board) -> None:
    """Begin a batch with `work(0, _)`, and `work(1, awake)` and so on in other threads to help."""
    _have_helpers(threads - 1)
    try:
        begin(board)
        for n, helper in enumerate(_helpers[: threads - 1], 1):
            helper.call(work, n, board)
        work(0, counter(1))
    except BaseException:  # after this no helper is at the arrays, unless a second Ctrl-C comes
        work(0, counter(1))
        raise


def _have_helpers(number: int) -> None:
    """Start threads until there are so many, or as many as the system lets us have."""
    while len(_helpers) < number:
        try:
            _helpers.append(Helper())
        except RuntimeError:  # no more can be started
            return


def for_each(work: Callable[[int], None], number: int) -> None:
    """Call `work(0)`, `work(1)` and so on, each in a thread, as far as these can be started."""
    left = iter(range(number))

    def some() -> None:
        for n in left:
            work(n)

    with ThreadPoolExecutor(number) as executor:
        others = []
        with suppress(RuntimeError):  # no more threads can be started
            for _ in range(number - 1):
                others.append(executor.submit(some))
        some()
        for other in others:
            other.result()


if hasattr(os, "register_at_fork"):  # a forked process has none of its parent's threads
    os.register_at_fork(after_in_child=_helpers.clear)
