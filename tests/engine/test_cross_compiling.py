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
from tests.emulation.cross_compiling import compile_outside, pytest_configure

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


def test_a_kernel_that_is_not_in_the_cache_is_compiled_outside(
    cache: _Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Cache, "load_overload", _Cache.load_overload)
    pytest_configure()
    assert not list(cache.folder.iterdir())
    queue = empty_queue()
    queue.next[0] = 7
    loaded = cache.load_overload((numba.typeof(queue),), cpu_target.target_context)
    loaded.entry_point(queue)
    assert queue.next[0] == 0


def test_a_compiler_with_other_versions_is_a_message(
    cache: _Cache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cross_compiling, "versions", lambda: ("3.13", "0.1", "0.1", "0.1"))
    assert not compile_outside(cache.name, (numba.typeof(empty_queue()),))
    assert "versions differ" in capsys.readouterr().err


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


def test_a_kernel_that_does_not_exist_is_a_message(
    cache: _Cache, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not compile_outside("none", ())
    assert "none is not compiled outside" in capsys.readouterr().err
