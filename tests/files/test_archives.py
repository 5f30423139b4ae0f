"""Archives are extracted into their folder, and nothing outside of it."""

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from elman.errors import ElmanError
from elman.files import download
from elman.files.download import extract


def zip_of(path: Path, **contents: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name.replace("__", "/"), content)
    return path


def tar_of(path: Path, *members: tarfile.TarInfo, content: bytes = b"text") -> Path:
    mode: Any = "w:gz" if path.suffix == ".gz" else "w"
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_a_zip_is_extracted_beside_itself_or_into_a_folder(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "some.zip", folder__file="text")
    extract(str(path))
    extract(str(path), str(tmp_path / "other"))
    assert (tmp_path / "folder" / "file").read_text("utf-8") == "text"
    assert (tmp_path / "other" / "folder" / "file").read_text("utf-8") == "text"


@pytest.mark.parametrize("name", ["some.tar", "some.tar.gz"])
def test_a_tar_is_extracted(tmp_path: Path, name: str) -> None:
    extract(str(tar_of(tmp_path / name, tarfile.TarInfo("folder/file"))))
    assert (tmp_path / "folder" / "file").read_bytes() == b"text"


def test_members_outside_the_folder_stay_in_it(tmp_path: Path) -> None:
    extract(str(zip_of(tmp_path / "some.zip", **{"..__escaped": "text"})), str(tmp_path / "inner"))
    assert not (tmp_path / "escaped").exists()


LINK, HIDDEN = tarfile.TarInfo("link"), tarfile.TarInfo("hidden")
LINK.type, LINK.linkname = tarfile.LNKTYPE, "missing"
HIDDEN.pax_headers = {"path": "a\0b"}


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.zip", lambda path: path.write_bytes(b"no archive"), "cannot extract .*a.zip"),
        ("a.tar", lambda path: path.write_bytes(b"no archive"), "cannot extract .*a.tar"),
        ("a.zip", lambda path: None, "there is no file"),
        ("a.txt", lambda path: None, r"an archive ends in \.zip, \.tar, \.gz, got .*a\.txt"),
        (
            "a.zip",
            lambda path: zip_of(path, file="texts"),
            "must extract to 4 bytes or fewer, got 5",
        ),
        ("a.tar", lambda path: tar_of(path, *2 * [tarfile.TarInfo("file")]), "4 bytes .*, got 8"),
        ("a.tar", lambda path: tar_of(path, tarfile.TarInfo("../escaped")), "cannot .*escaped"),
        ("a.tar", lambda path: tar_of(path, LINK, content=b""), r"cannot extract .*a\.tar: "),
        ("a.tar", lambda path: tar_of(path, HIDDEN, content=b""), r"cannot extract .*a\.tar: "),
    ],
)
def test_an_archive_that_is_damaged_too_large_or_reaches_outside_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, make: Any, message: str
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 4)
    (tmp_path / "inner").mkdir()
    make(tmp_path / "inner" / name)
    with pytest.raises(ElmanError, match=rf"^[^\n]*{message}[^\n]*$"):
        extract(str(tmp_path / "inner" / name))
    assert not (tmp_path / "escaped").exists()
