"""Archives: extraction of zip and tar files, bounded in size."""

import tarfile
import zipfile
import zlib
from pathlib import Path

from elman.core.errors import ElmanError
from elman.core.files.download import MAX_BYTES
from elman.core.files.paths import as_path

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
    except FileNotFoundError as error:
        raise ElmanError(f"there is no file {path}") from error
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        raise ElmanError(f"cannot extract {path}: {error}") from error


def _extract_zip(path: Path, target: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        _check_size(path, sum(member.file_size for member in archive.infolist()))
        archive.extractall(target)


def _extract_tar(path: Path, target: Path) -> None:
    with tarfile.open(path) as archive:
        _check_size(path, sum(member.size for member in archive))
        archive.extractall(target, filter="data")


def _check_size(path: Path, size: int) -> None:
    if size > MAX_BYTES:
        raise ElmanError(f"an archive has at most {MAX_BYTES} bytes, got {size} in {path}")
