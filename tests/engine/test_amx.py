"""Products in AMX's tile registers are compiled; a machine without AMX can only read the code."""

import pytest
from numba import types
from numba.core.errors import TypingError

from elman.kernels.codegen import amx
from elman.kernels.codegen.amx import add_product, permitted
from elman.kernels.codegen.tile_types import at
from tests.emulation.assembly import assembly, loops, unoptimized

FLOATS, PAIRS = types.Array(types.float32, 2, "C"), types.Array(types.uint32, 2, "C")


def block(sums, left, right, depth):  # type: ignore[no-untyped-def]
    add_product(at(sums, 0, 0), at(left, 0, 0), at(right, 0, 0), depth)


def test_a_product_takes_all_eight_registers_and_configures_them_once() -> None:
    arguments = FLOATS, PAIRS, PAIRS, types.intp
    code = assembly(block, arguments, "x86_64-unknown-linux-gnu", "sapphirerapids")
    assert code.count("ldtilecfg") == 1
    assert code.index("ldtilecfg") < code.index("tileloadd")
    assert all(f"%tmm{number}" in code for number in range(8))
    (loop,) = (loop for loop in loops(code) if "tdpbf16ps" in " ".join(loop))
    names = [line.split()[0] for line in loop]
    # Four products for each four loads, and no register is moved to memory.
    assert names.count("tdpbf16ps") == names.count("tileloadd") > 0
    assert "tilestored" not in names
    assert code.count("tilestored") == 4


def test_a_product_adds_pairs_to_floats() -> None:
    with pytest.raises(TypingError, match="AMX adds pairs to floats, got float32 and float32"):
        unoptimized(block, (FLOATS, FLOATS, FLOATS, types.intp))


def test_a_refused_permission_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert permitted() in (False, True)
    monkeypatch.setattr(amx.sys, "platform", "darwin")
    assert not permitted()
