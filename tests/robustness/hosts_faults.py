"""Train on two hosts out of network namespaces, with something wrong on one of them.

    python -m tests.robustness.hosts_faults [FRAMEWORK [CASE ...]]

A case is named in CASES; without names, all are tried. A training ends in the bits of one process,
or each host that is left prints one line that names the hosts, within the stated time, and the
training can be resumed to the same bits. Prints a row for a case, and exits with 1 if this does not
hold. Needs Linux, root and iproute2; otherwise prints a line and ends.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

from tests.conftest import STORY
from tests.hosts import Launched, Switched, know_names, reason_without_hosts, switched, wait_until
from tests.robustness.hosts import (
    BY_HAND,
    ELASTIC,
    STATIC,
    bits_of_one,
    check,
    ended,
    launch,
    left,
    named,
    shared_folder,
)
from tests.workers import alone, digest, prepare, words

MORE = ("--epochs", "20", "--layers", "2", "--dropout", "0.2", "--checkpoint-every", "0")
SMALL_DISK = "512k"  # holds a run without its checkpoints


@dataclass(frozen=True)
class Place:
    """Two hosts, the folder that they share, and the commands that run on them."""

    net: Switched
    folder: Path
    started: list[Launched] = field(default_factory=list)

    def signal(self, number: signal.Signals, hosts: Sequence[int] = (1,)) -> None:
        """Send a signal to all processes of hosts."""
        for host in hosts:
            for process in self.net.hosts[host].processes():
                with suppress(ProcessLookupError):
                    os.kill(process, number)


@dataclass(frozen=True)
class Case:
    """Something that is wrong with a host.

    - `before`: done before the start; gives variables of the second host.
    - `during`: done after the first checkpoint.
    - `line`: pattern of the line on a host that is left, while others may give up; None if the
      training ends in the bits of one process.
    - `seconds`: until all have ended, at most, after what is done.
    - `more`: settings of the training.
    - `disk`: size of a file system that the hosts share.
    - `again`: all are started again when they have ended.
    """

    before: Callable[[Place], Mapping[str, str]] = lambda _: {}
    during: Callable[[Place], None] | None = None
    line: str | None = None
    seconds: float = 300
    way: str = STATIC
    left: Sequence[int] = (0, 1)
    more: Sequence[str] = ()
    disk: str | None = None
    again: bool = False


def power_off(place: Place, number: int) -> None:
    """A host is cut off at once, and ends."""
    host = place.net.hosts[number]
    place.net.cut(host)
    host.die()


def cut_for(place: Place, seconds: float) -> None:
    """The second host is cut off for a while."""
    host = place.net.hosts[1]
    place.net.cut(host)
    time.sleep(seconds)
    place.net.mend(host)


def stopped_for(place: Place, seconds: float) -> None:
    """The processes of the second host are stopped for a while."""
    place.signal(signal.SIGSTOP)
    time.sleep(seconds)
    for one in place.started:  # the programs that have started them stop with them
        with suppress(ProcessLookupError):
            os.kill(one.process.pid, signal.SIGCONT)
    place.signal(signal.SIGCONT)


def own_folder(place: Place, name: str, text: str | None = None) -> Mapping[str, str]:
    """The second host has a folder of its own, with a store of a text or empty, in its place."""
    own = place.folder / "own"
    own.mkdir()
    if text is None:
        (own / name).mkdir()
    else:
        prepare(own, text)
    at = str(place.folder / name)
    place.net.hosts[1].do("mount", "--bind", str(own / name), at)
    return {}


def full_disk(place: Place) -> Mapping[str, str]:
    """The second host has no space for temporary files and caches."""
    own = place.folder / "full"
    own.mkdir()
    place.net.hosts[1].do("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(own))
    filling = f"head -c 100000 /dev/zero > {own}/zeros || true"
    place.net.hosts[1].do("sh", "-c", filling)
    return {"TMPDIR": str(own), "NUMBA_CACHE_DIR": str(own), "XDG_CACHE_HOME": str(own)}


def loopback_names(place: Place) -> Mapping[str, str]:
    """Each host has its own name at 127.0.1.1, as Debian installs it."""
    for own in place.net.hosts:
        table = ["127.0.0.1 localhost", f"127.0.1.1 {own.name}"]
        for number, host in enumerate(place.net.hosts, 1):
            table += [f"10.0.0.{number} {host.name}"] if host != own else []
        know_names(own, table)
    return {}


NOW, MINUTE = 20, 75
GIVEN_UP = r"does not answer .*: end it on host1, host2, and start all workers again"
JAX_ENDS = "Terminating process because the JAX distributed service detected fatal errors"
SECOND_STOPS = partial(Place.signal, number=signal.SIGSTOP)
given_up = partial(Case, line=GIVEN_UP)
CASES = {
    "the second host loses its power": given_up(
        during=partial(power_off, number=1), seconds=MINUTE, left=[0]
    ),
    "the first host loses its power": given_up(
        during=partial(power_off, number=0), seconds=MINUTE, left=[1]
    ),
    "the processes of a host are killed": given_up(
        during=partial(Place.signal, number=signal.SIGKILL), seconds=NOW, left=[0]
    ),
    "cut off for 5 seconds": Case(during=partial(cut_for, seconds=5)),
    "cut off for 5 seconds, c10d": Case(during=partial(cut_for, seconds=5), way=ELASTIC),
    "cut off for 90 seconds": given_up(during=partial(cut_for, seconds=90), seconds=NOW),
    "a link of 1 Mbit/s": Case(during=lambda place: place.net.rate(place.net.hosts[1], 1)),
    "its processes are stopped for 5 seconds": Case(during=partial(stopped_for, seconds=5)),
    "its processes are stopped for 90 seconds": given_up(
        during=partial(stopped_for, seconds=90), seconds=NOW
    ),
    "its processes are stopped": given_up(during=SECOND_STOPS, seconds=MINUTE, left=[0]),
    "it is interrupted": Case(
        during=partial(Place.signal, number=signal.SIGTERM),
        line=r"^interrupted on host2: to continue, type",
    ),
    "another text": Case(
        before=partial(own_folder, name="store", text=STORY.replace("Once", "Then")),
        line=r"host2: .*store differs from the first worker's",
    ),
    "no text": Case(before=partial(own_folder, name="store"), line=r"host2: .*store"),
    "the run is not shared": Case(before=partial(own_folder, name="runs")),
    "the run is not shared, and goes on": Case(
        before=partial(own_folder, name="runs"),
        during=partial(Place.signal, number=signal.SIGTERM, hosts=(0, 1)),
        again=True,
    ),
    "the shared disk is full": Case(
        line=r"host1: .*No space left", more=("--hidden", "64", "--epochs", "2"), disk=SMALL_DISK
    ),
    "no space for temporary files": Case(before=full_disk),
    "names at 127.0.1.1, c10d": Case(before=loopback_names, way=ELASTIC),
}
# JAX gives up a worker that is stopped after two minutes, and ends the process itself.
CASES_OF_JAX = {
    "its processes are stopped for 90 seconds": Case(during=partial(stopped_for, seconds=90)),
    "its processes are stopped": Case(during=SECOND_STOPS, line=JAX_ENDS, seconds=150, left=[0]),
}


def cases_of(framework: str) -> dict[str, Case]:
    """Cases by name. JAX is started by hand."""
    if framework != "jax":
        return CASES
    found = {name: case for name, case in CASES.items() if case.way != ELASTIC} | CASES_OF_JAX
    return {name: replace(case, way=BY_HAND) for name, case in found.items()}


def attempt(case: Case, framework: str, folder: Path, run: Path) -> str:
    """Try a case; what has happened in a few words. Exit if it should not."""
    disk = None if case.disk is None else (run.parent, case.disk)
    with switched(named(2), 1000, disk) as net:
        place = Place(net, folder)
        command = words(framework, str(run), *MORE, *case.more)
        second = case.before(place)

        def begin() -> list[Launched]:
            started = launch(net, folder, command, case.way, second=second)
            place.started.extend(started)
            return started

        try:
            started = begin()
            if case.during is not None:
                seen = net.hosts[0].path(run)
                wait_until(lambda: checkpoints(seen) or all_ended(started), 120)
                case.during(place)
            took = seconds_until_ended(case, started)
            if case.again:
                check(checkpoints(run), "no checkpoint is left")
                started = begin()
                seconds_until_ended(case, started)
            check(not left([net.hosts[number] for number in case.left]), "a process is left")
            return outcome(case, [started[number] for number in case.left], took)
        finally:
            for one in place.started:
                one.process.kill()  # it may be stopped
                one.process.wait()


def seconds_until_ended(case: Case, started: Sequence[Launched]) -> float:
    """Wait for the hosts that are left; the seconds. Exit if it takes too long."""
    began = time.monotonic()
    try:
        ended([started[number] for number in case.left], case.seconds)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"failed: not ended in {case.seconds:g} s: {told(started)}") from None
    return time.monotonic() - began


def outcome(case: Case, started: Sequence[Launched], took: float) -> str:
    """What the hosts that are left have printed, or that they have ended in order."""
    if case.line is None:
        check(not any(one.process.returncode for one in started), told(started))
        return f"{took:.0f} s, the same bits"
    lines = [said(one) for one in started]
    check(all(len(own) == 1 for own in lines), told(started))
    found = [line for (line,) in lines if re.search(case.line, line)]
    check(found, told(started))
    check(all(re.search(f"{case.line}|{GIVEN_UP}", line) for (line,) in lines), told(started))
    return f"{took:.0f} s, {found[0]}"


def said(one: Launched) -> list[str]:
    """The lines with which elman has ended on a host, or JAX if it has ended the process before."""
    of_jax = [line for line in one.err.read_text(errors="replace").splitlines() if JAX_ENDS in line]
    of_elman = [line.removeprefix("elman: ") for line in one.lines]
    return [line for line in of_elman if "before the first" not in line] or of_jax


def told(started: Sequence[Launched]) -> str:
    """The lines and exit codes of all hosts."""
    return "".join(
        f"\n{one.host.name}, {one.process.returncode}: "
        + ("\n".join(one.lines) or one.err.read_text()[-1500:])
        for one in started
    )


def all_ended(started: Sequence[Launched]) -> bool:
    """True if no command is running."""
    return all(one.process.poll() is not None for one in started)


def checkpoints(run: Path) -> list[Path]:
    """Checkpoints of a run, newest last."""
    return sorted(run.glob("checkpoints/0*.safetensors"))


@cache
def expected_bits(framework: str, more: Sequence[str]) -> str:
    """Digest of the weights that one process trains."""
    with shared_folder() as folder:
        return bits_of_one(folder, framework, *MORE, *more)


def tried(name: str, framework: str) -> None:
    """Print a row for a case."""
    case = cases_of(framework)[name]
    expected = expected_bits(framework, case.more)
    with shared_folder() as folder:
        (folder / "runs").mkdir()
        run = folder / "runs" / "two"
        found = attempt(case, framework, folder, run)
        if case.line is not None and checkpoints(run):
            resumed = alone(folder, ["train", "--resume", str(run)])
            check(resumed.returncode == 0, resumed.stderr)
            found += "; resumed to the same bits"
        if run.exists():
            check(digest(run) == expected, f"other bits: {name}")
        print(f"| {framework} | {name} | {found} |", flush=True)


def main() -> None:
    """Try what the arguments name."""
    if (reason := reason_without_hosts()) is not None:
        print(f"no hosts: {reason}")
        return
    framework, *parts = sys.argv[1:] or ["numba"]
    failed = 0
    for name in cases_of(framework):
        if parts and not any(part in name for part in parts):
            continue
        try:
            tried(name, framework)
        except (SystemExit, subprocess.TimeoutExpired) as error:
            failed += 1
            print(f"| {framework} | {name} | {error} |", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
