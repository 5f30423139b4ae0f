"""Pytest plugin of an emulated process: its kernels are compiled by a process that is not emulated.

Compiling a kernel takes minutes in the emulation, and seconds outside of it.
"""

import os
import pickle
import subprocess
import sys
from typing import Any

import llvmlite.binding as llvm
from numba.core.serialize import dumps

from elman.kernels.codegen.cache import _Cache, stamp
from tests.emulation.arm import COMPILER, SOURCES
from tests.emulation.cross_compiler import versions


def pytest_configure() -> None:
    """Compile kernels that are not in the cache outside of the emulation, into the cache."""
    load = _Cache.load_overload

    def load_or_compile(cache: _Cache, signature: Any, context: Any) -> Any:
        found = load(cache, signature, context)
        if found is None and compile_outside(cache.name, signature):
            found = load(cache, signature, context)
        return found

    _Cache.load_overload = load_or_compile  # type: ignore[method-assign]


def compile_outside(kernel: str, signature: Any) -> bool:
    """Compile a kernel for arguments of these types; return False, after a message, if that fails.

    The kernel is compiled in the emulation then.
    """
    request = {
        "versions": versions(),
        "kernel": kernel,
        "signature": dumps(signature),  # apart: the compiler reads it after it has set its target
        "stamp": stamp(),
        "triple": llvm.get_process_triple(),
        "processor": llvm.get_host_cpu_name(),
        "features": dict(llvm.get_host_cpu_features()),
    }
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHOME"}
    environment["PYTHONPATH"] = os.environ[SOURCES]
    command = [os.environ[COMPILER], "-m", "tests.emulation.cross_compiler"]
    done = subprocess.run(
        command, input=pickle.dumps(request), env=environment, stderr=subprocess.PIPE, check=False
    )
    if done.returncode:
        print(f"{kernel} is not compiled outside:", done.stderr.decode(), file=sys.stderr)
    return done.returncode == 0
