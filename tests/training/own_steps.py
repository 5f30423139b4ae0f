"""Trainers of tests that define the parts of their step themselves."""

from typing import Any

import numpy as np

from elman.book.trainer import Trainer
from elman.training import step


class OfTrainer(step.Step):
    """A step whose parts its trainer defines, and that has no arrays."""

    def update(self, batch: Any) -> float:
        loss: float = self.trainer.update(batch)
        return loss

    def validate(self, batch: Any) -> float | None:
        loss: float | None = self.trainer.validate(batch)
        return loss

    def scale_learning_rate(self, factor: float) -> None:
        self.trainer.scale_learning_rate(factor)

    def state_dict(self) -> dict[str, np.ndarray]:
        return {}

    def load_state_dict(self, arrays: Any) -> None: ...

    def to_numpy(self, array: Any) -> np.ndarray:
        return np.asarray(array)

    def from_numpy(self, array: np.ndarray) -> Any:
        return array


class Stepping(Trainer):
    """A trainer that plots, and changes nothing."""

    step_type = OfTrainer

    def update(self, batch: Any) -> float:
        with self.model.masking(getattr(batch, "mask", None)):
            return float(self.model.training_step(batch))

    def validate(self, batch: Any) -> float | None:
        with self.model.masking(getattr(batch, "mask", None)):
            loss: float | None = self.model.validation_step(batch)
        return loss

    def scale_learning_rate(self, factor: float) -> None: ...
