"""`elman.serve`: models over HTTP while a block of a program runs."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from elman.api.run import run_paths
from elman.api.signatures import with_options
from elman.errors import ElmanError, not_installed, require_keywords
from elman.server.access import Access, Limits


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


@with_options(Limits)
def serve(
    *runs: "str | os.PathLike[str]",
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    metrics_key: str | None = None,
    allowed_host: Sequence[str] = (),
    **limits: Any,
) -> Serving:
    """Serve runs within a block that yields the address.

        with elman.serve(run, port=0) as address:
            ...

    The options are those of `elman serve`; port 0 selects any free port. The block ends after
    requests in progress have ended.
    """
    require_keywords("serve", limits, [each.name for each in fields(Limits)])
    access, checked = Access.of(api_key, metrics_key, allowed_host), Limits(**limits)
    folders = run_paths("serve", runs)
    if not folders:
        raise ElmanError("a server requires one run or more: elman.serve(run)")
    return Serving(folders, _served(folders, host, port, checked, access))


@contextmanager
def _served(
    folders: list[Path], host: str, port: int, limits: Limits, access: Access
) -> Iterator[str]:
    """Serve runs within a block."""
    try:
        from elman.server import serving
    except ModuleNotFoundError as error:
        raise not_installed("serve", error, cure="") from error
    models = serving.load_models(folders)
    with serving.ready(models, host, port, limits, access) as ready:
        thread = threading.Thread(target=ready.run, name="elman.serve", daemon=True)
        thread.start()
        try:
            yield ready.address
        finally:
            ready.server.should_exit = True
            thread.join()
