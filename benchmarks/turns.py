"""Contenders in processes of their own take turns; all but the one at its turn are stopped.

A library's threads go on spinning for a while after their work; a stopped process spins no more, so
that no contender disturbs the next.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Work = Callable[[], Any]
TURN = 0.1  # seconds: a process that was stopped takes some milliseconds to be at full speed


class Contender:
    """A process that answers each line on its standard input with the seconds that a turn took.

    Its first line is `ready`, or the reason why it takes no part.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            env=os.environ | dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        said = ""
        while (line := self._line()) not in ("ready\n", ""):  # a library may print before
            said = line.strip() or said
        self.absent = "" if line else said or "it failed"
        if self.absent:
            self.end()
        else:
            self.process.send_signal(signal.SIGSTOP)

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def turn(self) -> float:
        """Let it work once; the seconds that it took."""
        self.process.send_signal(signal.SIGCONT)
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        seconds = float(self._line())
        self.process.send_signal(signal.SIGSTOP)
        return seconds

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()


def started(commands: Mapping[str, Sequence[str]], env: Mapping[str, str]) -> dict[str, Contender]:
    """Those that can take part, by name; prints on standard error why the others do not."""
    taking_part = {}
    for name, command in commands.items():
        contender = Contender(command, env)
        if contender.absent:
            print(f"without {name}: {contender.absent}", file=sys.stderr, flush=True)
        else:
            taking_part[name] = contender
    return taking_part


def answer(prepare: Callable[[], Work], warmups: int) -> None:
    """Be a contender: say `ready`, and answer each line with a work's seconds, a turn's mean.

    If the work cannot be prepared, or done a first time, say why instead.
    """
    try:
        take = prepare()
        for _ in range(warmups):
            take()
    except Exception as error:
        print(f"{type(error).__name__}: {error}".splitlines()[0])
        sys.exit()
    print("ready", flush=True)
    for _ in sys.stdin:
        began, times, elapsed = time.perf_counter(), 0, 0.0
        while elapsed < TURN:
            take()
            times, elapsed = times + 1, time.perf_counter() - began
        print(elapsed / times, flush=True)


def take_turns(contenders: Mapping[str, Contender], rounds: int) -> dict[str, list[float]]:
    """The seconds of each round by name; the contenders are ended afterwards."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    try:
        for _ in range(rounds):
            for name, contender in contenders.items():
                seconds[name].append(contender.turn())
    finally:
        for contender in contenders.values():
            contender.end()
    return seconds
