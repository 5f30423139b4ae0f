"""Give the command line files that ask for much memory, and print a table of the outcomes.

    python tests/robustness/attacks.py [NAME ...]

Each attack runs `elman` in processes of its own, in a folder of its own, and says in a few words
what happened; `held` tells whether the claim held. Peak memory is VmHWM at the end of a process.
Exits with 1 where a claim did not hold. Linux.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import load_file
from spoiling import signed

import elman
from elman.errors import ElmanError
from elman.training.callback import Callback
from elman.training.checkpoint import paths, read, write

STORY = "Once upon a time, said he. \n" * 143
MEGABYTE = 1 << 20
TOLD = (
    "import atexit, sys; from elman.files.memory import peak_memory_mb as peak; "
    "atexit.register(lambda: print('peak', peak(), file=sys.stderr)); "
    "from elman.cli import main; main()"
)


class Ended(NamedTuple):
    """The outcome of a command: exit code, lines of standard error, peak memory in MB."""

    code: int
    lines: list[str]
    peak: int


def check(holds: object, what: str) -> None:
    """Raise an AssertionError, which the table shows, unless a claim holds."""
    if not holds:
        raise AssertionError(what)


def run(folder: Path, *words: str) -> Ended:
    """Run `elman WORDS` in a folder to its end, which must be no traceback."""
    command = [sys.executable, "-P", "-c", TOLD, *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)
    *lines, last = done.stderr.splitlines() or [""]
    peak = re.fullmatch(r"peak (\d+)", last)
    check(peak and not any("Traceback" in line for line in lines), f"it ended with {last}")
    return Ended(done.returncode, lines, int(peak[1]) if peak else 0)


def refused(folder: Path, most: int, *words: str) -> str:
    """Run what is refused without a traceback, with so much memory at most."""
    done = run(folder, *words)
    check(done.code == 2, f"exit code {done.code}: {done.lines}")
    check(done.peak < most, f"{done.peak} MB")
    return f"{done.peak} MB: {done.lines[0].removeprefix('elman: ')[:110]}"


class Stop(Callback):
    """Fails after an update, so that a checkpoint is left."""

    def after_update(self, trainer: object) -> None:
        """Fail."""
        raise ElmanError("stopped")


def trained(folder: Path, *callbacks: Callback) -> Path:
    """A run, or a training that a callback has stopped."""
    (folder / "story.txt").write_text(STORY)
    sizes = {"hidden": 8, "seq_len": 8, "batch_size": 16, "epochs": 2}
    try:
        elman.train(
            folder / "story.txt", out=folder / "run", recipe="book", framework="numpy",
            callbacks=callbacks, quiet=True, **sizes,
        )  # fmt: skip
    except ElmanError:
        check(callbacks, "the training failed")
    return folder / "run"


def large_history(folder: Path) -> str:
    """A history of 64 MiB of line ends."""
    path = trained(folder) / "history.csv"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0].ljust(64 * MEGABYTE, b"\n"))
    return refused(folder, 700, "compare", "run")


def large_vocabulary(folder: Path) -> str:
    """A vocabulary of 64 MiB of empty lists in lists."""
    lists = b"[" + b"[[]]," * (64 * MEGABYTE // 5 - 2) + b"[[]]]"
    (trained(folder) / "vocab.json").write_bytes(lists)
    return refused(folder, 700, "generate", "run", "Once", "--framework", "numpy")


def large_state(folder: Path) -> str:
    """A checkpoint whose state is 96 MB of lists in lists."""
    (path,) = paths(trained(folder, Stop()) / "checkpoints")
    path.write_bytes(signed(load_file(path), "[" + "[[]]," * (96_000_000 // 5) + "[]]"))
    return refused(folder, 700, "train", "--resume", "run")


def large_checkpoint(folder: Path) -> str:
    """A checkpoint with a gigabyte of bytes more."""
    (path,) = paths(trained(folder, Stop()) / "checkpoints")
    arrays, state = read(path)
    write(path.parent, int(path.stem), arrays | {"more": np.zeros(10**9, np.uint8)}, state)
    return refused(folder, 1350, "train", "--resume", "run")


def different_words(folder: Path) -> str:
    """Texts of 10, 40 and 80 MB in which all words are different."""
    peaks = []
    for size in (10, 40, 80):
        with (folder / "words.txt").open("w") as file:
            file.writelines(f"w{n:08x} " for n in range(size * 10**5))
        words = ("words.txt", "--tokenizer", "word", "--out", f"store-{size}")
        peaks.append(run(folder, "prepare", *words).peak)
    check(peaks[-1] < 1.6 * peaks[-2], f"{peaks} MB")
    return f"{peaks} MB"


ATTACKS: dict[str, Callable[[Path], str]] = {
    "a history of line ends": large_history,
    "a vocabulary of lists": large_vocabulary,
    "a trainer state of 96 MB": large_state,
    "a checkpoint of a gigabyte": large_checkpoint,
    "all words different": different_words,
}


def main() -> int:
    """Attack, and print a row for each; 0 where all claims held."""
    failed = 0
    print("| attack | held | outcome |\n|---|---|---|")
    for name in sys.argv[1:] or ATTACKS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                held, outcome = "yes", ATTACKS[name](Path(folder))
            except Exception as error:
                failed += 1
                held, outcome = "NO", str(error) or repr(error)
        print(f"| {name} | {held} | {outcome.replace(f'{folder}/', '')} |", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
