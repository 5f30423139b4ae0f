"""Contenders in processes of their own take turns; all but the one at its turn are stopped.

A library's threads go on spinning for a while after their work; a stopped process spins no more, so
that no contender disturbs the next.
"""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence


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
