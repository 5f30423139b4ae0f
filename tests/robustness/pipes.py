"""Take pipes and terminals away from trainings at random moments, and see that nothing is lost.

    python tests/robustness/pipes.py [NUMBER] [SEED]

NUMBER (50) trainings, and as many that go on after they were killed, write into pipes, or to a
terminal of their own; at a random moment nobody reads them any more. With a pipe a training must
go on, and end with the weights and the history of one that had a reader. A terminal hangs up: then
a training that was under way must leave a checkpoint, from which it comes to the same. Exits with
1 where that is not so.
"""

import os
import pty
import random
import select
import sys
import time
from collections import Counter
from pathlib import Path

from kills import FINISHED, command_line, newest, outcome, prepared, train

WORDS = (
    "--recipe book --cell gru --optimizer adam --epochs 8 --hidden 8 --batch-size 16 --seq-len 16"
)
BEGIN = ["story.txt", *WORDS.split()]
WAYS = {"standard error": (2,), "standard output": (1,), "both": (1, 2), "terminal": ()}


def main() -> int:
    """Cut so many trainings and resumes off; 0 where nothing was lost."""
    number, seed = [*sys.argv[1:], "50", "0"][:2]
    chance = random.Random(int(seed))
    with prepared("numba", "text", BEGIN) as most:
        for kind in ("trainings", "resumes"):
            cut: Counter[str] = Counter()
            while cut.total() < int(number):
                way = list(WAYS)[cut.total() % len(WAYS)]
                problem = cut_off_one(kind, way, most, chance)
                if problem is None:
                    continue  # it had ended before
                if problem:
                    print(f"{kind}, {way}: {problem}")
                    return 1
                cut[way] += 1
            print(f"{kind}: " + ", ".join(f"{cut[way]} {way}" for way in WAYS) + ", 0 lost")
    return 0


def cut_off_one(kind: str, way: str, most: float, chance: random.Random) -> str | None:
    """Cut a training off, and tell what was lost; None where it had ended before."""
    run = Path(f"run-{chance.random()}")
    words = [*BEGIN, "--out", str(run)]
    if kind == "resumes":
        train([*words, "--checkpoint-every", "0"], seconds=chance.uniform(0, most))
        words = ["--resume", str(run)]
        if newest(run) in (0, FINISHED):
            return None
    said, code = cut_off(words, WAYS[way], chance.uniform(0, most))
    return None if code is None else lost(run, way, said, code)


def cut_off(words: list[str], streams: tuple[int, ...], seconds: float) -> tuple[str, int | None]:
    """Train in a child that nobody listens to after some seconds: what it said, and its exit code.

    There is none where it had ended before. Without `streams` it has a terminal of its own.
    """
    ours, theirs = os.pipe() if streams else (-1, -1)
    child, terminal = (os.fork(), ours) if streams else pty.fork()
    if child == 0:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2) if streams else ():
            os.dup2(theirs if stream in streams else nowhere, stream)
        for descriptor in (ours, theirs) if streams else ():
            os.close(descriptor)
        command_line(words)
    if streams:
        os.close(theirs)
    said, until = b"", time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if select.select([terminal], [], [], left)[0]:
            try:
                part = os.read(terminal, 1 << 16)
            except OSError:  # Linux's way of telling that a terminal has no other end
                part = b""
            if not part:
                break
            said += part
    ended = os.waitpid(child, os.WNOHANG)[0] != 0
    os.close(terminal)
    code = None if ended else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return said.decode(errors="replace"), code


def lost(run: Path, way: str, said: str, code: int) -> str:
    """Tell what a training that was cut off has lost; nothing, if all is well."""
    expected = {"standard error": (0,), "terminal": (0, 1, 130, -1)}.get(way, (0, 1))
    if code not in expected:
        return f"it ended with {code}, and said {said!r}"
    if way == "terminal" and newest(run) != FINISHED:
        if not run.exists():
            return f"nothing is left after {said!r}" if " train " in said else ""
        if not newest(run):
            return f"there is no checkpoint after {said!r}"
        train(["--resume", str(run)])
    if newest(run) != FINISHED:
        return f"there is no run, after the code {code} and {said!r}"
    return "" if outcome(run) == outcome(Path("whole")) else "it came to something else"


if __name__ == "__main__":
    sys.exit(main())
