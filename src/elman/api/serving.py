"""`elman.serve`: models over HTTP while a block of a program runs."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from elman.api.run import run_paths
from elman.api.signatures import with_options
from elman.errors import ElmanError, not_installed
from elman.server.access import ServerOptions


class Serving(AbstractContextManager[str]):
    """Models that are served within a `with` block. The block yields the address."""

    def __init__(self, folders: Sequence[Path], served: AbstractContextManager[str]) -> None:
        self._folders = folders
        self._served = served

    def __enter__(self) -> str:
        return self._served.__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        return self._served.__exit__(*error)

    def __repr__(self) -> str:
        names = ", ".join(folder.name for folder in self._folders)
        return f"{names}: not served yet; use `with elman.serve(run) as address:`"


@with_options(ServerOptions)
def serve(*runs: "str | os.PathLike[str]", **options: Any) -> Serving:
    """Serve runs within a block that yields the address.

        with elman.serve(run, port=0) as address:
            ...

    The options are those of `elman serve`; port 0 selects any free port. The block ends after
    requests in progress have ended.
    """
    asked = ServerOptions(**options)
    folders = run_paths("serve", runs)
    if not folders:
        raise ElmanError("a server requires one run or more: elman.serve(run)")
    return Serving(folders, _served(folders, asked))


def serving_module() -> ModuleType:
    """The module that serves; an ElmanError if a package that it needs is missing."""
    try:
        from elman.server import serving
    except ModuleNotFoundError as error:
        raise not_installed("serve", error, cure="") from error
    return serving


@contextmanager
def _served(folders: list[Path], asked: ServerOptions) -> Iterator[str]:
    """Serve runs within a block."""
    serving = serving_module()
    with serving.ready(serving.load_models(folders), asked) as server:
        run = partial(server.run, [server.listener])
        thread = threading.Thread(target=run, name="elman.serve", daemon=True)
        thread.start()
        try:
            yield server.address
        finally:
            server.should_exit = True
            thread.join()
