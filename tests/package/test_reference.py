"""The reference lists what users need of each class; docs/members.py decides it."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from elman import numpy
from elman.book.trainer import Trainer
from elman.text.vocab import Vocab
from elman.training.loop import Loop

MEMBERS = Path(__file__).parents[2] / "docs" / "members.py"


@pytest.fixture
def extension(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The extension of Griffe, without Griffe."""
    monkeypatch.setitem(sys.modules, "griffe", SimpleNamespace(Extension=object))
    return runpy.run_path(str(MEMBERS))["Listed"]()


def listed(extension: Any, kind: type) -> list[str]:
    """The methods and properties of a class that the reference lists, in the order of the text."""
    members = {
        name: SimpleNamespace(is_function=callable(value), labels={"property"})
        for name, value in vars(kind).items()
        if callable(value) or isinstance(value, property)
    }
    extension.on_class_members(cls=SimpleNamespace(name=kind.__name__, members=members))
    return [name for name in members if name != "__init__"]


def test_members_for_users_are_listed_and_no_others(extension: Any) -> None:
    names = listed(extension, Trainer)
    assert {"fit", "prepare_data", "prepare_model", "prepare_batch"} <= set(names)
    assert not {"__setstate__", "move_model", "prepare_optimizer"} & set(names)
    assert listed(extension, Loop)[:2] == ["fit_epoch", "stop"]
    assert listed(extension, numpy.Trainer) == ["clip_gradients"]
    operators = [name for name in listed(extension, Vocab) if name.startswith("__")]
    assert operators == ["__getitem__"]


def test_a_listed_name_that_is_gone_ends_the_build(extension: Any) -> None:
    """Another class may have one of the same name."""
    found: dict[str, dict[str, Any]] = {}
    for kind, name in extension.left - {("Loop", "stop")}:
        found.setdefault(kind, {})[name] = SimpleNamespace(is_function=True)
    for kind, members in found.items():
        extension.on_class_members(cls=SimpleNamespace(name=kind, members=members))
    with pytest.raises(ValueError, match=r"lists what no class has: \[\('Loop', 'stop'\)\]"):
        extension.on_package()
