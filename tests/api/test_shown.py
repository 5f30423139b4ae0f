"""What a notebook and a terminal show of runs and comparisons."""

from typing import Any

import pytest

import elman
from elman import Run
from tests.conftest import STORY

OPTIONS: dict[str, Any] = {"epochs": 2, "hidden": 8, "batch_size": 16, "seq_len": 16}


@pytest.fixture(scope="module")
def runs() -> tuple[Run, Run]:
    """A run without a path, and one that goes on from it."""
    first = elman.train(STORY, quiet=True, **OPTIONS)
    return first, elman.train(STORY, init=first, epochs=1, quiet=True)


def test_a_comparison_names_runs_without_a_path_shortly(runs: tuple[Run, Run]) -> None:
    compared = elman.compare(*runs)
    for shown in (repr(compared), compared._repr_html_()):
        assert all(run.path.name in shown for run in runs)
        assert str(runs[0].path.parent) not in shown
    assert compared.to_dict()["run"] == [str(run.path) for run in runs]


def test_a_comparison_is_a_table_in_a_notebook(runs: tuple[Run, Run]) -> None:
    page = elman.compare(*runs)._repr_html_()
    assert page.count("<tr>") == 3
    assert "val ppl" in page
    assert "init sha256" not in page
    assert elman.compare(*runs).plot()._repr_png_().startswith(b"\x89PNG")


def test_a_run_is_a_table_with_curves_and_a_text_in_a_notebook(runs: tuple[Run, Run]) -> None:
    page = runs[0]._repr_html_()
    assert ">hidden 8<" not in page
    assert "hidden 8, seq len 16, batch size 16, epochs 2" in page
    assert "data:image/png;base64," in page
    assert "<pre" in page


def test_the_last_of_a_runs_uses_removes_its_temporary_folder() -> None:
    run = elman.train(STORY, quiet=True, **OPTIONS)
    path = run.path
    assert path.exists()
    del run
    assert not path.exists()
