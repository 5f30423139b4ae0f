"""Processes that measure on this machine concurrently, as workers that share it would run."""

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

# -P: do not import modules from the current folder
MEASURE = "from elman.core.experiments import measuring; measuring.main()"
PROGRAM = [sys.executable, "-P", "-c", MEASURE]
Process = subprocess.Popen[bytes]
Answer = Timings | ElmanError | None  # None if the process was killed


@dataclass(frozen=True)
class Measured:
    """Costs of an update on this machine.

    - `gradients`: seconds for the gradients of a shard.
    - `exchange`: seconds for an exchange with the other processes.
    - `step`: seconds for the optimizer's step.
    - `loop`: seconds for the loop.
    - `program`: bytes of a process, excluding the calculated memory of the model.
    """

    gradients: float
    exchange: float
    step: float
    loop: float
    program: float


def measure(
    settings: Settings, shard: Shard, number: int, are_workers: bool, alone: bool = True
) -> Measured:
    """Costs of a shard when `number` processes run their updates concurrently.

    - `are_workers`: they exchange through workers' collectives, a single one with itself. If there
      are several, each has one thread, as with torchrun.
    - `alone`: there are no workers on other machines.
    """
    environment = dict(os.environ)
    if are_workers and number > 1:
        environment.setdefault("OMP_NUM_THREADS", "1")
    with ExitStack() as stack:
        group = [stack.enter_context(_process(environment)) for _ in range(number)]
        port = free_port()
        for rank, process in enumerate(group):
            place = Place(rank, number, port, alone) if are_workers else None
            _send(process, (settings, shard, place))
        answers = [_answer(process) for process in group]
    if cause := _cause(answers):
        raise cause
    return _of_slowest([answer for answer in answers if isinstance(answer, Timings)])


def _cause(answers: list[Answer]) -> ElmanError | None:
    """The error that caused the others, if there is one."""
    errors = [answer for answer in answers if isinstance(answer, ElmanError)]
    own = [error for error in errors if not isinstance(error, MachineError)]
    if None in answers and not own:
        return MachineError(
            "a process that measured updates was killed, probably for lack of memory: plan a "
            "smaller model, or fewer workers on a machine"
        )
    return next(iter(own + errors), None)  # `errors` includes reports of a lost worker


def _of_slowest(found: list[Timings]) -> Measured:
    """Mean costs of the updates, each measured in its slowest process: the others wait for it."""
    number = min(len(one.updates) for one in found)
    updates = np.array([one.updates[:number] for one in found])  # (processes, updates, parts)
    slowest = updates[:, :, 0].argmax(axis=0)  # in the other processes, exchanges include waiting
    parts = np.mean(updates[slowest, np.arange(number)], axis=0)
    gradients, exchange, step, loop = map(float, parts)
    return Measured(gradients, exchange, step, loop, max(one.program for one in found))


@contextmanager
def _process(environment: dict[str, str]) -> Iterator[Process]:
    pipe = subprocess.PIPE
    # A separate session: Ctrl-C does not end it before this process.
    with subprocess.Popen(
        PROGRAM, stdin=pipe, stdout=pipe, env=environment, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _send(process: Process, value: Any) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # the answer contains the error
        pickle.dump(value, process.stdin)
        process.stdin.flush()


def _answer(process: Process) -> Answer:
    assert process.stdout is not None
    try:
        answer: Answer = pickle.load(process.stdout)
    except EOFError:
        return None
    return answer
