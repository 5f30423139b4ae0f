"""`elman train --pairs`: the framework, of those that are installed."""

from pathlib import Path

import pytest

from elman.errors import ElmanError, requirements
from elman.runs import frameworks
from tests.conftest import Command


def test_where_no_framework_has_pairs_a_line_names_one_to_install(
    elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plurals.tsv").write_text("cat\tcats\ndog\tdogs\n")
    monkeypatch.setattr(frameworks, "installed_frameworks", lambda names: [])
    done = elman("train", "plurals.tsv", "--pairs")
    assert done.returncode == 2
    assert done.stderr == (
        "elman: the engine has no encoder-decoder for pairs, and torch, jax, tensorflow or mxnet "
        f"is not installed: pip install {requirements('torch') or 'torch'}\n"
    )


def test_the_first_installed_framework_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"jax", "tensorflow"}
    monkeypatch.setattr(
        frameworks, "installed_frameworks", lambda names: [*filter(there.__contains__, names)]
    )
    assert frameworks.default_for_pairs() == "jax"
    with pytest.raises(ElmanError, match="numpy has no encoder-decoder for pairs"):
        frameworks.check_has_pairs("numpy")
