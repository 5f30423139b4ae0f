"""Atomic writes, new names and lock files.

A file or folder appears under its name only when it is complete and synced.
"""

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from elman.errors import ElmanError
from elman.files.paths import os_error
from elman.files.regular import open_no_follow


def write(path: Path, content: bytes | Iterable[bytes | memoryview]) -> None:
    """Write a file atomically; data and directory entry are synced on return.

    `content` is the bytes of the file, or an iterable of parts of it. Raises an ElmanError if the
    file cannot be written; `path` is then unchanged, unless only the sync of the directory failed.
    It is also unchanged if the iterable raises. A symbolic link at `path` is replaced, not
    followed.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.unlink(missing_ok=True)  # left by a crash, or another user's link to a file
        with temporary.open("xb") as file:
            for chunk in (content,) if isinstance(content, bytes) else content:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        fsync_dir(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise os_error("write", path, error) from error
        raise


def fsync_dir(folder: Path) -> None:
    """Sync the entries of a folder to disk.

    Does nothing on Windows, where syncing a file suffices, and on network file systems that cannot
    sync folders.
    """
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


class PathExistsError(ElmanError):
    """The file or folder to create exists already."""


def check_new(path: Path) -> None:
    """Raise a PathExistsError if `path` exists."""
    if os.path.lexists(path):  # the write reports an unreadable parent
        raise PathExistsError(f"{path} exists already: choose another name, or remove it")


def make_new(path: Path, make: Callable[[Path], Any], numbered: bool = False) -> Path:
    """Call `make` with a path that is free, and return that path.

    If `numbered`, the path is the first free one of NAME, NAME-2, NAME-3, ...; otherwise raises a
    PathExistsError if `path` exists. `make` must raise an OSError if another process creates the
    path at the same moment.
    """
    name, number = path.name, 1
    while True:
        try:
            check_new(path)
            try:
                make(path)
            except OSError:
                check_new(path)
                raise
            return path
        except PathExistsError:
            if not numbered:
                raise
        number += 1
        path = path.with_name(f"{name}-{number}")


def lock(path: Path, busy: str) -> BaseFileLock:
    """Acquire the lock file at `path`.

    Raises an ElmanError with the message `busy` if another process holds the lock.
    """
    held = FileLock(path, blocking=False)
    try:
        os.close(open_no_follow(str(path), os.O_CREAT | os.O_RDWR))  # FileLock would follow a link
        held.acquire()
    except Timeout as error:
        raise ElmanError(busy) from error
    except OSError as error:
        raise os_error("write", path, error) from error
    return held


@contextmanager
def make_parents(path: Path) -> Iterator[None]:
    """As `new_parents`; an OSError in the block becomes an ElmanError: `path` cannot be written."""
    try:
        with new_parents(path):
            yield
    except OSError as error:
        raise os_error("write", path, error) from error


@contextmanager
def new_parents(path: Path) -> Iterator[None]:
    """Create the parent folders of `path`; remove those that are still empty after the block."""
    missing = [parent for parent in path.parents if not os.path.lexists(parent)]
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for parent in missing:
                fsync_dir(parent.parent)
        except FileExistsError as error:
            raise ElmanError(f"cannot write {path}: {error.filename} is not a folder") from error
        except OSError as error:
            raise os_error("write", path, error) from error
        yield
    finally:
        for parent in missing:
            with suppress(OSError):  # it is not empty
                parent.rmdir()


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Make a folder to fill; it becomes `path` when the block ends. A failure removes it."""
    check_new(path)
    with part_of(path) as part:
        yield part
        make_new(path, part.rename)
        fsync_dir(path.parent)


@contextmanager
def part_of(path: Path) -> Iterator[Path]:
    """Make a temporary folder beside `path`; remove it when the block ends."""
    with make_parents(path):
        part = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
        part.mkdir()  # with the umask's permissions, unlike mkdtemp
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)
