"""Trainers of tests that define the parts of their step themselves."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from elman.book.trainer import Trainer
from elman.training import step
from elman.training.callback import Callback
from elman.training.history import TrainerState
from tests.robustness.faults import STATE, arrays


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


class Clocked(Stepping):
    """A trainer with a clock of its own; what it captures is the number of its updates."""

    now = update_seconds = validation_seconds = 0.0

    def __init__(self, max_epochs: int, **changes: Any) -> None:
        super().__init__(max_epochs)
        vars(self).update(changes)
        self.weight, self.factors = 0, list[float]()

    @property
    def elapsed(self) -> float:
        return self.now

    def update(self, batch: Any) -> float:
        self.now += self.update_seconds
        self.weight += 1
        return 1.0

    def scale_learning_rate(self, factor: float) -> None:
        self.factors.append(factor)

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"weight": np.array(self.weight)}

    def load_state_dict(self, arrays: Any) -> None:
        self.weight = int(arrays["weight"])

    def resume(self, arrays: Any, state: TrainerState) -> None:
        super().resume(arrays, state)
        self.now = state.seconds


class Taking(Callback):
    """Takes a checkpoint the first time that something holds in a hook."""

    def __init__(self, hook: str, when: Callable[[Any], bool]) -> None:
        self.checkpoint: Any = None
        setattr(self, hook, partial(self._take, when))

    def _take(self, when: Callable[[Any], bool], trainer: Any) -> None:
        if self.checkpoint is None and when(trainer):
            taken = trainer.checkpoint_arrays(), trainer.trainer_state()
            self.checkpoint = copy.deepcopy(taken)


class WithArrays:
    """A training, as far as its checkpoints go."""

    train_batch_idx, seconds, number = 1, 0.0, 1.0

    @property
    def step(self) -> "WithArrays":
        return self

    def may_end(self, wanted: bool) -> bool:
        return wanted

    def checkpoint_arrays(self) -> dict[str, np.ndarray]:
        return arrays(self.number)

    def trainer_state(self) -> TrainerState:
        return STATE
