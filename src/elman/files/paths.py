"""Paths: conversion of arguments, existence, errors of the operating system, temporary folders."""

import errno
import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from elman.errors import ElmanError, MachineError, shortened

# Errors caused by the user's path. All others are failures of the machine.
PATH_ERRORS = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY),
    *(errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP),
}


def os_error(action: str, path: Path | str, error: OSError) -> ElmanError:
    """ElmanError for a failed `action` ("read", "write"); a MachineError if the path is good."""
    kind = ElmanError if error.errno in PATH_ERRORS else MachineError
    return kind(f"cannot {action} {path}: {error.strerror or error}")


def as_path(value: Any, name: str) -> Path:
    """Convert an argument to a Path; an ElmanError that begins with `name` if it is not a path.

    The empty string is refused: it would mean the current folder.
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    with suppress(UnicodeEncodeError):
        if text == "":
            raise ElmanError(f"{name} must be a path that is not empty, got ''")
        if isinstance(text, str) and b"\0" not in os.fsencode(text):
            return Path(text)
    raise ElmanError(f"{name} must be a path, got {shortened(value)}")


def is_utf8(path: Path | str) -> bool:
    """True if a path is UTF-8. Other bytes appear as half surrogate pairs in it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def exists(path: Path) -> bool:
    """True if `path` exists, even as a broken link; an ElmanError if that cannot be determined."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise os_error("read", path, error) from error
    return True


def user_cache() -> Path:
    """The user's cache folder for elman; a MachineError if it is unknown."""
    folder = Path()
    with suppress(RuntimeError):  # the user has no home
        folder = user_cache_path("elman")
    if not folder.is_absolute():
        raise MachineError(
            "the user's cache folder is not known: set HOME, or XDG_CACHE_HOME, to an absolute path"
        )
    return folder


class TemporaryFolder:
    """A new folder; it is removed when this object is no longer used or the program ends."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="elman-"))
        self._removal = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def keep(self) -> None:
        """Keep the folder for good unless it is empty: an error says how to resume with it."""
        if any(self.path.iterdir()):
            self._removal.detach()
