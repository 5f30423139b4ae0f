"""Products in AMX's tile registers are compiled; a machine without AMX can only read the code."""

from types import SimpleNamespace

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


@pytest.mark.parametrize(("answer", "may"), [(0, True), (-1, False)])
def test_linux_is_asked_for_the_registers_and_may_refuse_them(
    answer: int, may: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, ...]] = []

    def syscall(*words: int) -> int:
        asked.append(words)
        return answer

    monkeypatch.setattr(amx.sys, "platform", "linux")
    monkeypatch.setattr(amx.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(amx.ctypes, "CDLL", lambda name: SimpleNamespace(syscall=syscall))
    assert permitted() is may
    # arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), of Linux' Documentation/arch/x86/xstate
    assert asked == [(158, 0x1023, 18)]


def test_other_systems_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amx.sys, "platform", "darwin")
    monkeypatch.setattr(amx.ctypes, "CDLL", None)
    assert not permitted()
