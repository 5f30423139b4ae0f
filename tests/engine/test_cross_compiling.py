"""Kernels that another process compiles into the cache, for this processor and for others."""

import os
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba
import pytest
from numba.core.registry import cpu_target

from elman.kernels.codegen.cache import _Cache, read
from elman.kernels.codegen.work_queue import empty_queue, open_queue
from tests.emulation import arm, cross_compiling
from tests.emulation.cross_compiling import compile_outside

ELF_MACHINE = slice(18, 20)  # bytes of a file's header
AARCH64 = 183


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Cache:
    """An empty cache of a small kernel, which other processes share."""
    (tmp_path / "kernels").mkdir(mode=0o700)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv(arm.COMPILER, sys.executable)
    monkeypatch.setenv(arm.SOURCES, os.pathsep.join(sys.path))
    return _Cache(open_queue.py_func, tmp_path / "kernels")


def test_a_kernel_for_this_processor_runs(cache: _Cache) -> None:
    queue = empty_queue()
    queue.next[0] = 7
    signature = (numba.typeof(queue),)
    assert compile_outside(cache.name, signature)
    cache.load_overload(signature, cpu_target.target_context).entry_point(queue)
    assert queue.next[0] == 0


def test_a_kernel_for_an_arm_processor_has_its_machine_code(
    cache: _Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm: dict[str, Any] = {
        "get_process_triple": lambda: "aarch64-unknown-linux-gnu",
        "get_host_cpu_name": lambda: "cortex-a72",
        "get_host_cpu_features": lambda: {"neon": True, "fp-armv8": True},
    }
    monkeypatch.setattr(cross_compiling, "llvm", SimpleNamespace(**arm))
    assert compile_outside(cache.name, (numba.typeof(empty_queue()),))
    (path,) = cache.folder.iterdir()
    (*_, (triple, processor, _)), ((_, _, (code, _)), *_) = pickle.loads(read(path))
    assert (triple, processor) == ("aarch64-unknown-linux-gnu", "cortex-a72")
    assert int.from_bytes(code[ELF_MACHINE], "little") == AARCH64
