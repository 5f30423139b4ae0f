"""Workers wait for one that is busy, and do not give it up."""

import threading
from pathlib import Path
from typing import Any

import pytest

from elman.errors import MachineError
from elman.training import checkpoint
from elman.training.checkpoint import Checkpoints
from elman.training.workers import processes
from elman.training.workers.processes import Busy, Workers
from tests.training.own_steps import WithArrays
from tests.training.workers.together import Together, at_once, group


def test_workers_wait_for_one_that_is_busy_however_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "BUSY_SECONDS", 0.001)
    workers = group(3)
    late = threading.Event()

    def work(worker: Together) -> list[bytes]:
        task = Busy(worker)
        if worker.rank == 0:
            while worker.rounds < 5:  # of which any other worker would be tired
                late.wait(0.001)
        return task.end(f"done {worker.rank}".encode())

    found = at_once(work, workers)
    assert found == [[b"done 0", b"done 1", b"done 2"]] * 3


def test_a_worker_that_is_lost_while_another_is_busy_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = threading.Event()

    class Lost(Workers):
        def gather(self, content: bytes) -> list[bytes]:
            if lost.is_set():
                return [b""]
            lost.set()
            raise MachineError("a worker has gone")

    monkeypatch.setattr(processes, "BUSY_SECONDS", 0)
    task = Busy(Lost())
    assert lost.wait(60)
    with pytest.raises(MachineError):
        task.end()


def test_workers_wait_for_a_checkpoint_however_long_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "BUSY_SECONDS", 0.001)
    workers = group(2)
    written = []

    def write(*_: Any) -> None:
        while workers[0].rounds < 5:
            threading.Event().wait(0.001)
        written.append(threading.get_ident())

    def train(worker: Together) -> bool:
        Checkpoints(tmp_path, 0, worker).on_checkpoint(WithArrays())  # type: ignore[arg-type]
        return len(written) == 1

    monkeypatch.setattr(checkpoint, "write", write)
    assert at_once(train, workers) == [True, True]
