"""Compare, kill and add the workers of trainings, and see that their bits stay the same.

    python -m tests.robustness.workers curves FRAMEWORK [RATE]
    python -m tests.robustness.workers kills FRAMEWORK [KILLS]
    python -m tests.robustness.workers elastic FRAMEWORK

`curves`: trainings of all cells in one process, in two workers, and in another number of shards;
SGD with its default learning rate, or another.
`kills`: workers are killed at random moments, and the training goes on with 1, 2 or 4 of them.
`elastic`: a second torchrun, as of another machine, joins a training and is killed; the seconds
until the first goes on. Each prints a line for a case, and exits with 1 if something was lost.
"""

import itertools
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from elman.model.cells import CELLS
from elman.training.workers.processes import free_port
from tests.robustness.hosts import LONGEST, bits_of_one, check, shared_folder
from tests.robustness.kills import FINISHED, newest
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
LONG = ("--epochs", "60", "--layers", "2", "--dropout", "0.2", "--checkpoint-every", "0")
CHANCE = random.Random(0)


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


def running(launched: "subprocess.Popen[str]") -> Iterator[int]:
    """Workers that have not ended."""
    for process in workers_of(launched).values():
        try:
            ended = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if not ended:
            yield process


def kills(framework: str, number: str = "10") -> None:
    """Workers killed at random moments until so many have been."""
    with shared_folder() as place:
        expected, done, ended = bits_of_one(place, framework, *LONG), 0, 0
        while done < int(number):
            run, size = f"run-{ended}", CHANCE.choice((1, 2, 4))
            begun = (place / run).exists()
            command = ["train", "--resume", run] if begun else words(framework, run, *LONG)
            launched = start(place, size, command)
            done += killed(launched, size)
            before = newest(place / run)
            launched.communicate(timeout=LONGEST)
            check(newest(place / run) >= before, f"a checkpoint of {run} was lost")
            if newest(place / run) == FINISHED:
                check(digest(place / run) == expected, f"{run} has other bits")
                ended += 1
        print(f"| {framework} | {done} | {ended} | 0 |", flush=True)


def killed(launched: "subprocess.Popen[str]", size: int) -> bool:
    """Kill a worker after a while; False if all have ended before."""
    while len(workers_of(launched)) < size and launched.poll() is None:
        time.sleep(0.1)
    time.sleep(CHANCE.uniform(0, 15))  # most of it is imports
    victims = [*running(launched)]
    if victims:
        kill(CHANCE.choice(victims))
    return bool(victims)


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
    {"curves": curves, "kills": kills, "elastic": elastic}[way](*rest)


if __name__ == "__main__":
    main()
