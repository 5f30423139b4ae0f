"""Kernels are compiled as a whole, and take named tuples of arrays by their address."""

import gc
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numba import njit, typeof

from elman.kernels.codegen.cache import address_of, call_part, kernel
from elman.kernels.codegen.linking import inner
from elman.kernels.codegen.references import Reference


@inner
def plus_one(x: Any) -> Any:
    return x + 1


@inner
def twice_plus_one(x: Any) -> Any:
    return 2 * plus_one(x)


def test_compiled_functions_of_any_kind_call_inner_functions() -> None:
    for decorate in (njit, kernel):
        assert decorate(lambda x: twice_plus_one(x) + plus_one(x))(20) == 63


@kernel
def add_part(phase: Any, part: Any, thread: Any, shapes: Any, cell: Any, arrays: Any) -> None:
    arrays[part] += phase[0] * thread + len(shapes) + cell[0]


@kernel
def add_all(address: Any, phases: Any, arrays: Any) -> None:
    for part in range(len(phases)):
        call_part(address, phases[part], part, 10, (1, 2), (0.5,), arrays)


def test_a_compiled_function_calls_another_by_its_address() -> None:
    phases, arrays = np.arange(6).reshape(3, 2), np.array([1.0, 2.0, 3.0])
    address = address_of(add_part, phases[0], 0, 0, (1, 2), (0.5,), arrays)
    assert address == address_of(add_part, phases[1], 1, 2, (3, 4), (1.5,), arrays)
    add_all(address, phases, arrays)
    np.testing.assert_array_equal(arrays, [3.5, 24.5, 45.5])


def test_an_inner_function_is_compiled_once_for_literals_and_numbers() -> None:
    @inner
    def times(x: Any, y: Any) -> Any:
        return x * y

    @njit  # compiled anew, whatever the cache of kernels has
    def of_both(x: Any) -> Any:
        return times(x, 3) + times(2, x) + times(x, x)

    assert of_both(5) == 15 + 10 + 25
    assert len(times.overloads) == 1


def test_compiled_ranges_are_those_of_python() -> None:
    @kernel
    def visit(bounds: Any, out: Any) -> Any:
        number, (first, stop, step) = 0, bounds
        for n in range(stop):
            out[number], number = n, number + 1
        for n in range(first, stop):
            out[number], number = n, number + 1
        for n in range(first, stop, step):
            out[number], number = n, number + 1
        for n in range(stop, first, -2):
            out[number], number = n, number + 1
        return number

    out = np.zeros(200, np.int64)
    for first, stop, step in product((-3, 0, 4), (-4, 0, 1, 5, 12), (1, 2, 5)):
        ranges = range(stop), range(first, stop), range(first, stop, step), range(stop, first, -2)
        number = visit((first, stop, step), out)
        assert out[:number].tolist() == [n for one in ranges for n in one]


def test_python_cannot_call_an_inner_function_before_or_after_it_is_compiled() -> None:
    @inner
    def half(x: Any) -> Any:
        return x / 2

    for _ in range(2):
        with pytest.raises(TypeError, match="only compiled functions can call this function"):
            half(8)
        assert njit(lambda x: half(x))(8) == 4


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_collected_after_compiling_as_before(enabled: bool) -> None:
    def change() -> None:
        (gc.enable if enabled else gc.disable)()

    before = gc.isenabled()
    change()
    try:
        assert kernel(lambda x: 3 * x)(2) == 6
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()


WITHOUT = """
from elman.kernels import numba
from numba.core import codegen

codegen.JITCodeLibrary = type("Library", (), {})  # without the methods that are replaced
from elman.kernels.codegen.cache import kernel
from elman.kernels.codegen.linking import INNER, OPTIONS, inner

@inner
def double(x):
    return 2 * x

assert INNER is OPTIONS
print(kernel(lambda x: double(x))(21))
"""


def test_a_numba_that_cannot_compile_as_a_whole_compiles_function_by_function(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kept")},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr


class Part(NamedTuple):
    values: Any
    number: int


class Whole(NamedTuple):
    first: Any
    part: Part
    last: Any


class Many(NamedTuple):
    parts: list[Part]


def whole() -> Whole:
    first = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    return Whole(first, Part(np.arange(5), 7), np.arange(12, dtype=np.int32).reshape(3, 4)[:, :2])


def test_a_kernel_reads_each_field_where_it_is() -> None:
    @kernel
    def read(x: Any, out: Any) -> None:
        out[0], out[1], out[2] = x.first[1, 2, 3], x.part.values[4], x.last[2, 1]
        out[3], out[4], out[5] = x.part.number, x.last.shape[1], x.first.shape[0]
        x.first[0, 1, 2] = 99

    values, out = whole(), np.zeros(6, np.int64)
    read(Reference(values), out)
    assert out.tolist() == [23, 4, 9, 7, 2, 2]
    assert values.first[0, 1, 2] == 99


def test_a_kernel_reads_each_tuple_of_a_list() -> None:
    @inner
    def total(part: Any) -> Any:
        return part.values[1] + part.values.shape[0] + part.number

    @kernel
    def read(x: Any, n: Any) -> Any:
        return total(x.parts[n]), x.parts[1].number

    many = Many([Part(np.arange(n, 2 * n), 10 * n) for n in (2, 3, 5)])
    assert [read(Reference(many), n) for n in range(3)] == [(3 + 2 + 20, 30), (37, 30), (61, 30)]


def test_the_tuples_of_a_list_are_of_one_type() -> None:
    with pytest.raises(ValueError, match="one type"):
        typeof(Reference(Many([Part(np.zeros(3), 1), Part(np.zeros(3, int), 1)])))


def test_the_type_of_a_reference_tells_no_layout() -> None:
    row, column = np.zeros((1, 4)), np.zeros((4, 2))[:, :1]
    assert typeof(Reference(Part(row, 1))) == typeof(Reference(Part(column, 1)))
