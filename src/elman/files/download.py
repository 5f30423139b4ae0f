"""Verified downloads over https, and extraction of archives, bounded in size and time."""

import hashlib
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from elman.errors import ElmanError, MachineError
from elman.files import atomic, regular
from elman.files.paths import as_path

DATA_URL = "https://d2l-data.s3-accelerate.amazonaws.com/"
MAX_BYTES = 1 << 30
MAX_SECONDS = 600  # in total


def download(url: str, folder: str = "../data", sha1_hash: str | None = None) -> str:
    """Download `url` into `folder` and return the path of the file.

    With `sha1_hash`, the file is verified, and not downloaded if it is already there. Raises a
    MachineError if the download fails, takes longer than 10 minutes or exceeds 1 GiB, or if its
    digest differs.
    """
    _check_https(url)
    name = url.split("?")[0].split("/")[-1]
    if name in ("", ".", ".."):
        raise ElmanError(f"a download URL must end with a file name, got {url}")
    target = as_path(folder, "the folder of a download") / name
    if sha1_hash and sha1(target) == sha1_hash:
        return str(target)
    with (
        atomic.make_parents(target),
        tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as own,
    ):
        part = Path(own) / name  # in a folder of this process
        atomic.write(part, _verified(url, sha1_hash, target))
        part.replace(target)
    return str(target)


def sha1(path: Path) -> str | None:
    """SHA-1 of a file in hexadecimal; None if there is no file."""
    return regular.digest(path, "sha1") if path.is_file() else None


def _verified(url: str, sha1_hash: str | None, target: Path) -> Iterator[bytes]:
    """Yield a file in chunks; a MachineError at the end if its digest differs from `sha1_hash`."""
    from elman.files import https

    digest = hashlib.sha1()
    try:
        for chunk in https.chunks(url, MAX_BYTES, MAX_SECONDS):
            digest.update(chunk)
            yield chunk
    except OSError as error:
        raise MachineError(
            f"cannot download {url} ({error}): put the file at {target} yourself"
        ) from error
    if sha1_hash and digest.hexdigest() != sha1_hash:
        raise MachineError(f"{url} does not have the expected SHA-1 {sha1_hash}: nothing was kept")


def _check_https(url: str) -> None:
    if not (isinstance(url, str) and url.startswith("https://")):
        raise ElmanError(f"downloads require https, got {url}")


ENDINGS = (".zip", ".tar", ".gz")


def extract(filename: str, folder: str | None = None) -> None:
    """Extract a zip or tar archive into `folder`, by default the folder of the archive.

    Raises an ElmanError for any other file, for a damaged archive, for more than 1 GiB, and for
    members of a tar archive that would lie outside the folder.
    """
    path = as_path(filename, "an archive")
    target = path.parent if folder is None else as_path(folder, "the folder of an archive")
    if path.suffix not in ENDINGS:
        raise ElmanError(f"an archive ends in {', '.join(ENDINGS)}, got {path}")
    extract_all = _extract_zip if path.suffix == ".zip" else _extract_tar
    try:
        extract_all(path, target)
    except ElmanError:
        raise
    except FileNotFoundError as error:
        raise ElmanError(f"there is no file {path}") from error
    except Exception as error:  # damaged archives raise what the decompressors raise
        reason = str(error).partition("\n")[0]
        raise ElmanError(f"cannot extract {path}: {reason}") from error


def _extract_zip(path: Path, target: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        _check_sizes(path, (member.file_size for member in archive.infolist()))
        archive.extractall(target)


def _extract_tar(path: Path, target: Path) -> None:
    with tarfile.open(path) as archive:
        _check_sizes(path, (member.size for member in archive))
        archive.extractall(target, filter="data")


def _check_sizes(path: Path, sizes: Iterable[int]) -> None:
    """Raise an ElmanError at the first member with which an archive is too large."""
    total = 0
    for size in sizes:
        total += size
        if total > MAX_BYTES:
            raise ElmanError(
                f"an archive must extract to {MAX_BYTES} bytes or fewer, got {total} in {path}"
            )
