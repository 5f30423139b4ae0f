"""Compiled kernels are kept, and no others are loaded than those that belong to the sources."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from elman.kernels import cache

MODULE = """
import logging, sys
FACTOR = {factor}
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
from elman.kernels import cache
cache.stamp = lambda: {stamp!r}

def double(x):
    return FACTOR * x

print(cache.kernel(double)(21))
"""


def said(tmp_path: Path, folder: Path, stamp: str = "one", factor: int = 2) -> list[str]:
    """What a process says that calls a kernel."""
    source = tmp_path / "module.py"
    source.write_text(MODULE.format(stamp=stamp, factor=factor))
    done = subprocess.run(
        [sys.executable, str(source)],
        env={"NUMBA_CACHE_DIR": str(folder), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


COMPILING = "compiling kernels for this processor, which takes some seconds the first time"


def test_the_second_process_finds_the_code_of_the_first(tmp_path: Path) -> None:
    assert said(tmp_path, tmp_path / "kept") == [COMPILING, "42"]
    assert said(tmp_path, tmp_path / "kept") == ["42"]


def test_code_of_other_sources_is_not_loaded(tmp_path: Path) -> None:
    said(tmp_path, tmp_path / "kept")
    assert said(tmp_path, tmp_path / "kept", "two", factor=3) == [COMPILING, "63"]


def test_code_that_was_cut_off_is_compiled_anew(tmp_path: Path) -> None:
    said(tmp_path, tmp_path / "kept")
    for file in (tmp_path / "kept" / "kernels").glob("*.nb*"):
        file.write_bytes(file.read_bytes()[:100])
    assert said(tmp_path, tmp_path / "kept") == [COMPILING, "42"]
    assert said(tmp_path, tmp_path / "kept") == ["42"]


def test_without_a_folder_kernels_are_compiled_each_time(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    told = (
        "compiled kernels cannot be kept, since their folder cannot be written: "
        "set NUMBA_CACHE_DIR to one that can"
    )
    assert said(tmp_path, blocked) == [told, "42"]


def test_the_engine_says_so_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    done = subprocess.run(
        [sys.executable, "-m", "elman", "info"],
        env={"NUMBA_CACHE_DIR": str(tmp_path / "file"), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert done.stderr.count("cannot be kept") == 1


def test_processes_that_compile_at_once_do_not_take_each_others_code(tmp_path: Path) -> None:
    def files() -> tuple[cache._File, cache._File]:
        return tuple(cache._File(str(tmp_path), "kernel", "stamp") for _ in range(2))

    one, other = files()
    one._load_index, other._load_index = dict, dict  # each begins before the other has saved
    one.save("int", "code for int")
    other.save("float", "code for float")
    reader, _ = files()
    assert reader.load("int") in (None, "code for int")
    assert reader.load("float") in (None, "code for float")


def test_every_source_of_the_kernels_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = sorted(Path(cache.__file__).parent.glob("*.py"))
    stamps = set()
    for changed in (None, *sources):
        for source in sources:
            text = source.read_text() + ("# changed" if source == changed else "")
            (tmp_path / source.name).write_text(text)
        monkeypatch.setattr(cache, "__file__", str(tmp_path / "cache.py"))
        cache.stamp.cache_clear()
        stamps.add(cache.stamp())
    cache.stamp.cache_clear()
    assert len(stamps) == len(sources) + 1


def test_a_full_disk_costs_the_code_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cache.config, "CACHE_DIR", str(tmp_path))

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.caching.FunctionCache, "save_overload", full)

    def triple(x: int) -> int:
        return 3 * x

    with caplog.at_level(logging.WARNING, "elman"):
        assert cache.kernel(triple)(2) == 6
    assert "compiled kernels cannot be kept" in caplog.text
