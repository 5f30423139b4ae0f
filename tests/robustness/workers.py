"""Compare and add the workers of trainings, and see that their bits stay the same.

    python -m tests.robustness.workers curves FRAMEWORK [RATE]
    python -m tests.robustness.workers elastic FRAMEWORK

`curves`: trainings of all cells in one process, in two workers, and in another number of shards;
SGD with its default learning rate, or another.
`elastic`: a second torchrun, as of another machine, joins a training and is killed; the seconds
until the first goes on. Each prints a line for a case, and exits with 1 if something was lost.
"""

import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from elman.model.cells import CELLS
from elman.training.workers.processes import free_port
from tests.robustness.hosts import LONGEST, bits_of_one, check, shared_folder
from tests.robustness.kills import newest
from tests.workers import (
    await_checkpoint,
    digest,
    kill,
    losses,
    start,
    together,
    words,
    workers_of,
)

HUNDRED = ("--epochs", "9")  # of 12 updates


def curves(framework: str, *rate: str) -> None:
    """Losses of a hundred updates, beside those of two workers and of one shard."""
    rates = {"sgd": ["--lr", *rate] if rate else [], "adam": []}
    cases = itertools.product(CELLS, ("sgd", "adam"), ("random", "contiguous"))
    with shared_folder() as place:
        for number, case in enumerate(cases):
            options = zip(("--cell", "--optimizer", "--batching"), case, strict=True)
            more = [*HUNDRED, *itertools.chain(*options), *rates[case[1]]]
            one, two, whole = (f"{name}-{number}" for name in ("one", "two", "whole"))
            expected = bits_of_one(place, framework, *more, "--shards", "2", run=one)
            code, _, err = together(place, 2, words(framework, two, *more, "--shards", "2"))
            check(code == 0, err)
            check(digest(place / two) == expected, f"{case} has other bits")
            bits_of_one(place, framework, *more, "--shards", "1", run=whole)
            known, same, other = (losses(place / run) for run in (one, two, whole))
            check(same == known, f"{case} has another curve")
            difference = max(abs(a - b) for a, b in zip(known, other, strict=True))
            print(f"| {framework} | {' | '.join(case)} | 0 | {difference:.1e} |", flush=True)


def elastic(framework: str) -> None:
    """A training whose second machine comes late and leaves early."""
    more = ("--hidden", "256", "--epochs", "400", "--checkpoint-every", "1")
    # Others do not find the shared store of a torchrun that has started before.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    endpoint = f"localhost:{free_port()}"
    meeting = ("--nnodes", "1:2", "--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint)
    meeting += ("--rdzv-conf", "last_call_timeout=3")  # in place of 30 seconds
    with shared_folder() as place:
        expected, run = bits_of_one(place, framework, *more), place / "run"

        def machine() -> "subprocess.Popen[str]":
            return start(place, 1, words(framework, "run", *more), 9, meeting=meeting)

        first = machine()
        reader = threading.Thread(target=first.communicate, daemon=True)
        reader.start()  # a full pipe would stop it
        await_checkpoint(run)
        began, second = time.monotonic(), machine()
        joined = goes_on(first, run, 2) - began
        began = time.monotonic()
        for process in (second.pid, *workers_of(second).values()):
            kill(process)
        left = goes_on(first, run, 1) - began
        second.communicate()
        reader.join(LONGEST)
        check(first.returncode == 0, f"the training exited with {first.returncode}")
        check(digest(run) == expected, "the training has other bits")
        print(f"| {framework} | {joined:.1f} | {left:.1f} |", flush=True)


def goes_on(launched: "subprocess.Popen[str]", run: Path, size: int) -> float:
    """Time at which a checkpoint of so many workers is written."""
    before, end = None, time.monotonic() + LONGEST
    while before is None or newest(run) <= before:
        check(time.monotonic() < end, "the training does not go on")
        check(launched.returncode is None, "the training ended before")
        if before is None and size in workers_of(launched, "WORLD_SIZE"):
            before = newest(run)
        time.sleep(0.1)
    return time.monotonic()


def main() -> None:
    """Run what the arguments name."""
    way, *rest = sys.argv[1:]
    {"curves": curves, "elastic": elastic}[way](*rest)


if __name__ == "__main__":
    main()
