"""Archives: extraction of zip and tar files, bounded in size."""

import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from elman.errors import ElmanError
from elman.files.download import MAX_BYTES
from elman.files.paths import as_path

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
