"""Workers of a training, found by the environment variables of torchrun, Slurm or Open MPI."""

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from elman.errors import ElmanError, InterruptedWorkError, MachineError, printable
from elman.files import json_files
from elman.runs.records import RunSettings
from elman.training.workers.hosts import HostError, listed, names_of
from elman.training.workers.processes import ONE_WORKER, Busy, Workers
from elman.valid_values import SHARDED

ANSWER_SECONDS = 60  # after this time without an answer, a worker counts as lost
WAIT_SECONDS = 10  # for other workers after SIGTERM; more than BUSY_SECONDS
VARIABLES = "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"  # of a worker, as in torchrun
SCHEDULERS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")  # JAX finds their processes itself
Tell = Callable[[RunSettings, Path, float], None]


def number_of_workers(framework: str = "jax") -> int:
    """Number of processes started for this command; 1 without a launcher."""
    names = SCHEDULERS if framework == "jax" else ()
    for name in ("WORLD_SIZE", *names) if "RANK" in os.environ else names:
        if (value := os.environ.get(name, "")).isdigit():
            return int(value)
    return 1


def is_launched() -> bool:
    """True if this process was started by torchrun or a launcher that sets its variables."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextmanager
def connected(framework: str) -> Iterator[Workers]:
    """Connect the workers of a command; they stay connected within the block."""
    if is_launched() and os.environ["WORLD_SIZE"] != "1":
        _check_variables()
    if number_of_workers(framework) < 2:
        yield ONE_WORKER
        return
    if framework not in SHARDED:
        raise ElmanError(
            f"workers train in {', '.join(SHARDED)}, got {framework}: choose one of these, or "
            "start a single process"
        )
    module = collectives(framework)
    workers: Any = Watched(module.connect(ANSWER_SECONDS, on_gpus=framework == "torch"))
    try:
        yield workers
    except ElmanError as error:
        names = workers.names
        if isinstance(error, HostError | InterruptedWorkError) or len({*names}) == 1:
            raise
        raise type(error)(f"{names[workers.rank]}: ", error) from error
    workers.close()  # not after an exception: the process then ends


def _check_variables() -> None:
    """Raise an ElmanError unless a worker's variables are set and its rank is valid."""
    values = {name: os.environ.get(name, "") for name in VARIABLES}
    wrong = [name for name, value in values.items() if not value]
    wrong += [name for name in VARIABLES if name != "MASTER_ADDR" and not values[name].isdigit()]
    if not wrong and int(values["RANK"]) >= int(values["WORLD_SIZE"]):
        wrong = ["RANK", "WORLD_SIZE"]
    if wrong:
        found = ", ".join(f"{name}={values[name]!r}" for name in dict.fromkeys(wrong))
        raise ElmanError(
            f"workers require the variables {', '.join(VARIABLES)}, got {found}: start them with "
            "torchrun, or set the variables in each"
        )


def collectives(framework: str) -> Any:
    """Module that connects a framework's workers. Before, set the engine's number of threads."""
    if threads := os.environ.get("OMP_NUM_THREADS"):  # torchrun's variable; Numba ignores it
        os.environ.setdefault("NUMBA_NUM_THREADS", threads)
    # Neither the engine nor NumPy provides collectives.
    return import_module(f"elman.{'jax' if framework == 'jax' else 'torch'}.workers")


class Watched:
    """Workers whose process ends soon after SIGTERM, even while one waits in vain for another.

    A Python signal handler cannot run while a framework waits, so the signal wakes a thread. The
    same happens if torchrun is killed: its workers would otherwise continue training unnoticed.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._since = math.inf  # when this process began to wait for the others
        signals, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(signals,), daemon=True).start()
        if "TORCHELASTIC_RUN_ID" in os.environ:
            threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        self.names = names_of(workers)

    def _watch(self, signals: int) -> None:
        while signal.SIGTERM not in os.read(signals, 1024):
            pass
        while time.monotonic() - self._since < WAIT_SECONDS:
            time.sleep(0.1)
        _end("ended while waiting for another worker")

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        self._since = time.monotonic()
        try:
            yield
        except MachineError as error:
            hosts = listed(self.names)
            message = f": end it on {hosts}, and start all workers again"
            raise HostError(error, message) from error
        finally:
            self._since = math.inf

    def __getattr__(self, name: str) -> Any:
        """Attribute of the workers. A method of theirs is called within `_waiting`."""
        found = getattr(self._workers, name)
        return self._waiting()(found) if callable(found) else found

    def close(self) -> None:
        """Close the connections."""
        with self._waiting():
            self._workers.close()
        signal.set_wakeup_fd(-1)


def _end(message: str) -> None:
    """Print a message, and end this process at once: it waits for another worker."""
    os.write(2, f"elman: {printable(message)}\n".encode())
    os._exit(MachineError.exit_code)


def _end_with(parent: int) -> None:
    """Send SIGTERM to this process when its parent ends."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def tell_nobody(settings: RunSettings, folder: Path, seconds: float) -> None:
    """Do nothing: there are no other workers."""


@contextmanager
def telling(workers: Workers) -> Iterator[Tell]:
    """Yield a function that sends the first worker's training to the others, read by `told`.

    If the block fails before the call, the others are informed.
    """
    if workers.size == 1:
        yield tell_nobody
        return
    busy, waiting = Busy(workers), True

    def tell(settings: RunSettings, folder: Path, seconds: float) -> None:
        nonlocal waiting
        waiting = False
        value = {"folder": str(folder.resolve()), "seconds": seconds, "settings": asdict(settings)}
        busy.end(json.dumps(value).encode())
        Busy(workers).end()  # when the others have read their text

    try:
        yield tell
    except ElmanError as error:
        if waiting:
            with suppress(MachineError):  # an earlier error is being raised
                busy.end(json.dumps({"failed": error.in_shell()}).encode())
        raise


def told(workers: Workers) -> tuple[RunSettings, Path, float] | None:
    """Receive the first worker's run settings, its folder, and the seconds between checkpoints.

    None if the first worker has failed on this host; it has then printed the reason. On other hosts
    the reason is raised as a HostError.
    """
    content = Busy(workers).end()[0]
    value = json_files.parse(content, "the first worker's message")
    if "failed" in value:
        if workers.names[0] == workers.names[workers.rank]:
            return None
        raise HostError(f"{workers.names[0]}: {value['failed']}")
    settings = json_files.record(RunSettings, value["settings"], "the first worker's settings")
    return settings, Path(value["folder"]), float(value["seconds"])
