"""Archives are extracted into their folder, and nothing outside of it."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from elman.errors import ElmanError
from elman.files import download
from elman.files.download import extract


def zip_of(path: Path, **contents: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name.replace("__", "/"), content)
    return path


def tar_of(path: Path, name: str, content: bytes = b"text") -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        member = tarfile.TarInfo(name)
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
    extract(str(tar_of(tmp_path / name, "folder/file")))
    assert (tmp_path / "folder" / "file").read_bytes() == b"text"


def test_members_outside_the_folder_stay_in_it_or_are_refused(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    extract(str(zip_of(inner / "some.zip", **{"..__escaped": "text"})))
    with pytest.raises(ElmanError, match=r"cannot extract .*escaped"):
        extract(str(tar_of(inner / "some.tar", "../escaped")))
    assert not (tmp_path / "escaped").exists()


def test_archives_that_are_too_large_damaged_missing_or_of_another_kind_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("some.zip", "some.tar"):
        (tmp_path / name).write_bytes(b"no archive")
        with pytest.raises(ElmanError, match=f"cannot extract .*{name}"):
            extract(str(tmp_path / name))
    with pytest.raises(ElmanError, match="there is no file"):
        extract(str(tmp_path / "missing.zip"))
    with pytest.raises(ElmanError, match=r"an archive ends in \.zip, \.tar, \.gz, got .*some\.txt"):
        extract(str(tmp_path / "some.txt"))
    monkeypatch.setattr(download, "MAX_BYTES", 3)
    for path in (zip_of(tmp_path / "a.zip", file="text"), tar_of(tmp_path / "a.tar", "file")):
        with pytest.raises(ElmanError, match="an archive must extract to 3 bytes or fewer, got 4"):
            extract(str(path))


def test_what_a_tar_archive_lacks_or_hides_is_refused_in_a_line(tmp_path: Path) -> None:
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.LNKTYPE, "missing"
    hidden = tarfile.TarInfo("hidden")
    hidden.pax_headers = {"path": "a\0b"}
    for member in (link, hidden):
        with tarfile.open(tmp_path / "some.tar", "w", format=tarfile.PAX_FORMAT) as archive:
            archive.addfile(member)
        with pytest.raises(ElmanError, match=r"cannot extract .*some\.tar: [^\n]+$"):
            extract(str(tmp_path / "some.tar"))
