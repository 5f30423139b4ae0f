"""`elman plan`: what workers would take, before anything is started."""

import json
from pathlib import Path

import pytest

from elman.experiments import planning
from elman.model import weights
from elman.model.weights import Architecture
from tests.conftest import BOOK, Command


@pytest.fixture
def fixed_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which every update has the same costs; nothing is measured."""
    monkeypatch.setattr(planning, "measure", lambda *_: (2e-3, 2e8))


def test_a_plan_tells_memory_and_speed(elman_process: Command, story: Path, tmp_path: Path) -> None:
    own = (*BOOK, "--hidden", "16", "--batch-size", "16")
    done = elman_process("plan", story, *own, "--workers", "4")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    (heading,) = [line for line in lines if line.startswith("workers")]
    assert heading.split() == ["workers", "tokens/s", "update", "ms", "epoch", "s", "memory", "MB"]
    rows = [line.split()[0] for line in lines if line.split()]
    assert [word for word in rows if word.isdigit()] == ["1", "2", "4"]
    assert "update  512 tokens" in lines[1]
    assert "memory of the first worker" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["story.txt"]


@pytest.mark.usefixtures("fixed_costs")
@pytest.mark.parametrize(
    "more",
    [
        ("--batch-size", "2", "--workers", "64"),
        ("--batch-size", "16", "--workers", "64", "--shards", "2"),
        ("--batch-size", "3", "--partition-optimizer"),
    ],
    ids=["rows", "shards", "partitioned optimizer"],
)
def test_a_plan_tells_why_it_ends_before_the_workers_that_are_asked(
    ok: Command, story: Path, more: tuple[str, ...]
) -> None:
    done = ok("plan", story, *BOOK, "--hidden", "16", *more)
    cure = "require more --shards or a larger --batch-size"
    assert done.stdout.splitlines()[-1] == f"more than 2 workers {cure}"


@pytest.mark.usefixtures("fixed_costs")
def test_a_plan_of_a_text_that_is_not_there(ok: Command) -> None:
    sizes = ("--tokens", "1000000000000", "--vocab-size", "300", "--hidden", "32")
    done = ok("plan", *sizes, "--workers", "2", "--json")
    found = json.loads(done.stdout)
    assert found["weights"] == weights.count(Architecture("gru", 300, 32, embedding=32))
    one, two = found["predictions"]
    assert (one["workers"], two["workers"]) == (1, 2)
    assert one["epoch"] == pytest.approx(1e12 / one["tokens_per_second"])
    assert "training: 3 minutes" in done.stderr  # the choice of the other settings
