"""Kernels for ARM processors, compiled on another machine: their code, not their results."""

from types import SimpleNamespace
from typing import Any

import pytest

from elman.kernels.codegen import processor
from elman.kernels.codegen.processor import (
    ARM_WITH_BFLOAT16,
    host_shape,
    instructions,
    multiplies_pairs,
)
from elman.kernels.codegen.tile_types import TileShape
from elman.numba import fastest_precision
from tests.emulation.inner_loops import (
    PAIRS,
    REGISTERS,
    inner_loop,
)

NEON = TileShape(8, 2, 4)


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make LLVM name an ARM processor."""

    def named(name: str) -> None:
        found = SimpleNamespace(
            get_default_triple=lambda: "aarch64-unknown-linux-gnu",
            get_host_cpu_name=lambda: name,
        )
        monkeypatch.setattr(processor, "llvm", found)
        monkeypatch.setattr(processor, "get_host_cpu_features", lambda: "+neon,+fp-armv8")
        monkeypatch.setattr(processor.numba.config, "CPU_FEATURES", None)
        monkeypatch.setattr(processor.numba.config, "CPU_NAME", None)

    return named


def test_an_arm_processor_has_tiles_for_its_32_registers(arm: Any) -> None:
    arm("cortex-a72")
    assert host_shape() == NEON
    assert instructions() == "NEON"
    sums, loads, factor = NEON.rows * NEON.vectors, NEON.vectors, 1
    assert sums + loads + factor <= REGISTERS


@pytest.mark.parametrize(
    ("name", "has"),
    [*((name, True) for name in sorted(ARM_WITH_BFLOAT16)), ("apple-m1", False)],
)
def test_bfloat16_is_used_where_the_processor_has_it(arm: Any, name: str, has: bool) -> None:
    arm(name)
    assert multiplies_pairs(4) == has
    assert not multiplies_pairs(16)
    assert instructions() == ("NEON with bfloat16" if has else "NEON")
    assert fastest_precision() == "single"  # an instruction multiplies one half of the pairs


@pytest.mark.parametrize("name", sorted(ARM_WITH_BFLOAT16))
def test_pairs_are_multiplied_by_instructions_for_bfloat16(name: str) -> None:
    code = inner_loop(NEON, PAIRS, name, native=True)
    names = [line.split()[0] for line in code]
    assert names.count("bfmlalt") == names.count("bfmlalb") == NEON.rows * NEON.vectors
    assert "fmla" not in names
