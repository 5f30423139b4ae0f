"""Examples of docs that need no framework run as printed."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.docs import EXPORTS, PAGES, SERVING, blocks, needs_torch

STORY = "It has been said, once upon a time. \n" * 300
OWN = [page for page in PAGES if page.name not in (EXPORTS, SERVING) and not needs_torch(page)]
Calls = list[tuple[str, Any, Any]]


def trackers(calls: Calls) -> dict[str, Any]:
    """Stand-ins for packages that log trainings, which take what the real functions take."""

    def begin(*, project: str, config: dict[str, Any]) -> Any:
        calls.append(("begin", project, config))
        return SimpleNamespace(log=log, finish=lambda: calls.append(("finish", None, None)))

    def log(data: dict[str, float], step: int | None = None) -> None:
        calls.append(("log", dict(data), step))

    def set_experiment(experiment_name: str) -> None:
        calls.append(("begin", experiment_name, None))

    def log_params(params: dict[str, Any]) -> None:
        name, project, _ = calls.pop()
        calls.append((name, project, params))

    end = SimpleNamespace(end=lambda: calls.append(("finish", None, None))).end
    return {
        "wandb": SimpleNamespace(init=begin),
        "trackio": SimpleNamespace(init=begin, log=log, finish=end),
        "mlflow": SimpleNamespace(
            set_experiment=set_experiment,
            start_run=lambda: None,
            log_params=log_params,
            log_metrics=log,
            end_run=end,
        ),
    }


@pytest.mark.parametrize("page", OWN, ids=lambda page: page.name)
def test_python_runs_as_printed(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-text.txt").write_text(STORY, encoding="utf-8")
    calls: Calls = []
    for name, module in trackers(calls).items():
        monkeypatch.setitem(sys.modules, name, module)
    names: dict[str, Any] = {}
    for block in blocks(page, "python"):
        exec(block, names)
    if page.name == "logging.md":
        assert names["largest"].norm > 0
        check_tracked(calls, names["trainer"])
        assert list(Path("logs/first").iterdir())


def check_tracked(calls: Calls, trainer: Any) -> None:
    """Three trackers have begun, have logged both epochs, and have ended."""
    assert [name for name, *_ in calls] == 3 * ["begin", "log", "log", "finish"]
    assert {(project, *config) for name, project, config in calls if name == "begin"} == {
        ("elman", "cell", "num_hiddens")
    }
    steps = [step for name, _, step in calls if name == "log"]
    assert steps == 3 * [trainer.num_train_batches, 2 * trainer.num_train_batches]
    last = trainer.history[-1]
    assert calls[-2][1] == {"train_ppl": last.train_ppl, "val_ppl": last.val_ppl}
