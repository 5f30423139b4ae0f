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


def test_a_second_process_loads_the_code_compiled_by_the_first(tmp_path: Path) -> None:
    assert said(tmp_path, tmp_path / "kept") == [COMPILING, "42"]
    assert said(tmp_path, tmp_path / "kept") == ["42"]


def test_code_of_other_sources_is_not_loaded(tmp_path: Path) -> None:
    said(tmp_path, tmp_path / "kept")
    assert said(tmp_path, tmp_path / "kept", "two") == [COMPILING, "42"]


def test_code_of_another_version_of_its_own_file_is_not_loaded(tmp_path: Path) -> None:
    said(tmp_path, tmp_path / "kept")
    assert said(tmp_path, tmp_path / "kept", factor=3) == [COMPILING, "63"]


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


def test_a_cache_that_cannot_be_kept_is_reported_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    done = subprocess.run(
        [sys.executable, "-m", "elman", "info"],
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "file")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert done.stderr.count("cannot cache compiled kernels") == 1


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


def test_a_folder_of_the_current_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "here")
    with pytest.raises(ElmanError, match="NUMBA_CACHE_DIR must be an absolute path, got here"):
        private_folder()
    assert not any(tmp_path.iterdir())


@ON_UNIX
def test_a_user_without_a_home_has_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # a number that no user has
    with pytest.raises(ElmanError, match="the user's cache folder is not known"):
        private_folder()
    assert not any(tmp_path.iterdir())


@ON_UNIX
@pytest.mark.parametrize("open_to_all", ["kept/kernels", "kept", "."])
def test_a_folder_that_others_may_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_to_all: str
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kept"))
    kept = private_folder()
    (tmp_path / open_to_all).chmod(0o777)
    with pytest.raises(ElmanError, match=f"others may write to {tmp_path / open_to_all}"):
        private_folder()
    (tmp_path / open_to_all).chmod(0o1777)  # as /tmp is
    if open_to_all != "kept/kernels":
        assert private_folder() == kept


@ON_UNIX
def test_a_link_counts_as_the_folder_that_it_leads_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "link"))
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("elsewhere")
    assert private_folder() == tmp_path / "elsewhere" / "kernels"
    (tmp_path / "elsewhere").chmod(0o777)
    with pytest.raises(ElmanError, match=f"others may write to {tmp_path / 'elsewhere'}"):
        private_folder()


@ON_UNIX
def test_a_folder_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    private_folder()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(ElmanError, match="belongs to another user"):
        private_folder()


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


def test_each_signature_has_a_file_of_its_own(tmp_path: Path) -> None:
    """Of two processes that compile at once, neither loads what the other wrote."""
    context = cache.numba.core.registry.cpu_target.target_context

    def double(x: Any) -> Any:
        return 2 * x

    kept = cache._Cache(double, tmp_path)
    codegen = context.codegen()
    types = (cache.numba.int64, cache.numba.float64)
    (one, _), (other, _) = (kept._entry((kind,), codegen) for kind in types)
    assert one != other
    cache.write(one, cache.dumps((kept._entry((types[1],), codegen)[1], ())))
    assert kept.load_overload((types[0],), context) is None


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
