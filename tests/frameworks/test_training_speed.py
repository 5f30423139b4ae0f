"""The speed of each framework is measured before settings are chosen."""

from dataclasses import replace
from typing import Any

import pytest

from elman.experiments import speed as speeds
from elman.experiments.speed import BATCH, PROBE, STEPS, operations_per_second
from elman.model.weights import products


@pytest.mark.parametrize("cell", ["rnn", "mingru"])
def test_the_speed_is_that_of_a_cells_updates_without_the_first(
    cell: str, module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock by which the first update takes 0.01 seconds and each other one 0.25."""
    taken: list[float] = []
    step_type = module.Trainer.step_type
    update = step_type.update

    def slow(step: Any, batch: Any) -> Any:
        taken.append(0.25 if taken else 0.01)
        return update(step, batch)

    monkeypatch.setattr(step_type, "update", slow)
    monkeypatch.setattr(speeds, "perf_counter", lambda: sum(taken))
    speed = operations_per_second(module, module.fastest_precision(), cell=cell)
    assert speed == pytest.approx(6 * products(replace(PROBE, cell=cell)) * BATCH * STEPS / 0.25)
    assert len(taken) == 4  # it ends when half a second is over
