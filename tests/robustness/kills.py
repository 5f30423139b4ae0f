"""Kill trainings at random moments, go on with each, and see that nothing is lost.

    python tests/robustness/kills.py FRAMEWORK [KILLS] [SEED] [KIND]

A child of this process, which has imported the framework, trains with a checkpoint after every
update, and is killed (SIGKILL): every other time within the time that some of it takes, else at
one of the calls that write. The next goes on. No update may be lost of which there was a
checkpoint, and a training that ends must have the weights and the history of one that nobody
killed. The kind is text, lines, pairs, or cell for a custom cell. Exits with 1 where that is not
so.
"""

import csv
import importlib
import mmap
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import elman

WORDS = "--layers 2 --dropout 0.2 --epochs 8 --hidden 8 --batch-size 16 --schedule cosine"
MODEL = "--recipe book --optimizer adam --seq-len 16 --cell"
KINDS = {
    "text": f"{MODEL} lstm",
    "lines": f"{MODEL} lstm --lines",
    "pairs": "--pairs --split 0.8,0.2",
    "cell": f"{MODEL} sine",
}
MOST_CALLS = 200  # some 30 checkpoints
FINISHED = 1 << 62  # updates

kept = mmap.mmap(-1, 8)  # the updates in the last checkpoint, as the child tells us


def main() -> int:
    """Kill so many times; 0 where nothing was lost."""
    given = sys.argv[1:]
    framework, kills, seed, kind = [*given, *("100", "0", "text")[len(given) - 1 :]]
    chance = random.Random(int(seed))
    words = f"{KINDS[kind]} {WORDS} --checkpoint-every 0 --framework {framework}"
    begin = ["story.txt", *words.split()]
    done, ended, resumed = 0, 0, 0
    with prepared(framework, kind, begin) as most:
        while done < int(kills):
            run = Path(f"run-{ended}")
            if newest(run) == FINISHED:
                if outcome(run) != outcome(Path("whole")):
                    print(f"{run} ended otherwise than the training that nobody killed")
                    return 1
                ended += 1
                continue
            resumed += any(run.glob("checkpoints/*"))
            words = ["--resume", str(run)] if run.exists() else [*begin, "--out", str(run)]
            keep(0)
            if done % 2:
                killed = train(words, seconds=chance.uniform(0, most))
            else:
                killed = train(words, call=chance.randint(1, MOST_CALLS))
            done += killed
            if killed and newest(run) < int.from_bytes(kept[:], "little"):
                print(f"{run} had a checkpoint that was lost")
                return 1
    print(f"{framework}: {done} kills of {kind}, {resumed} resumed, {ended} ended in the same bits")
    return 0


@contextmanager
def prepared(framework: str, kind: str, words: list[str]) -> Iterator[float]:
    """Be in a folder with a text and its undisturbed training, `whole`; gives its seconds."""
    importlib.import_module(f"elman.{framework}")
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        Path("story.txt").write_text(content(kind))
        train([*words, "--out", "compiled"])
        began = time.monotonic()
        train([*words, "--out", "whole"])
        yield time.monotonic() - began


def content(kind: str) -> str:
    """A text, different lines, or words and their reverse; a custom cell is registered."""
    if kind == "cell":
        step = lambda xp, x, r, state: (xp.sin(x + r),)  # noqa: E731
        elman.register(elman.Cell("sine", ("h",), step))
    if kind in ("text", "cell"):
        return "Once upon a time, said he. \n" * 143
    chance = random.Random(0)
    number = 300 if kind == "pairs" else 2000
    lines = ["".join(chance.choices("abcdefgh", k=6)) for _ in range(number)]
    return "".join(f"{line}\t{line[::-1]}\n" if kind == "pairs" else f"{line}\n" for line in lines)


def command_line(words: list[str], call: int = 0) -> None:
    """Train in this process, which has its own streams 1 and 2, and end it, at a call if given."""
    from faults import Kill, failing

    sys.stdout, sys.stderr = open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    sys.argv, code = ["elman", "train", *words], 1
    try:
        from elman.cli import main

        with failing(call, Kill()):
            main()
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        os._exit(code)


def train(words: list[str], seconds: float | None = None, call: int = 0) -> bool:
    """Train in a child, and tell whether it was killed before it had ended."""
    child = os.fork()
    if child == 0:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        tell_what_is_kept()
        command_line(words, call)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code > 0:
        raise SystemExit(f"elman train {' '.join(words)} exited with {code}")
    return code < 0


def tell_what_is_kept() -> None:
    """From here on each checkpoint, once it is written, is told to the parent."""
    from elman.training import checkpoint

    write = checkpoint.write

    def telling(folder: Path, number: int, *rest: Any) -> None:
        write(folder, number, *rest)
        keep(number)

    checkpoint.write = telling


def keep(number: int) -> None:
    """Tell the parent, or begin anew."""
    kept[:] = number.to_bytes(8, "little")


def newest(run: Path) -> int:
    """The updates in the newest checkpoint of a run, or all there are where it is finished."""
    if (run / "config.json").exists():
        return FINISHED
    return max((int(path.stem) for path in run.glob("checkpoints/0*.safetensors")), default=0)


def outcome(run: Path) -> tuple[bytes, list[list[str]]]:
    """The weights of a run, and its history but for the times."""
    with (run / "history.csv").open(newline="") as file:
        return (run / "model.safetensors").read_bytes(), [row[:3] for row in csv.reader(file)]


if __name__ == "__main__":
    sys.exit(main())
