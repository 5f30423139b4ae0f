"""Processes that measure on this machine at the same time, as workers that share it would."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from elman.core.errors import ElmanError, MachineError
from elman.core.experiments.measuring import Place, Shard, Timings
from elman.core.experiments.settings import Settings
from elman.core.workers.processes import free_port

# -P: a module in the current folder is not imported
MEASURE = "from elman.core.experiments import measuring; measuring.main()"
PROGRAM = [sys.executable, "-P", "-c", MEASURE]
Process = subprocess.Popen[bytes]
Answer = Timings | ElmanError | None  # None of a process that was ended


@dataclass(frozen=True)
class Measured:
    """Costs of an update on this machine.

    - `gradients`: seconds of the gradients of a shard.
    - `exchange`: seconds of an exchange with the other processes.
    - `step`: seconds of the optimizer's step.
    - `program`: bytes of a process, without what is calculated of the model.
    """

    gradients: float
    exchange: float
    step: float
    program: float


def measure(settings: Settings, shard: Shard, number: int, are_workers: bool) -> Measured:
    """Costs of a shard where so many processes take their updates at the same time.

    - `are_workers`: True if they exchange by the collectives of workers, one with itself, and have
      one thread each where there are several, as torchrun gives them.
    """
    environment = dict(os.environ)
    if are_workers and number > 1:
        environment.setdefault("OMP_NUM_THREADS", "1")
    with ExitStack() as stack:
        group = [stack.enter_context(_process(environment)) for _ in range(number)]
        port = free_port()
        for rank, process in enumerate(group):
            place = Place(rank, number, port) if are_workers else None
            _send(process, (settings, shard, place))
        answers = [_answer(process) for process in group]
    if cause := _cause(answers):
        raise cause
    return _of_slowest([answer for answer in answers if isinstance(answer, Timings)])


def _cause(answers: list[Answer]) -> ElmanError | None:
    """The error that the others follow from, if there is one."""
    errors = [answer for answer in answers if isinstance(answer, ElmanError)]
    own = [error for error in errors if not isinstance(error, MachineError)]
    if None in answers and not own:
        return MachineError(
            "a process that measured updates was ended, which happens where memory is short: plan "
            "a smaller model, or fewer workers on a machine"
        )
    return next(iter(own + errors), None)  # in `errors` is that another worker has gone


def _of_slowest(found: list[Timings]) -> Measured:
    """Mean costs of the updates: of each those of its slowest process, for which others wait."""
    number = min(len(one.updates) for one in found)
    updates = np.array([one.updates[:number] for one in found])  # (processes, updates, parts)
    slowest = updates[:, :, 0].argmax(axis=0)  # exchanges of the others have their wait
    parts = np.mean(updates[slowest, np.arange(number)], axis=0)
    gradients, exchange, step = map(float, parts)
    return Measured(gradients, exchange, step, max(one.program for one in found))


@contextmanager
def _process(environment: dict[str, str]) -> Iterator[Process]:
    pipe = subprocess.PIPE
    # In a session of its own, Ctrl-C does not end it before this process.
    with subprocess.Popen(
        PROGRAM, stdin=pipe, stdout=pipe, env=environment, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _send(process: Process, value: Any) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # the answer tells
        pickle.dump(value, process.stdin)
        process.stdin.flush()


def _answer(process: Process) -> Answer:
    assert process.stdout is not None
    try:
        answer: Answer = pickle.load(process.stdout)
    except EOFError:
        return None
    return answer
