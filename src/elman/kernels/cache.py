"""Kernels are compiled once a machine: where their code is kept, and when it no longer holds.

Numba keeps compiled code by signature and processor, and drops it when the file that holds a
function changes. A kernel is made of several files; here all of them count, and the versions of
Numba and llvmlite.
"""

import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import caching, config
from platformdirs import user_cache_path

log = logging.getLogger("elman")


@lru_cache(maxsize=1)
def stamp() -> str:
    """A digest of everything that compiled kernels are made from, but for the processor."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


class _Locator(caching._CacheLocator):
    def __init__(self, function: Any) -> None:
        self.function = function

    def get_cache_path(self) -> str:
        folder = Path(config.CACHE_DIR) if config.CACHE_DIR else user_cache_path("elman")
        return str(folder / "kernels")

    def get_source_stamp(self) -> str:
        return stamp()

    def get_disambiguator(self) -> str:
        return stamp()[:16]

    @classmethod
    def from_function(cls, function: Any, file: Any) -> "_Locator | None":
        locator = cls(function)
        try:
            locator.ensure_cache_path()
        except OSError:
            return None
        return locator


class _Implementation(caching.CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class _File(caching.IndexDataCacheFile):
    """The code of a kernel for each signature, in a file of its own that no other writes.

    Numba numbers the files, and names one in the index before it is there: of two processes that
    compile at once, the one might then load what the other wrote.
    """

    def save(self, key: Any, data: Any) -> None:
        number = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8])
        name = self._data_name(number)
        self._save_data(name, data)
        self._save_index(self._load_index() | {key: name})


class _Cache(caching.FunctionCache):
    _impl_class = _Implementation

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file = _File(self._cache_path, self._impl.filename_base, stamp())

    def load_overload(self, signature: Any, context: Any) -> Any:
        try:
            loaded = super().load_overload(signature, context)
        except Exception:  # a file that was cut off raises anything
            loaded = None
            with suppress(OSError):
                self.flush()
        if loaded is None:
            _say_compiling()
        return loaded

    def save_overload(self, signature: Any, data: Any) -> None:
        try:
            super().save_overload(signature, data)
        except OSError as error:
            log.warning("compiled kernels cannot be kept in %s: %s", self.cache_path, error)


@lru_cache(maxsize=1)
def _say_compiling() -> None:
    log.info("compiling kernels for this processor, which takes some seconds the first time")


@lru_cache(maxsize=1)
def _say_no_folder() -> None:
    log.warning(
        "compiled kernels cannot be kept, since their folder cannot be written: "
        "set NUMBA_CACHE_DIR to one that can"
    )


# How a part of kernels is compiled: LLVM puts it whole into each. Left to itself, it does so or not
# by the length of what is there already, and a call at every step costs some per cent.
INLINED = {"forceinline": True}


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function when it is first called, without the interpreter's lock; keep the code.

    It makes no arrays: references to arrays are not counted, since threads that count the same ones
    wait for each other. Where no folder can be written, the code is kept for this process only.
    """
    dispatcher = numba.njit(nogil=True, error_model="numpy", _nrt=False, no_cfunc_wrapper=True)(
        function
    )
    try:
        dispatcher._cache = _Cache(function)
    except RuntimeError:
        _say_no_folder()
    return dispatcher


def compiled(kernel: Any, *arguments: Any) -> Any:
    """The code of a kernel for arguments of these types, which then is not looked up by them."""
    return kernel.compile(tuple(map(numba.typeof, arguments)))
