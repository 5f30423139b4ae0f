"""Feed spoilt run directories, checkpoints, histories, stores and texts to all that reads them.

    python tests/robustness/hostile.py [NUMBER] [SEED]

Each of NUMBER (10,000) inputs is a good one changed in one or two places. It must be read, or be
refused by an ElmanError of one line: any other exception, a warning, more than ten seconds, or
memory beyond a gibibyte is a failure, which is printed, and ends the command with 1. The table
that is printed counts the inputs by their kind.
"""

import contextlib
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from good_files import Good
from spoiling import Chance
from spoilt_inputs import (
    KINDS,
)

from elman.errors import ElmanError

SECONDS = 10
MEMORY = 1 << 30


class HangError(BaseException):
    """It took too long."""


@contextlib.contextmanager
def within_seconds() -> Iterator[None]:
    """End the block with a HangError where it does not end by itself."""

    def alarm(*_: Any) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def accepted(act: Callable[[], Any]) -> bool:
    """True if an input is read; False where it is refused as it should be."""
    try:
        with within_seconds():
            act()
    except ElmanError as error:
        if len(str(error).splitlines()) != 1:
            raise AssertionError(f"not one line: {error}") from error
        return False
    return True


def attempt(number: int, seed: int) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Try so many inputs: how many of each kind were refused and accepted, and what failed."""
    counts: Counter[tuple[str, str]] = Counter()
    failures = []
    logging.getLogger("elman").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        good = Good(Path(folder))
        for count in range(number):
            chance = Chance(f"{seed} {count}")
            name = list(KINDS)[count % len(KINDS)]
            place = Path(folder) / "place"
            place.mkdir()
            act = KINDS[name](good, place, chance)
            try:
                counts[name, "accepted" if accepted(act) else "refused"] += 1
            except (Exception, HangError):
                failures.append(f"{name}, number {count}:\n{traceback.format_exc(limit=-6)}")
            shutil.rmtree(place)
    return counts, failures


def bounded_memory() -> None:
    """From here on this process can have no more than a gibibyte beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main() -> int:
    """Try so many inputs; 0 where none failed."""
    number, seed = (int(word) for word in [*sys.argv[1:], "10000", "0"][:2])
    warnings.simplefilter("error")
    if sys.platform == "linux":
        bounded_memory()
    counts, failures = attempt(number, seed)
    if failures:
        print("\n".join(failures[:20]))
    print(f"{'kind':<20} {'tried':>7} {'refused':>8} {'accepted':>9}")
    for name in KINDS:
        refused, taken = counts[name, "refused"], counts[name, "accepted"]
        print(f"{name:<20} {refused + taken:>7} {refused:>8} {taken:>9}")
    print(f"{len(failures)} failed of {number}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
