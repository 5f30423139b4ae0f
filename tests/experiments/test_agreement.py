"""Workers that cannot continue to the same bits are refused, with the names of their hosts."""

import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from elman.errors import ElmanError, MachineError
from elman.experiments import agreement
from elman.experiments.agreement import agreed, check_command
from elman.runs.records import RunSettings
from elman.runs.run_folder import CHECKPOINTS
from elman.runs.settings import Settings
from elman.training.checkpoint import write
from elman.training.workers.processes import ONE_WORKER
from tests.robustness.faults import STATE, arrays
from tests.training.workers.together import Together, at_once, group

OMP = "OMP_NUM_THREADS"


def training(version: str = "1", framework: str = "numba", gpus: Sequence[str] = ()) -> Any:
    return SimpleNamespace(
        settings=SimpleNamespace(framework=framework),
        framework=SimpleNamespace(version=lambda: version),
        trainer=SimpleNamespace(gpus=[*gpus]),
    )


def agree(folders: list[Path], trainings: list[Any]) -> list[Any]:
    """Checkpoints of workers that each have a run directory, or the errors."""

    def work(worker: Together) -> Any:
        try:
            return agreed(worker, trainings[worker.rank], folders[worker.rank])
        except MachineError as error:
            return str(error)

    return at_once(work, group(len(folders)))


@pytest.mark.parametrize("part_bytes", [100, 1 << 24])
def test_workers_without_the_run_receive_the_first_ones_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_bytes: int
) -> None:
    monkeypatch.setattr(agreement, "PART_BYTES", part_bytes)
    write(tmp_path / "a" / CHECKPOINTS, STATE.updates, arrays(), STATE)
    found = agree([tmp_path / name for name in ("a", "b", "a")], [training()] * 3)
    for values, state in found:
        assert repr(state) == repr(found[0][1])  # a loss is NaN
        assert all(np.array_equal(values[name], array) for name, array in arrays().items())
    assert not (tmp_path / "b").exists()


def test_workers_that_begin_have_no_checkpoint(tmp_path: Path) -> None:
    assert agree([tmp_path, tmp_path], [training()] * 2) == [None, None]
    assert agreed(ONE_WORKER, training(), tmp_path) is None


def test_a_worker_with_another_checkpoint_or_version_than_the_first_is_refused(
    tmp_path: Path,
) -> None:
    messages = agree([tmp_path] * 2, [training("1"), training("2")])
    for message in messages:
        assert message.startswith("all workers must have the same version of numba, got 1 on ")
        assert message.endswith(": use the same everywhere")
    write(tmp_path / "b" / CHECKPOINTS, 3, arrays(), STATE)
    for message in agree([tmp_path / name for name in "ab"], [training()] * 2):
        assert "must have the same checkpoint, got none on " in message


def test_the_engine_compares_what_it_compiles_for_and_no_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from elman.kernels.codegen import processor

    names = iter(["a", "b"] * 2)
    monkeypatch.setattr(agreement, "_cores", lambda: 1 / 0)
    assert agree([tmp_path] * 2, [training()] * 2) == [None, None]
    monkeypatch.setattr(processor, "target", lambda: next(names))
    message, _ = agree([tmp_path] * 2, [training()] * 2)
    assert "must have the same processor, got " in message


@pytest.mark.parametrize(
    ("framework", "variable"), [("numpy", OMP), ("torch", OMP), ("jax", "NPROC")]
)
def test_numbers_of_threads_are_compared_as_the_framework_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, framework: str, variable: str
) -> None:
    cores = iter([1, 2] * 2)
    monkeypatch.setattr(agreement, "_cores", lambda: next(cores))
    workers = [training(framework=framework)] * 2
    for name in (OMP, "NPROC"):
        monkeypatch.delenv(name, raising=False)
    for message in agree([tmp_path] * 2, workers):
        assert re.search(rf"number of threads \({variable}\), got \d on .*, \d on .*: ", message)
    monkeypatch.setenv(OMP if variable == "NPROC" else "NPROC", "1")
    assert "number of threads" in agree([tmp_path] * 2, workers)[0]
    monkeypatch.setenv(variable, "1")
    assert agree([tmp_path] * 2, workers) == [None, None]


@pytest.mark.parametrize(
    "other", [["NVIDIA A100"], ["NVIDIA H100", "NVIDIA H100"], []], ids=["name", "number", "none"]
)
def test_gpus_are_compared_by_name_and_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: list[str]
) -> None:
    monkeypatch.setattr(
        agreement, "import_module", lambda _: SimpleNamespace(gpu_name=str, host=lambda: "a CPU")
    )
    first = training(framework="torch", gpus=["NVIDIA H100"])
    assert agree([tmp_path] * 2, [first, first]) == [None, None]
    second = training(framework="torch", gpus=other)
    for message in agree([tmp_path] * 2, [first, second]):
        assert "must have the same processor, got NVIDIA H100 on " in message


def test_a_worker_that_was_given_another_command_is_refused() -> None:
    begun = RunSettings(Settings(text="store", hidden=8), "")
    check_command({"text": "elsewhere", "hidden": 8}, begun)
    message = "hidden must be 8, as given to the first worker, got 9: type the same command"
    with pytest.raises(ElmanError, match=message):
        check_command({"hidden": 9}, begun)
