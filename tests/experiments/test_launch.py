"""Workers are found by what their starter tells each process, and by nothing else."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from elman.errors import ElmanError, MachineError
from elman.experiments import launch, session
from elman.experiments.launch import connected, number_of_workers
from elman.training.workers.hosts import HostError
from elman.training.workers.processes import ONE_WORKER, Workers

Set = Callable[..., None]
MEETING = {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Set:
    for name in ("RANK", "WORLD_SIZE", *MEETING, "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)

    def given(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return given


def test_a_process_by_itself_is_one_worker(variables: Set) -> None:
    assert number_of_workers() == 1
    variables(WORLD_SIZE="4")  # without a rank it is of something else
    assert number_of_workers() == 1
    with connected("torch") as workers:
        assert workers is ONE_WORKER


def test_a_rank_makes_a_worker_and_a_scheduler_one_of_jax(variables: Set) -> None:
    variables(SLURM_STEP_NUM_TASKS="3")
    assert number_of_workers("jax") == 3
    assert number_of_workers("numba") == 1
    variables(RANK="0", WORLD_SIZE="4")
    assert number_of_workers("jax") == number_of_workers("numba") == 4


def test_the_engine_has_the_threads_of_a_worker(
    variables: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = SimpleNamespace(connect=lambda *_, **__: ONE_WORKER)
    monkeypatch.setattr(launch, "import_module", lambda _: module)
    monkeypatch.setattr(launch, "Watched", lambda workers: workers)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")  # so that it is taken back after the test
    monkeypatch.delenv("NUMBA_NUM_THREADS")
    with connected("numba"):
        assert "NUMBA_NUM_THREADS" not in os.environ
    variables(RANK="0", WORLD_SIZE="2", **MEETING, OMP_NUM_THREADS="3")
    with connected("numba"):
        assert os.environ["NUMBA_NUM_THREADS"] == "3"
    variables(NUMBA_NUM_THREADS="2")
    with connected("numba"):
        assert os.environ["NUMBA_NUM_THREADS"] == "2"


@pytest.mark.parametrize(
    ("framework", "values", "fragment"),
    [
        ("numba", {"MASTER_ADDR": ""}, "MASTER_ADDR, MASTER_PORT, got MASTER_ADDR=''"),
        ("jax", {"MASTER_PORT": "x", "RANK": "first"}, "got RANK='first', MASTER_PORT='x'"),
        ("numba", {"WORLD_SIZE": "many"}, "got WORLD_SIZE='many'"),
        ("jax", {"RANK": "2"}, "got RANK='2', WORLD_SIZE='2': start them with torchrun"),
        ("mxnet", {}, "workers train in numba, numpy, torch, jax, got mxnet"),
    ],
)
def test_workers_that_cannot_connect_are_refused(
    variables: Set, framework: str, values: dict[str, str], fragment: str
) -> None:
    variables(**{"RANK": "0", "WORLD_SIZE": "2", **MEETING, **values})
    with pytest.raises(ElmanError, match=fragment), connected(framework):
        pass


def test_a_worker_whose_host_lacks_the_run_is_refused_before_it_waits_for_others(
    variables: Set, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def waits(name: str) -> None:
        raise AssertionError(f"{name} would wait for the others")

    monkeypatch.setattr(launch, "import_module", waits)
    variables(RANK="1", WORLD_SIZE="2", **MEETING)
    with pytest.raises(ElmanError) as told:
        session.resume(tmp_path / "run")
    cure = "it has no training.json; resume= requires it on all hosts: copy it, or repeat the"
    assert cure in str(told.value)


class Second(Workers):
    """The second worker, on host b; the first one has failed, or all are lost."""

    rank, size = 1, 2

    def __init__(self, first: str, content: bytes | MachineError) -> None:
        self.hosts, self.content = [first, "b"], content

    @property
    def names(self) -> list[str]:
        return self.hosts

    def gather(self, content: bytes) -> list[bytes]:
        if isinstance(self.content, MachineError):
            raise self.content
        return [self.content]


def watched(workers: Second) -> Any:
    found: Any = launch.Watched.__new__(launch.Watched)
    found._workers, found.names = workers, workers.names
    return found


def message_of(call: Callable[[], Any], kind: type[ElmanError] = HostError) -> str:
    with pytest.raises(kind) as told:
        call()
    return str(told.value)


def test_a_failure_elsewhere_is_told_with_its_hosts() -> None:
    failed = json.dumps({"failed": "no space"}).encode()
    assert launch.told(Second("b", failed)) is None  # it is told there
    assert message_of(lambda: launch.told(Second("a", failed))) == "a: no space"
    lost = watched(Second("a", MachineError("no answer")))
    told = message_of(lambda: lost.gather(b""))
    assert told == "no answer: end it on a, b, and start all workers again"


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["a", "b"], ElmanError("no space"), "b: no space"),
        (["b", "b"], ElmanError("no space"), "no space"),
        (["a", "b"], HostError("no answer of a"), "no answer of a"),
    ],
)
def test_an_error_names_its_host_if_there_are_several(
    variables: Set,
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    error: ElmanError,
    message: str,
) -> None:
    def fail() -> None:
        with connected("torch"):
            raise error

    variables(RANK="1", WORLD_SIZE="2", **MEETING)
    module = SimpleNamespace(connect=lambda *_, **__: None)
    monkeypatch.setattr(launch, "import_module", lambda _: module)
    monkeypatch.setattr(launch, "Watched", lambda _: SimpleNamespace(names=names, rank=1))
    assert message_of(fail, ElmanError) == message
