"""Folder for compiled code that only this user can write to.

Compiled code runs with the rights of the user who loads it. Other users must not place files here.
"""

import os
import stat
from pathlib import Path

from elman.errors import ElmanError, MachineError
from elman.files.paths import os_error, user_cache
from elman.files.system import user_id


def private_folder() -> Path:
    """Create the folder if needed, in NUMBA_CACHE_DIR or in the user's cache folder; return it.

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
