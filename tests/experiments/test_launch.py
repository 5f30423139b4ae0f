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
from elman.experiments.choice import with_shards
from elman.experiments.launch import connected, number_of_workers
from elman.training.workers.hosts import HostError
from elman.training.workers.processes import ONE_WORKER, Workers

Set = Callable[..., None]
MEETING = {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Set:
    names = (
        "RANK",
        "WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
        "SLURM_STEP_NUM_TASKS",
        "OMPI_COMM_WORLD_SIZE",
    )
    for name in names:
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


def test_pairs_have_no_workers() -> None:
    with pytest.raises(ElmanError, match="pairs are learned by one worker, got 2: start a single"):
        with_shards({"text": "pairs.tsv", "pairs": True}, 2)


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


def test_a_framework_without_collectives_is_refused(variables: Set) -> None:
    variables(RANK="0", WORLD_SIZE="2", **MEETING)
    with (
        pytest.raises(ElmanError, match="workers train in numba, numpy, torch, jax, got mxnet"),
        connected("mxnet"),
    ):
        pass


def test_a_worker_whose_host_lacks_the_run_is_refused_before_it_waits_for_others(
    variables: Set, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def waits(name: str) -> None:
        raise AssertionError(f"{name} would wait for the others")

    monkeypatch.setattr(launch, "import_module", waits)
    variables(RANK="1", WORLD_SIZE="2", **MEETING)
    message = "it has no training.json; resume= requires it on all hosts: copy it, or repeat the"
    with pytest.raises(ElmanError, match=message):
        session.resume(tmp_path / "run")


class Second(Workers):
    """The second worker, on host b; the first one has failed."""

    rank = 1

    def __init__(self, first: str) -> None:
        self.hosts = [first, "b"]

    @property
    def names(self) -> list[str]:
        return self.hosts

    def gather(self, content: bytes) -> list[bytes]:
        return [json.dumps({"failed": "no space"}).encode()]


def test_the_first_workers_failure_is_repeated_on_other_hosts() -> None:
    assert launch.told(Second("b")) is None
    with pytest.raises(HostError, match=r"^a: no space$"):
        launch.told(Second("a"))


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"MASTER_ADDR": ""}, "MASTER_ADDR=''"),
        ({"MASTER_PORT": "x", "RANK": "first"}, "RANK='first', MASTER_PORT='x'"),
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE='many'"),
        ({"RANK": "2"}, "RANK='2', WORLD_SIZE='2'"),
    ],
)
@pytest.mark.parametrize("framework", ["numba", "jax"])
def test_variables_that_are_wrong_are_named(
    variables: Set, framework: str, wrong: dict[str, str], found: str
) -> None:
    variables(**{"RANK": "0", "WORLD_SIZE": "2", **MEETING, **wrong})
    message = f"RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT, got {found}: start them with torchrun"
    with pytest.raises(ElmanError, match=message), connected(framework):
        pass


def test_an_error_of_lost_workers_names_all_hosts() -> None:
    class Lost(Workers):
        size = 2

        def gather(self, content: bytes) -> list[bytes]:
            raise MachineError("no answer")

    watched: Any = launch.Watched.__new__(launch.Watched)
    watched._workers, watched.names = Lost(), ["a", "b"]
    message = "^no answer: end it on a, b, and start all workers again$"
    with pytest.raises(HostError, match=message):
        watched.gather(b"")


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["a", "b"], ElmanError("no space"), "^b: no space$"),
        (["b", "b"], ElmanError("no space"), "^no space$"),
        (["a", "b"], HostError("no answer of a"), "^no answer of a$"),
    ],
)
def test_an_error_names_its_host_if_there_are_several(
    variables: Set,
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    error: ElmanError,
    message: str,
) -> None:
    variables(RANK="1", WORLD_SIZE="2", **MEETING)
    module = SimpleNamespace(connect=lambda *_, **__: None)
    monkeypatch.setattr(launch, "import_module", lambda _: module)
    monkeypatch.setattr(launch, "Watched", lambda _: SimpleNamespace(names=names, rank=1))
    with pytest.raises(ElmanError, match=message), connected("torch"):
        raise error
