"""Regular files, opened without following links, and read within bounds; owners of folders.

Folders, pipes, devices and, unless allowed, symbolic links are refused with an ElmanError.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom, BufferedReader, FileIO
from pathlib import Path
from typing import Any

from elman.errors import ElmanError, MachineError
from elman.files.paths import os_error, user_cache
from elman.files.system import NO_FOLLOW, NON_BLOCKING, user_id


@contextmanager
def open_regular(path: Path, follow_links: bool = False) -> Iterator[BufferedReader]:
    """Open a regular file for reading.

    Raises an ElmanError for anything but a regular file, for a symbolic link unless `follow_links`,
    and if a read within the block fails.
    """
    try:
        with _open(path, follow_links) as file:
            yield file
    except FileNotFoundError as error:
        raise ElmanError(f"there is no file {path}") from error
    except OSError as error:
        raise os_error("read", path, error) from error


def _open(path: Path, follow_links: bool) -> BufferedReader:
    try:
        return BufferedReader(_NonBlockingFile(path, opener=_opener(follow_links)))
    except ValueError as error:  # a NUL in its name
        raise ElmanError(f"cannot read {str(path)!r}: a file name cannot contain NUL") from error


class _NonBlockingFile(FileIO):
    """File whose reads never block. Some files in /proc have no data and would block forever."""

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; raise an ElmanError if that would block."""
        read = super().readinto(buffer)
        if read is None:
            raise ElmanError(f"cannot read {self.name}: it is not a regular file")
        return read


def _opener(follow_links: bool) -> Any:
    def opener(path: str, flags: int) -> int:
        _check_regular(path, os.stat(path) if follow_links else os.lstat(path))
        # The path may have been replaced meanwhile: do not block on a pipe, do not follow a link.
        flags |= NON_BLOCKING if follow_links else NON_BLOCKING | NO_FOLLOW
        descriptor = os.open(path, flags)
        try:
            _check_regular(path, os.fstat(descriptor))
        except ElmanError:
            os.close(descriptor)
            raise
        return descriptor

    return opener


def open_no_follow(path: str, flags: int) -> int:
    """Opener for `open(..., opener=open_no_follow)` that refuses symbolic links."""
    return os.open(path, flags | NO_FOLLOW, 0o666)


def _check_regular(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _file_type(status.st_mode)
        raise ElmanError(f"cannot read {path}: it is {kind}, not a regular file")


def _file_type(mode: int) -> str:
    names = {stat.S_IFDIR: "a folder", stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a pipe"}
    return names.get(stat.S_IFMT(mode), "a device or socket")


def size(file: BufferedRandom | BufferedReader) -> int:
    """Size of an open file in bytes."""
    return os.fstat(file.fileno()).st_size


def read(path: Path, max_bytes: int) -> bytes:
    """Read a regular file that is not a link; an ElmanError if it exceeds `max_bytes`."""
    with open_regular(path) as file:
        length = size(file)
        # One byte more, to detect a file that has grown meanwhile.
        content = file.read(length + 1) if length <= max_bytes else None
    if content is None or len(content) > max_bytes:
        raise ElmanError(f"cannot read {path}: it has more than {max_bytes} bytes")
    return content


def digest(path: Path, name: str) -> str:
    """Digest of a file in hexadecimal by the algorithm of this name; links are followed."""
    with open_regular(path, follow_links=True) as file:
        return hashlib.file_digest(file, name).hexdigest()


def check_folder(folder: Path) -> None:
    """Raise an ElmanError unless a folder contains only regular files and folders.

    A write to a name in it then stays inside.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                mode = entry.stat(follow_symlinks=False).st_mode
                if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                    raise ElmanError(
                        f"{entry.path} is {_file_type(mode)}: remove it from its folder"
                    )
    except OSError as error:
        raise os_error("read", folder, error) from error


def check_owner(path: Path) -> None:
    """Raise an ElmanError if a file or folder belongs to another user: they could change it."""
    try:
        user = user_id()
        if user is not None and path.lstat().st_uid != user:
            raise ElmanError(f"{path} belongs to another user: use your own copy, or remove it")
    except OSError as error:
        raise os_error("read", path, error) from error


def check_exists(path: Path) -> None:
    """Raise an ElmanError unless there is a regular file, or a folder, at `path`."""
    if not path.is_dir():
        with open_regular(path):
            pass


def private_folder() -> Path:
    """Create the folder for compiled code, in NUMBA_CACHE_DIR or in the user's cache folder.

    Compiled code runs with the rights of the user who loads it, so only this user may write there.
    Raise an ElmanError with the reason if no folder can be trusted or written to.
    """
    given = os.environ.get("NUMBA_CACHE_DIR")
    folder = (Path(given) if given else user_cache()) / "kernels"
    if not folder.is_absolute():
        raise ElmanError(f"NUMBA_CACHE_DIR must be an absolute path, got {given}")
    try:
        for path in (*reversed(folder.parents), folder):
            path.mkdir(mode=0o700, exist_ok=True)
        real = folder.resolve(strict=True)  # check the target of a link
        if user_id() is not None:
            _check_owners(folder, real)
    except FileExistsError as error:
        raise ElmanError(f"{error.filename} is not a directory") from error
    except OSError as error:
        raise os_error("write", folder, error) from error
    if not os.access(real, os.W_OK):
        raise MachineError(f"{folder} is not writable")
    return real


def _check_owners(folder: Path, real: Path) -> None:
    """Raise a MachineError if another user can write to a folder or replace it."""
    # The owner of the root directory can do so anyway; in a container that may not be user 0.
    trusted = {os.geteuid(), 0, os.stat("/").st_uid}
    for path in (*real.parents, *folder.parents):
        status = path.stat()
        sticky = status.st_mode & stat.S_ISVTX  # as in /tmp: only owners can move their files
        if status.st_uid not in trusted:
            raise MachineError(f"{path} belongs to another user")
        if not sticky and _others_may_write(status):
            raise MachineError(f"others may write to {path}")
    status = real.stat()
    if status.st_uid != os.geteuid():
        raise MachineError(f"{real} belongs to another user")
    if _others_may_write(status):
        raise MachineError(f"others may write to {real}")


def _others_may_write(status: os.stat_result) -> bool:
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and not _is_private_group(status.st_gid)


def _is_private_group(group: int) -> bool:
    """Return True if a group has the user's name and no other member, as many systems set up."""
    import grp
    import pwd

    try:
        found, user = grp.getgrgid(group), pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return False
    return found.gr_name == user and not set(found.gr_mem) - {user}
