"""Compile a kernel for another processor, into its cache.

    python -m tests.emulation.cross_compiler < REQUEST

REQUEST is a pickle by cross_compiling.py. LLVM generates the machine code that it generates on the
other processor: it gets that one's triple, name and features. Python's minor version and the
versions of Numba, llvmlite and NumPy must be the same on both sides.
"""

import ctypes
import pickle
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from unittest import mock

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np
from numba.core import codegen


class NoEngine:
    """Replaces the engine that runs code; it only generates machine code, for the cache."""

    def __init__(self, engine: Any) -> None:
        self.machine = engine.machine
        self.environment = ctypes.c_void_p()

    def set_object_cache(self, *hooks: Any) -> None:
        """Ignore: `add_module` calls the hook."""

    def add_module(self, module: Any) -> None:
        """Generate the machine code of a module."""
        codegen.JITCodeLibrary._object_compiled_hook(module, self.machine.emit_object(module))

    def is_symbol_defined(self, name: str) -> bool:
        """Return False: no function has an address here."""
        return False

    def finalize_object(self) -> None:
        """Link nothing."""

    def get_global_value_address(self, name: str) -> int:
        """Address of a pointer that nothing reads."""
        return ctypes.addressof(self.environment)


def versions() -> tuple[str, ...]:
    """Versions that the process that compiles and the one that runs the code must share."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return python, numba.__version__, llvmlite.__version__, np.__version__


def set_target(triple: str, processor: str, features: Mapping[str, bool]) -> None:
    """Make Numba compile for another processor. Must be called before a function is decorated."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    facts = {
        "get_process_triple": triple,
        "get_default_triple": triple,
        "get_host_cpu_name": processor,
        "get_host_cpu_features": llvm.FeatureMap(features),
    }
    for module in (llvm, llvm.targets):
        for name, fact in facts.items():
            mock.patch.object(module, name, return_value=fact).start()
    mock.patch.object(llvm, "create_mcjit_compiler", _no_engine).start()
    mock.patch.object(codegen, "JitEngine", NoEngine).start()


def _no_engine(module: Any, machine: Any, **options: Any) -> Any:
    return SimpleNamespace(machine=machine, target_data=machine.target_data)


def kernels() -> dict[str, Any]:
    """All kernels, by the names that they have in the cache."""
    import elman.numba  # noqa: F401 - decorates all kernels
    from elman.kernels.codegen.cache import _Cache

    modules = [module for name, module in sys.modules.items() if name.startswith("elman.kernels")]
    values = [value for module in modules for value in vars(module).values()]
    found = [value for value in values if isinstance(getattr(value, "_cache", None), _Cache)]
    return {value._cache.name: value for value in found}


def main() -> None:
    """Compile the kernel that standard input requests."""
    request = pickle.load(sys.stdin.buffer)
    if versions() != request["versions"]:
        raise SystemExit(f"versions differ: {versions()} compiles for {request['versions']}")
    set_target(request["triple"], request["processor"], request["features"])
    kernel = kernels()[request["kernel"]]
    with mock.patch("elman.kernels.codegen.cache.stamp", return_value=request["stamp"]):
        kernel.compile(pickle.loads(request["signature"]))


if __name__ == "__main__":
    main()
