"""Compiled kernels are kept, and only those are loaded that this user has compiled."""

import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.errors import ElmanError
from elman.files.regular import private_folder
from elman.kernels.codegen import cache

MODULE = """
import logging, sys
FACTOR = {factor}
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
from elman.kernels.codegen import cache
cache.stamp = lambda: {stamp!r}

def double(x):
    return FACTOR * x

print(cache.kernel(double)(21))
"""


def said(tmp_path: Path, folder: Path, stamp: str = "one", factor: int = 2) -> list[str]:
    """Output of a process that calls a kernel."""
    source = tmp_path / "module.py"
    source.write_text(MODULE.format(stamp=stamp, factor=factor))
    done = subprocess.run(
        [sys.executable, str(source)],
        env=os.environ | {"NUMBA_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


COMPILING = "compiling kernels for this processor; this takes some seconds the first time"


@pytest.mark.parametrize(("change", "result"), [({"stamp": "two"}, 42), ({"factor": 3}, 63)])
def test_a_second_process_loads_the_code_of_the_first_but_not_that_of_other_sources(
    tmp_path: Path, change: dict[str, Any], result: int
) -> None:
    assert said(tmp_path, tmp_path / "kept") == [COMPILING, "42"]
    assert said(tmp_path, tmp_path / "kept") == ["42"]
    assert said(tmp_path, tmp_path / "kept", **change) == [COMPILING, str(result)]


def test_code_that_is_damaged_is_compiled_anew(tmp_path: Path) -> None:
    said(tmp_path, tmp_path / "kept")
    (file,) = (tmp_path / "kept" / "kernels").iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert said(tmp_path, tmp_path / "kept") == [COMPILING, "42"]
    assert said(tmp_path, tmp_path / "kept") == ["42"]


def test_nothing_is_read_from_a_file_that_is_damaged_anywhere(tmp_path: Path) -> None:
    path, content, rng = tmp_path / "kept", bytes(range(64)), np.random.default_rng(0)
    cache.write(path, content)
    assert cache.read(path) == content
    whole = path.read_bytes()
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1 << rng.integers(8)
        for damaged in (bytes(changed), whole[:at], whole[at + 1 :], whole + whole[: at + 1]):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match="damaged"):
                cache.read(path)


def test_without_a_folder_kernels_are_compiled_each_time(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    told = (
        "cannot cache compiled kernels, so each process compiles them again: "
        f"{blocked} is not a directory; "
        "set NUMBA_CACHE_DIR to a folder that only you can write to"
    )
    assert said(tmp_path, blocked) == [told, "42"]


ON_UNIX = pytest.mark.skipif(os.name == "nt", reason="folders have no owners here")


@ON_UNIX
def test_the_folder_is_made_for_this_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "two" / "folders"))
    previous = os.umask(0)
    try:
        made = private_folder()
    finally:
        os.umask(previous)
    assert made == tmp_path / "two" / "folders" / "kernels"
    assert {path.stat().st_mode & 0o777 for path in (made, *made.parents[:2])} == {0o700}


@ON_UNIX
@pytest.mark.parametrize("cause", ["relative", "homeless", "another's"])
def test_a_folder_that_is_not_known_to_be_the_users_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "here" if cause == "relative" else str(tmp_path))
    told = "NUMBA_CACHE_DIR must be an absolute path, got here"
    if cause == "homeless":
        for name in ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # a number that no user has
        told = "the user's cache folder is not known"
    if cause == "another's":
        private_folder()
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        told = "belongs to another user"
    with pytest.raises(ElmanError, match=told):
        private_folder()
    assert (cause == "another's") or not any(tmp_path.iterdir())


@ON_UNIX
@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("open_to_all", ["kept/kernels", "kept", "."])
def test_a_folder_that_others_may_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_to_all: str, linked: bool
) -> None:
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "kept").mkdir(mode=0o700)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / ("link" if linked else "kept")))
    kept = private_folder()
    assert kept == tmp_path / "kept" / "kernels"
    (tmp_path / open_to_all).chmod(0o777)
    with pytest.raises(ElmanError, match=f"others may write to {tmp_path / open_to_all}"):
        private_folder()
    (tmp_path / open_to_all).chmod(0o1777)  # as /tmp is
    if open_to_all != "kept/kernels":
        assert private_folder() == kept


WITH_SETTINGS = """
import os
from elman.kernels import numba
from elman.kernels.codegen.cache import kernel

os.chdir("later")  # Numba asks for its settings again before it compiles
assert kernel(lambda x: 2 * x)(21) == 42
print(numba.config.CACHE_DIR, numba.config.DISABLE_JIT, numba.config.NUMBA_NUM_THREADS)
import yaml
"""


def test_numba_reads_no_settings_from_the_current_folder(tmp_path: Path) -> None:
    settings = f"cache_dir: {tmp_path}\ndisable_jit: 1\nnum_threads: 77\nopt: 0\n"
    for folder in (tmp_path, tmp_path / "later"):
        folder.mkdir(exist_ok=True)
        (folder / ".numba_config.yaml").write_text(settings)
    done = subprocess.run(
        [sys.executable, "-c", WITH_SETTINGS],
        cwd=tmp_path,
        env=os.environ | {"NUMBA_NUM_THREADS": "3", "NUMBA_CACHE_DIR": ""},
        capture_output=True,
        text=True,
    )
    assert (done.stdout.split(), done.stderr) == (["0", "3"], "")


class Planted:
    """An object that runs code of its own when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


def test_no_code_from_the_current_folder_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said(tmp_path, tmp_path / "kept")
    for file in (tmp_path / "kept" / "kernels").iterdir():
        cache.write(file, pickle.dumps(Planted()))
    (tmp_path / ".numba_config.yaml").write_text(f"cache_dir: {tmp_path / 'kept'}")
    said(tmp_path, tmp_path / "other")
    assert not (tmp_path / "ran").exists()
    said(tmp_path, tmp_path / "kept")  # where the user wants it, what was planted is found
    assert (tmp_path / "ran").exists()


def test_every_source_of_the_kernels_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = sorted(path.relative_to(cache.KERNELS) for path in cache.KERNELS.rglob("*.py"))
    rooms = {source.parts[0] for source in sources if len(source.parts) > 1}
    assert rooms == {"codegen", "rnn", "host"}
    stamps = set()
    for changed in (None, *sources):
        for source in sources:
            text = (cache.KERNELS / source).read_text()
            (tmp_path / source).parent.mkdir(exist_ok=True)
            (tmp_path / source).write_text(text + ("# changed" if source == changed else ""))
        with monkeypatch.context() as within:
            within.setattr(cache, "KERNELS", tmp_path)
            cache.stamp.cache_clear()
            stamps.add(cache.stamp())
    cache.stamp.cache_clear()
    assert len(stamps) == len(sources) + 1


def test_a_full_disk_loses_the_compiled_code_and_no_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cache, "folder", lambda: tmp_path)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "replace", full)

    def triple(x: int) -> int:
        return 3 * x

    with caplog.at_level(logging.WARNING, "elman"):
        assert cache.kernel(triple)(2) == 6
    assert "cannot cache compiled kernels" in caplog.text
    assert not any(tmp_path.iterdir())
