"""Workers are found by what their starter tells each process, and by nothing else."""

from collections.abc import Callable

import pytest

from elman.core.errors import ElmanError
from elman.core.experiments.launch import connected, number_of_workers
from elman.core.training.workers import ONE_WORKER

Set = Callable[..., None]


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Set:
    names = ("RANK", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
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


def test_a_framework_without_collectives_is_refused(variables: Set) -> None:
    variables(RANK="0", WORLD_SIZE="2")
    with (
        pytest.raises(ElmanError, match="workers train in numba, numpy, torch, jax, got mxnet"),
        connected("mxnet"),
    ):
        pass
