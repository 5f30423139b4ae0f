"""Files: written whole or not at all, and read only where they are files, of a bounded size."""

import errno
import mmap
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom, BufferedReader, FileIO
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout
from numpy.typing import NDArray
from platformdirs import user_cache_path

from elman.core.errors import ElmanError, MachineError

# What is wrong with the name that the user gave; all else is the machine's.
NAMES = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY),
    *(errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP),
}


def write(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file: when it has its name, all of it is on the disk, and so is the name.

    An ElmanError tells what kept it from that. Then `path` is what it was before, or, where only
    its name could not be synced, the new file; where `content`, in pieces, ends in an exception, it
    is what it was. What lies at `path` is not written through.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        part.unlink(missing_ok=True)  # left by a crash, or a stranger's link to a file elsewhere
        with part.open("xb") as file:
            for piece in (content,) if isinstance(content, bytes) else content:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        keep_names(path.parent)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            raise cannot("write", path, error) from error
        raise


def keep_names(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system can be told so.

    On Windows a file's content brings its name along, and some network drives sync no folders.
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


def cannot(do: str, path: Path | str, error: OSError) -> ElmanError:
    """The error for a file that cannot be read, or written: the user's name, or the machine."""
    kind = ElmanError if error.errno in NAMES else MachineError
    return kind(f"cannot {do} {path}: {error.strerror or error}")


def path(given: Any, what: str) -> Path:
    """The path that a user has given; an ElmanError where it cannot be one of what it is for."""
    name = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    with suppress(UnicodeEncodeError):
        if isinstance(name, str) and b"\0" not in os.fsencode(name):
            return Path(name)
    raise ElmanError(f"{what} is given by its path, got {given!r}")


def there(path: Path) -> bool:
    """True if there is something at a path; an ElmanError where the machine does not let us see."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise cannot("read", path, error) from error
    return True


class TakenError(ElmanError):
    """Something has the name already that is to be made."""


def check_new(path: Path) -> None:
    """Raise a TakenError if there is something at `path`."""
    if os.path.lexists(path):  # what cannot be seen is told of when it is written
        raise TakenError(f"{path} exists already: choose another name, or remove it")


def make_new(path: Path, make: Callable[[Path], Any], numbered: bool = False) -> Path:
    """Have `make` make something at a path, or, `numbered`, at the first of NAME, NAME-2 ...

    It must raise an OSError where another process has made something there at that moment. The
    path that was free is returned; a TakenError is raised where none was.
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
        except TakenError:
            if not numbered:
                raise
        number += 1
        path = path.with_name(f"{name}-{number}")


def lock(path: Path, busy: str) -> BaseFileLock:
    """A lock that this process has on the file; an ElmanError, `busy`, where another has it."""
    held = FileLock(path, blocking=False)
    try:
        os.close(no_links(str(path), os.O_CREAT | os.O_RDWR))  # the lock would follow one
        held.acquire()
    except Timeout as error:
        raise ElmanError(busy) from error
    except OSError as error:
        raise cannot("write", path, error) from error
    return held


@contextmanager
def parents(path: Path) -> Iterator[None]:
    """Make the folders above a path, and remove those that are empty again after the block."""
    missing = [parent for parent in path.parents if not os.path.lexists(parent)]
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for parent in missing:
                keep_names(parent.parent)
        except FileExistsError as error:
            raise ElmanError(f"cannot write {path}: {error.filename} is no folder") from error
        yield
    except OSError as error:
        raise cannot("write", path, error) from error
    finally:
        for parent in missing:
            with suppress(OSError):  # not empty: the run, or another's
                parent.rmdir()


@contextmanager
def opened(path: Path, links: bool = False) -> Iterator[BufferedReader]:
    """A file to read; an ElmanError where it is a folder, a pipe or a device, or a read fails.

    So it is with a symbolic link, which may lead anywhere, unless `links`.
    """
    try:
        with _open(path, links) as file:
            yield file
    except FileNotFoundError as error:
        raise ElmanError(f"there is no file {path}") from error
    except OSError as error:
        raise cannot("read", path, error) from error


def _open(path: Path, links: bool) -> BufferedReader:
    try:
        return BufferedReader(_Ready(path, opener=_opener(links)))
    except ValueError as error:  # a NUL in its name
        raise ElmanError(f"cannot read {str(path)!r}: no file has such a name") from error


class _Ready(FileIO):
    """A file that is not waited for: one of the system's may have nothing to read for ever."""

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; an ElmanError where that would have to be waited for."""
        read = super().readinto(buffer)
        if read is None:
            raise ElmanError(f"cannot read {self.name}: it has nothing to read, and must be a file")
        return read


def _opener(links: bool) -> Any:
    def opener(path: str, flags: int) -> int:
        _check_file(path, os.stat(path) if links else os.lstat(path))
        # Another may have taken its place since: wait for no pipe, and follow no link.
        flags |= getattr(os, "O_NONBLOCK", 0) | (0 if links else getattr(os, "O_NOFOLLOW", 0))
        descriptor = os.open(path, flags)
        try:
            _check_file(path, os.fstat(descriptor))
        except ElmanError:
            os.close(descriptor)
            raise
        return descriptor

    return opener


def no_links(path: str, flags: int) -> int:
    """Open a file, for `open(..., opener=no_links)`, but for a symbolic link."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _check_file(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _kind(status.st_mode)
        raise ElmanError(f"cannot read {path}: it is {kind}, and must be a file")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a pipe"}
    return kinds.get(stat.S_IFMT(mode), "a device or socket")


def size(file: BufferedRandom | BufferedReader) -> int:
    """Number of bytes in an open file."""
    return os.fstat(file.fileno()).st_size


def read(path: Path, most: int) -> bytes:
    """The content of a file that is no link, of at most so many bytes."""
    with opened(path) as file:
        length = size(file)
        content = file.read(length + 1) if length <= most else None  # one more, if it has grown
    if content is None or len(content) > most:
        raise ElmanError(f"cannot read {path}: it has more than {most} bytes")
    return content


def check_folder(folder: Path) -> None:
    """Raise an ElmanError unless all in a folder are files and folders.

    What is written to a name in it then stays in it.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                mode = entry.stat(follow_symlinks=False).st_mode
                if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                    raise ElmanError(f"{entry.path} is {_kind(mode)}: remove it from its folder")
    except OSError as error:
        raise cannot("read", folder, error) from error


def check_owner(path: Path) -> None:
    """Raise an ElmanError where a file or folder belongs to another user, who may change it."""
    try:
        if hasattr(os, "geteuid") and path.lstat().st_uid != os.geteuid():
            raise ElmanError(
                f"{path} belongs to another user: use a copy of your own, or remove it"
            )
    except OSError as error:
        raise cannot("read", path, error) from error


def user_cache() -> Path:
    """The user's folder for what can be made anew; a MachineError where none is known."""
    folder = Path()
    with suppress(RuntimeError):  # of a user without a home, as a path in the current folder is
        folder = user_cache_path("elman")
    if not folder.is_absolute():
        raise MachineError(
            "the user's cache folder is not known: set HOME, or XDG_CACHE_HOME, to an absolute path"
        )
    return folder


def release(array: NDArray[Any]) -> None:
    """Give back the memory of what was read through an array that is a view of a mapped file.

    It is read anew where it is asked for again. Other arrays stay as they are.
    """
    file = _mapped(array)
    if file is not None and hasattr(mmap, "MADV_DONTNEED"):
        file.madvise(mmap.MADV_DONTNEED)


def check_whole(array: NDArray[Any]) -> None:
    """Raise an ElmanError where a mapped file, of which an array is a view, was cut off.

    To read what is no longer there would end the process, without a word.
    """
    file = _mapped(array)
    if file is not None and file.size() < len(file):
        raise ElmanError(
            f"the file of a text's ids was cut off while it was read, from {len(file):,} bytes to "
            f"{file.size():,}: prepare the store again"
        )


def _mapped(array: NDArray[Any]) -> mmap.mmap | None:
    """The mapped file of which an array is a view."""
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    return base
