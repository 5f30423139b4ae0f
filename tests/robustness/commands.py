"""Commands in processes of their own, watched, for `tests/robustness/attacks.py`."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SMALL = ["--recipe=book", "--hidden", "8", "--seq-len", "8", "--batch-size", "16", "--epochs", "2"]
QUICK = [*SMALL, "--framework", "numpy"]
STORY = "Once upon a time, said he. \n" * 143
ELMAN = [sys.executable, "-P", "-m", "elman"]


@dataclass(frozen=True)
class Ended:
    """The outcome of a command: exit code, output, peak memory in MB, seconds."""

    code: int
    out: str
    err: str
    peak: int
    seconds: float

    @property
    def said(self) -> str:
        """The last line of standard error, without the program's name."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        return lines[-1].removeprefix("elman: ")[:110] if lines else ""


def begin(folder: Path, words: Sequence[str], **given: Any) -> "subprocess.Popen[bytes]":
    """Start `elman WORDS` in a folder."""
    env, command = os.environ | given.pop("env", {}), given.pop("command", ELMAN)
    return subprocess.Popen([*command, *words], cwd=folder, env=env, **given)


def run(folder: Path, *words: str, timeout: float = 200, **given: Any) -> Ended:
    """Run `elman WORDS` in a folder to its end."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.monotonic()
        child = begin(folder, words, stdout=out, stderr=err, **given)
        return watched(child, out, err, began, timeout)


def watched(child: Any, out: Any, err: Any, began: float, timeout: float) -> Ended:
    """Wait for a child, and watch its peak memory."""
    peak = 0
    while child.poll() is None:
        peak = max(peak, peak_memory(child.pid))
        if time.monotonic() - began > timeout:
            child.kill()
        time.sleep(0.01)
    texts = []
    for file in (out, err):
        file.seek(0)
        texts.append(file.read().decode(errors="replace"))
    return Ended(child.returncode, *texts, peak, time.monotonic() - began)


def peak_memory(pid: int) -> int:
    """The most memory in MB that a process has had in use so far; 0 where it has ended."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) // 1024 if found else 0
    return 0


def check(holds: object, what: str) -> None:
    """Raise an AssertionError, which the table shows, unless a claim holds."""
    if not holds:
        raise AssertionError(what)


def one_line(done: Ended, codes: Sequence[int] = (1, 2)) -> str:
    """The refusal of a command; it must be one line, and no traceback."""
    check("Traceback" not in done.err, f"traceback: {done.said}")
    check(done.code in codes, f"exit code {done.code}: {done.said}")
    lines = [line for line in done.err.splitlines() if not line.startswith("epoch ")]
    check(len(lines) == 1, f"{len(lines)} lines: {done.said}")
    return done.said


def story(folder: Path) -> str:
    """A text of 4,000 characters."""
    (folder / "story.txt").write_text(STORY)
    return "story.txt"


def trained(folder: Path, *words: str, name: str = "run") -> Path:
    """A run of two epochs."""
    done = run(folder, "train", story(folder), *QUICK, "--out", name, *words)
    check(done.code == 0, f"training failed: {done.said}")
    return folder / name


def stopped(folder: Path) -> Path:
    """A run whose training was ended by SIGTERM, with checkpoints."""
    words = [*QUICK, "--epochs", "100000", "--checkpoint-every", "0", "--out", "half"]
    child = begin(folder, ["train", story(folder), *words], stderr=subprocess.DEVNULL)
    wait_for(lambda: len(list(folder.glob("half/checkpoints/*.safetensors"))) > 1)
    child.terminate()
    child.wait(60)
    return folder / "half"


def wait_for(true: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        check(time.monotonic() < end, "it did not begin")
        time.sleep(0.002)
