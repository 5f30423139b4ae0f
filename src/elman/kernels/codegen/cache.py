"""Kernels are compiled once a machine: when their code no longer holds, and what is loaded.

The code of a kernel, for the types of its arguments and a processor, is a file of its own, which
begins with a digest of the rest. It holds as long as nothing that it was made from has changed: all
files of this folder, and the versions of Python, Numba, llvmlite and NumPy.
"""

import hashlib
import logging
import os
import pickle
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import caching
from numba.core.compiler import CompileResult
from numba.core.compiler_lock import global_compiler_lock
from numba.core.serialize import dumps

from elman.core.errors import ElmanError
from elman.kernels.codegen.folder import own_folder

log = logging.getLogger("elman")

KERNELS = Path(__file__).parents[1]  # folder of all sources that are compiled


@lru_cache(maxsize=1)
def stamp() -> str:
    """A digest of everything that compiled kernels are made from, but for the processor."""
    versions = (sys.version, numba.__version__, llvmlite.__version__, np.__version__)
    digest = hashlib.sha256(repr(versions).encode())
    for source in sorted(KERNELS.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def folder() -> Path | None:
    """The folder for compiled code; None, after a warning, where there is none."""
    try:
        return own_folder()
    except ElmanError as error:
        log.warning(
            "compiled kernels cannot be kept, and are compiled by each process: %s; set "
            "NUMBA_CACHE_DIR to a folder that you alone can write to",
            error,
        )
        return None


class _Cache(caching.NullCache):
    """The code of a kernel, in a file for each signature and processor.

    Numba's own has an index of the files, and unpickles whatever it finds in them.
    """

    def __init__(self, function: Callable[..., Any], folder: Path) -> None:
        self.name, self.folder = f"{function.__module__}.{function.__qualname__}", folder

    def _entry(self, signature: Any, codegen: Any) -> tuple[Path, Any]:
        """The file for a signature and a processor, and what it must be for."""
        key = (stamp(), self.name, signature, codegen.magic_tuple())
        digest = hashlib.sha256(repr(key).encode()).hexdigest()
        return self.folder / f"{self.name.rpartition('.')[2]}-{digest[:32]}.nbc", key

    def load_overload(self, signature: Any, context: Any) -> Any:
        context.refresh()
        path, wanted = self._entry(signature, context.codegen())
        try:
            key, code = pickle.loads(read(path))
            if key == wanted:
                return CompileResult._rebuild(context, *code)
        except Exception as error:  # of what was compiled with other packages, it may be anything
            log.debug("%s is not loaded: %r", path, error)
        _say_compiling()
        return None

    def save_overload(self, signature: Any, result: Any) -> None:
        if result.library.has_dynamic_globals:  # addresses that hold for this process alone
            return
        path, key = self._entry(signature, result.codegen)
        try:
            write(path, dumps((key, result._reduce())))
        except OSError as error:
            log.warning("compiled kernels cannot be kept in %s: %s", self.folder, error)


DIGEST = hashlib.sha256().digest_size


def read(path: Path) -> bytes:
    """Read a file of `write`; a ValueError where it is damaged."""
    content = path.read_bytes()
    if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
        raise ValueError("it is damaged")
    return content[DIGEST:]


def write(path: Path, content: bytes) -> None:
    """Write a file, with its digest; it is whole before it has its name."""
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
def _say_compiling() -> None:
    log.info("compiling kernels for this processor, which takes some seconds the first time")


# How a part of kernels is compiled: LLVM puts it whole into each. Left to itself, it does so or not
# by the length of what is there already, and a call at every step costs some per cent.
INLINED = {"forceinline": True}


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function when it is first called, without the interpreter's lock; keep the code.

    It makes no arrays: references to arrays are not counted, since threads that count the same ones
    wait for each other. Where there is no folder for it, the code is kept for this process only.
    """
    dispatcher = numba.njit(nogil=True, error_model="numpy", _nrt=False, no_cfunc_wrapper=True)(
        function
    )
    kept = folder()
    if kept is not None:
        dispatcher._cache = _Cache(function, kept)
    return dispatcher


def compiled(kernel: Any, *arguments: Any) -> Any:
    """The code of a kernel for arguments of these types, which then is not looked up by them."""
    return kernel.compile(tuple(map(numba.typeof, arguments)))


# No process is forked while another thread compiles, which would never end that in the child.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )
