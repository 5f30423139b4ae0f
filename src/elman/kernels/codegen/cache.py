"""Compiling kernels, the cache of compiled code, and calls of kernels by address.

Each combination of kernel, argument types and processor has a file. The file begins with a digest
of its remaining bytes. It is valid while its sources (all files in `kernels/`, and the file of the
kernel) and the versions of Python, Numba, llvmlite and NumPy stay the same.
"""

import hashlib
import logging
import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba import types
from numba.core import caching
from numba.core.compiler import CompileResult
from numba.core.compiler_lock import global_compiler_lock
from numba.core.serialize import dumps
from numba.extending import intrinsic

from elman.errors import ElmanError
from elman.files.regular import private_folder
from elman.files.system import at_fork
from elman.kernels.codegen.linking import KERNEL

log = logging.getLogger("elman")

KERNELS = Path(__file__).parents[1]  # folder of all sources of compiled code


@lru_cache(maxsize=1)
def stamp() -> str:
    """Digest of everything that determines compiled code, except the processor."""
    versions = (sys.version, numba.__version__, llvmlite.__version__, np.__version__)
    digest = hashlib.sha256(repr(versions).encode())
    for source in sorted(KERNELS.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _own_source(function: Callable[..., Any]) -> bytes:
    """Source of a kernel that is defined elsewhere, as in a benchmark; empty if it has no file."""
    path = Path(function.__code__.co_filename)
    return b"" if KERNELS in path.parents or not path.is_file() else path.read_bytes()


@lru_cache(maxsize=1)
def folder() -> Path | None:
    """Folder for compiled code; None, after a warning, if no folder can be trusted."""
    try:
        return private_folder()
    except ElmanError as error:
        log.warning(
            "cannot cache compiled kernels, so each process compiles them again: %s; set "
            "NUMBA_CACHE_DIR to a folder that only you can write to",
            error,
        )
        return None


class _Cache(caching.NullCache):
    """Cache of a kernel's code, with a file for each signature and processor.

    Numba's own cache keeps an index of its files and unpickles them without verifying them.
    """

    def __init__(self, function: Callable[..., Any], folder: Path) -> None:
        self.name, self.folder = f"{function.__module__}.{function.__qualname__}", folder
        self.source = hashlib.sha256(_own_source(function)).hexdigest()

    def _entry(self, signature: Any, codegen: Any) -> tuple[Path, Any]:
        """File for a signature and a processor, and the key that the file must contain."""
        key = (stamp(), self.source, self.name, signature, codegen.magic_tuple())
        digest = hashlib.sha256(repr(key).encode()).hexdigest()
        return self.folder / f"{self.name.rpartition('.')[2]}-{digest[:32]}.nbc", key

    def load_overload(self, signature: Any, context: Any) -> Any:
        # Numba's own caches refresh the context here: it imports what only compiling needs.
        path, expected = self._entry(signature, context.codegen())
        try:
            key, code = pickle.loads(read(path))
            if key == expected:
                return CompileResult._rebuild(context, *code)
        except Exception as error:  # files from other package versions may raise anything
            log.debug("%s is not loaded: %r", path, error)
        _log_compiling()
        while _waiting:
            _waiting.pop()()
        return None

    def save_overload(self, signature: Any, result: Any) -> None:
        if result.library.has_dynamic_globals:  # addresses that are valid only in this process
            return
        path, key = self._entry(signature, result.codegen)
        try:
            write(path, dumps((key, result._reduce())))
        except OSError as error:
            log.warning("cannot cache compiled kernels in %s: %s", self.folder, error)


_waiting: list[Callable[[], None]] = []


@contextmanager
def when_missing(start: Callable[[], None]) -> Iterator[None]:
    """Call `start` when the first kernel within the block has to be compiled."""
    _waiting.append(start)
    try:
        yield
    finally:
        with suppress(ValueError):
            _waiting.remove(start)


DIGEST = hashlib.sha256().digest_size


def read(path: Path) -> bytes:
    """Read a file that `write` wrote; raise a ValueError if it is damaged."""
    content = path.read_bytes()
    if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
        raise ValueError("damaged")
    return content[DIGEST:]


def write(path: Path, content: bytes) -> None:
    """Write a file with its digest, atomically."""
    descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=path.stem)
    try:
        with open(descriptor, "wb") as file:
            file.write(hashlib.sha256(content).digest())
            file.write(content)
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise


@lru_cache(maxsize=1)
def _log_compiling() -> None:
    log.info("compiling kernels for this processor; this takes some seconds the first time")


def kernel(function: Callable[..., Any]) -> Any:
    """Decorate a function: compile it on its first call, release the GIL, cache the code.

    The function cannot allocate arrays. Reference counting is off, since threads that count
    references to the same arrays wait for each other.
    """
    dispatcher = numba.njit(**KERNEL)(function)
    found = folder()
    if found is not None:
        dispatcher._cache = _Cache(function, found)
    return dispatcher


def compiled(kernel: Any, *arguments: Any) -> Any:
    """Compile a kernel for arguments of these types. Calls of the result skip the type lookup."""
    return kernel.compile(tuple(map(numba.typeof, arguments)))


# A fork waits for compiling threads; otherwise the child would inherit a lock that stays locked.
at_fork(
    before=global_compiler_lock.acquire,
    after_in_parent=global_compiler_lock.release,
    after_in_child=global_compiler_lock.release,
)


def address_of(kernel: Any, *arguments: Any) -> int:
    """Address of a kernel's machine code for arguments of these types, compiled if necessary.

    Numba compiles a function together with all functions that it calls. A function that is called
    by address is compiled separately: at another time, or by another process at the same time.
    """
    compiled(kernel, *arguments)
    code = kernel.overloads[tuple(map(numba.typeof, arguments))]
    return int(code.library.get_pointer_to_function(code.fndesc.llvm_func_name))


@intrinsic
def call_part(
    context: Any,
    address: Any,
    phase: Any,
    part: Any,
    thread: Any,
    shapes: Any,
    cell: Any,
    arrays: Any,
) -> Any:
    """Run a part of a phase by the kernel at an address, which returns nothing and never raises."""
    kinds = phase, part, thread, shapes, cell, arrays

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        convention = context.call_conv
        pointer = convention.get_function_type(types.none, kinds).as_pointer()
        function = builder.inttoptr(arguments[0], pointer)
        convention.call_function(builder, function, types.none, kinds, arguments[1:])
        return context.get_dummy_value()

    return types.void(types.int64, *kinds), generate
