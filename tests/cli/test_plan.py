"""`elman plan`: what workers would take, before anything is started."""

import json
import os
import re
from pathlib import Path

import pytest

from elman.core.experiments import planning
from elman.core.experiments.machine import Measured
from elman.core.model import weights
from elman.core.model.weights import Architecture
from tests.conftest import BOOK, Command

CORES = os.cpu_count() or 1


@pytest.fixture
def fixed_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which every update has the same costs; nothing is measured."""
    costs = Measured(gradients=2e-3, exchange=1e-4, step=2e-4, loop=1e-4, program=2e8)
    monkeypatch.setattr(planning, "measure", lambda *_: costs)


def test_a_plan_tells_memory_exchange_and_speed(
    elman_process: Command, story: Path, tmp_path: Path
) -> None:
    own = (*BOOK, "--hidden", "16", "--batch-size", "16")
    done = elman_process("plan", story, *own, "--workers", "4", "--per-machine", "2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    (heading,) = [line.split() for line in lines if line.split()[:1] == ["workers"]]
    assert heading == [
        "workers", "tokens/s", "efficiency", "epoch", "compute", "exchange", "moved", "memory",
    ]  # fmt: skip
    rows = [line.split()[0] for line in lines[:-1] if line.split()]  # the last line is a remark
    assert [word for word in rows if word.isdigit()] == ["1", "2", "4"]
    assert "update   512 tokens" in lines[1]
    assert "memory of the first worker" in done.stdout
    assert lines[-1].startswith(("efficiency is below ", "efficiency of 4 workers: "))
    assert [path.name for path in tmp_path.iterdir()] == ["story.txt"]


@pytest.mark.usefixtures("fixed_costs")
@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), f"up to {min(4, CORES)} on a machine of {CORES} cores, like this one"),
        (("--per-machine", "3"), f"up to 3 on a machine of {CORES} cores, like this one"),
        (("--per-machine", "1"), f"one on a machine of {CORES} cores, like this one"),
    ],
)
@pytest.mark.skipif(CORES == 1, reason="workers share cores, and there is one")
def test_workers_share_the_cores_that_are_there_and_the_plan_says_so(
    elman: Command, story: Path, words: tuple[str, ...], line: str
) -> None:
    own = (*BOOK, "--hidden", "16", "--batch-size", "16", "--workers", "4")
    done = elman("plan", story, *own, *words)
    assert done.returncode == 0, done.stderr
    assert f"worker   a process; {line}" in done.stdout.splitlines()


@pytest.mark.usefixtures("fixed_costs")
@pytest.mark.parametrize(
    ("rows", "shards", "cure"),
    [
        ("2", (), "a larger --batch-size"),
        ("16", ("--shards", "2"), "more --shards"),
        ("2", ("--shards", "2"), "more --shards and a larger --batch-size"),
    ],
)
def test_a_plan_tells_why_it_ends_before_the_workers_that_are_asked(
    elman: Command, story: Path, rows: str, shards: tuple[str, ...], cure: str
) -> None:
    own = (*BOOK, "--hidden", "16", "--batch-size", rows, "--workers", "64")
    done = elman("plan", story, *own, *shards)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"more than 2 workers require {cure}"


@pytest.mark.usefixtures("fixed_costs")
def test_a_model_that_a_machine_does_not_hold_is_planned_and_told(
    elman: Command, story: Path
) -> None:
    own = (*BOOK, "--hidden", "65536", "--layers", "4")
    done = elman("plan", story, *own, "--workers", "2", "--per-machine", "2")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^a machine needs \d.* TB for this, but has ", done.stdout, re.M)


@pytest.mark.usefixtures("fixed_costs")
def test_a_partitioned_optimizer_is_planned_for_as_many_workers_as_the_batch_has_rows(
    elman: Command, story: Path
) -> None:
    own = (*BOOK, "--hidden", "16", "--batch-size", "3", "--partition-optimizer")
    done = elman("plan", story, *own)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("more than 2 workers require more --shards")


@pytest.mark.usefixtures("fixed_costs")
def test_a_plan_of_a_text_that_is_not_there(elman: Command) -> None:
    sizes = ("--tokens", "1000000000000", "--vocab-size", "300", "--hidden", "32")
    done = elman("plan", *sizes, "--workers", "2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["weights"] == weights.count(Architecture("gru", 300, 32, embedding=32))
    one, two = found["predictions"]
    assert (one["workers"], two["workers"]) == (1, 2)
    assert one["epoch"] == pytest.approx(1e12 / one["tokens_per_second"])
    assert "training: 3 minutes" in done.stderr  # the choice of the other settings


@pytest.mark.usefixtures("fixed_costs")
def test_a_partitioned_optimizer_is_planned_as_it_is_trained(elman: Command, story: Path) -> None:
    own = (*BOOK, "--hidden", "16", "--batch-size", "16", "--optimizer", "adam")
    done = elman("plan", story, *own, "--workers", "2", "--partition-optimizer", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    one, two = found["predictions"]
    assert one["memory"]["optimizer"] == 2 * two["memory"]["optimizer"]
    assert two["exchanged"] == 3 * 4 * found["weights"] / 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tokens", "1000"), "--tokens requires --vocab-size: give both"),
        (("story.txt", "--tokens", "1000"), "--tokens conflicts with a text, got story.txt"),
        (("--tokens", "1", "--vocab-size", "9"), "tokens must be 2 or more, got 1"),
        (("story.txt", "--workers", "0"), "workers must be 1 or more, got 0"),
        (("story.txt", "--per-machine", "0"), "per machine must be 1 or more, got 0"),
        (("story.txt", "--per-machine", "100000"), "or less, got 100000"),
        (("story.txt", "--latency", "-1"), "latency must be a finite number of 0 or more, got -1"),
        (("story.txt", "--bandwidth", "0"), "bandwidth must be a finite number above 0, got 0"),
        (("story.txt", "--framework", "mxnet"), "a plan requires a framework with workers (numba"),
        (("none.txt",), "there is no file none.txt"),
        ((), "a plan requires the path of your text, or --tokens and --vocab-size"),
        (("story.txt", *BOOK, "--batch-size", "8", "--shards", "16"), "got a batch size of 8 and"),
        (
            ("--lines", "--tokens", "99", "--vocab-size", "9"),
            "--lines requires a text, got --lines and --tokens",
        ),
    ],
)
def test_what_cannot_be_planned_is_told(
    elman: Command, story: Path, words: tuple[str, ...], message: str
) -> None:
    done = elman("plan", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
