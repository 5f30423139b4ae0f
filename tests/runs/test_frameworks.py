"""Frameworks found by name, and those that can use a GPU."""

import sys
from types import SimpleNamespace

import pytest

from elman.errors import ElmanError
from elman.runs import frameworks

CPU, GPU = ["cpu"], ["cpu", "gpu:0"]


def pretend(monkeypatch: pytest.MonkeyPatch, **devices: list[str]) -> None:
    """Have these frameworks installed, and no other, each with its devices."""
    monkeypatch.setattr(frameworks, "find_spec", lambda name: name in devices or None)
    for name, found in devices.items():
        module = SimpleNamespace(devices=lambda found=found: found)
        monkeypatch.setitem(sys.modules, f"elman.{name}", module)


@pytest.mark.parametrize(
    ("devices", "cure"),
    [
        ({}, "leave device= out"),
        ({"torch": CPU, "jax": CPU}, "leave device= out"),
        ({"torch": GPU, "jax": GPU}, 'leave device= out, or choose framework="torch"'),
        ({"torch": CPU, "jax": GPU}, 'leave device= out, or choose framework="jax"'),
    ],
)
def test_a_gpu_is_promised_only_in_a_framework_that_can_use_one_here(
    monkeypatch: pytest.MonkeyPatch, devices: dict[str, list[str]], cure: str
) -> None:
    pretend(monkeypatch, **devices)
    with pytest.raises(ElmanError) as error:
        frameworks.count_gpus("gpu", frameworks.framework_module("numba"))
    assert str(error.value) == f"numba can use no GPU here: {cure}"


def test_a_framework_that_does_not_load_can_use_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> list[str]:
        raise ElmanError("torch is installed, but does not load")

    pretend(monkeypatch, torch=CPU)
    monkeypatch.setattr(sys.modules["elman.torch"], "devices", failing)
    assert frameworks.with_gpu() is None
