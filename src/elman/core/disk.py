"""Files that are there whole or not at all, whatever happens while they are written."""

import os
from contextlib import suppress
from pathlib import Path

from elman.core.errors import ElmanError


def write(path: Path, content: bytes) -> None:
    """Write a file: when it has its name, all of it is on the disk, and so is the name.

    An ElmanError tells what kept it from that; then `path` is what it was before.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _keep_names(path.parent)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise ElmanError(f"cannot write {path}: {error.strerror or error}") from error


def _keep_names(folder: Path) -> None:
    """Have the names in a folder on the disk; on Windows a file's content brings its name along."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
