"""The only training loop, through D2L's hooks; a framework supplies `update` and `validate`."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.errors import DivergedError, ElmanError
from elman.core.metrics import Mean, perplexity
from elman.core.module import HyperParameters

Checkpoint = tuple[Mapping[str, NDArray[Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to: mean losses per token (NaN where not measured), speed and time.

    `tokens_per_second` counts the training part alone; `seconds` is the time since `fit` began,
    validation included.
    """

    epoch: int
    train_loss: float
    val_loss: float
    tokens_per_second: float
    seconds: float

    @property
    def train_ppl(self) -> float:
        """Training perplexity, the mean over the epoch's updates."""
        return perplexity(self.train_loss)

    @property
    def val_ppl(self) -> float:
        """Validation perplexity, after the epoch's last update."""
        return perplexity(self.val_loss)


class Callback:
    """What to do along the way; override what is needed."""

    def after_update(self, trainer: "Trainer") -> None:
        """Called after every update; `trainer.train_batch_idx` counts them."""

    def after_epoch(self, trainer: "Trainer") -> None:
        """Called after every epoch; `trainer.history[-1]` is what it came to."""


class Trainer(HyperParameters):
    """Trains a model on data for `max_epochs` epochs, with the gradient's norm held below a bound.

    With `num_gpus=1` it uses a GPU where there is one, and the CPU elsewhere; a `gradient_clip_val`
    of 0 means no bound. `history` holds one Epoch for each epoch of the last `fit`.
    """

    max_epochs: int
    num_gpus: int
    gradient_clip_val: float
    callbacks: Sequence[Callback] = ()  # a constructor of the user's need not know of them

    def __init__(self, max_epochs: int, num_gpus: int = 0, gradient_clip_val: float = 0) -> None:
        self.save_hyperparameters()

    def prepare_data(self, data: Any) -> None:
        """Ask the data module for its minibatches."""
        self.data = data
        self.history: list[Epoch] = []
        self._begin_epoch()
        self._began = time.perf_counter()
        self.train_dataloader = data.train_dataloader()
        self.val_dataloader = data.val_dataloader()
        self.num_train_batches = len(self.train_dataloader)
        self.num_val_batches = 0 if self.val_dataloader is None else len(self.val_dataloader)

    def prepare_model(self, model: Any) -> None:
        """Tie the model to this trainer, and move it to the device."""
        model.trainer = self
        model.board.xlim = [0, self.max_epochs]
        self.model = model

    def prepare_optimizer(self) -> None:
        """Ask the model for its optimiser."""
        self.optim = self.model.configure_optimizers()

    def prepare_batch(self, batch: Sequence[Any]) -> Sequence[Any]:
        """Move a batch to the device."""
        return batch

    def fit(self, model: Any, data: Any, resume: Checkpoint | None = None) -> None:
        """Train `model` on `data` from the weights it has, or from a checkpoint on.

        A checkpoint is what `elman.core.checkpoint.read` returns.
        """
        keep_freed_memory()
        self.prepare_data(data)
        self.prepare_model(model)
        self.prepare_optimizer()
        self.epoch = self.train_batch_idx = self.val_batch_idx = 0
        if resume is not None:
            self._go_on_from(*resume)
        for epoch in range(len(self.history), self.max_epochs):
            self.epoch = epoch
            self.fit_epoch()

    def capture(self) -> dict[str, NDArray[Any]]:
        """All that training has changed by now: weights, optimiser, generators; copies."""
        raise NotImplementedError("a framework's Trainer defines capture()")

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take what `capture` gave, after the model and its optimiser are prepared."""
        raise NotImplementedError("a framework's Trainer defines restore(arrays)")

    def facts(self) -> dict[str, Any]:
        """Where training stands, and what its epochs came to, as JSON can hold it."""
        drawn_from = self._drawn_from or getattr(self.train_dataloader, "state", None)
        return {
            "history": [asdict(epoch) for epoch in self.history],
            "batches": self._batches,  # of the epoch after those
            "loss": [self._in_epoch.total, self._in_epoch.weight],
            "drawn_from": drawn_from,
            "updates": self.train_batch_idx,
            "validations": self.val_batch_idx,
            "seconds": time.perf_counter() - self._began,
        }

    def _go_on_from(self, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
        for name, array in self.capture().items():
            if name.startswith("generator"):
                continue  # whose state may be longer or shorter
            found = arrays[name].shape if name in arrays else "nothing"
            if found != array.shape:
                raise ElmanError(
                    "the checkpoint is one of another training: as "
                    f"{name} it has {found}, and this one {array.shape}"
                )
        self.restore(arrays)
        self.history = [Epoch(**epoch) for epoch in facts["history"]]
        self._batches = facts["batches"]
        self._in_epoch.total, self._in_epoch.weight = facts["loss"]
        self.train_batch_idx, self.val_batch_idx = facts["updates"], facts["validations"]
        self._began = time.perf_counter() - facts["seconds"]
        if facts["drawn_from"]:
            self.train_dataloader.state = facts["drawn_from"]

    def fit_epoch(self) -> None:
        """One pass over the training batches, then one over the validation batches."""
        began, tokens = time.perf_counter(), self._in_epoch.weight
        self._train()
        trained = time.perf_counter()
        validation, train = self._validate(), self._in_epoch
        self.history.append(
            Epoch(
                epoch=self.epoch + 1,
                train_loss=train.value,
                val_loss=validation.value,
                tokens_per_second=(train.weight - tokens) / (trained - began),
                seconds=time.perf_counter() - self._began,
            )
        )
        self._begin_epoch()
        for callback in self.callbacks:
            callback.after_epoch(self)

    def _begin_epoch(self) -> None:
        """Nothing is done of the next epoch: no batch, no loss, and no rows are drawn."""
        self._batches, self._in_epoch, self._drawn_from = 0, Mean(), None

    def _train(self) -> None:
        self.model.train()
        self._drawn_from = getattr(self.train_dataloader, "state", None)
        for batch in islice(self.train_dataloader, self._batches, None):
            loss = self.update(self.prepare_batch(batch))
            self.train_batch_idx += 1
            self._batches += 1
            self._check_finite(loss, "training")
            self._in_epoch.add(loss, math.prod(batch[-1].shape))
            for callback in self.callbacks:
                callback.after_update(self)

    def _validate(self) -> Mean:
        mean = Mean()
        if self.val_dataloader is None:
            return mean
        self.model.eval()
        for batch in self.val_dataloader:
            loss = self.validate(self.prepare_batch(batch))
            self.val_batch_idx += 1
            if loss is not None:  # the book's own validation steps return nothing
                self._check_finite(loss, "validation")
                mean.add(loss, math.prod(batch[-1].shape))
        return mean

    def _check_finite(self, loss: float, which: str) -> None:
        if not math.isfinite(loss):
            raise DivergedError(
                f"the {which} loss became {loss} in epoch {self.epoch + 1}, after "
                f"{self.train_batch_idx} updates: use a lower learning rate, or clip the gradient"
            )

    def update(self, batch: Sequence[Any]) -> float:
        """Take one optimisation step and return the batch's mean loss, in nats."""
        raise NotImplementedError("a framework's Trainer defines update(batch)")

    def validate(self, batch: Sequence[Any]) -> float | None:
        """Return the batch's mean loss without a gradient, or None where the model gives none."""
        raise NotImplementedError("a framework's Trainer defines validate(batch)")

    def clip_gradients(self, grad_clip_val: float, model: Any) -> None:
        """Scale all gradients so that their common norm is at most `grad_clip_val`."""
        raise NotImplementedError("a framework's Trainer defines clip_gradients(value, model)")


def keep_freed_memory() -> None:
    """Make the C library keep the memory of one batch for the next.

    glibc hands freed memory back to the system beyond twice the size of the largest block that was
    freed so far, up to blocks of 32 MB (mallopt(3), M_MMAP_THRESHOLD). With smaller blocks the
    arrays of every batch would be faulted in anew, page by page. One block, allocated and never
    touched, is free of cost.
    """
    np.empty(31 << 20, np.uint8)


def check_optimizer(optimizer: str, lr: float, momentum: float) -> None:
    """Raise an ElmanError unless these settings make an optimiser."""
    if optimizer not in ("sgd", "adam"):
        raise ElmanError(f"the optimizer is sgd or adam, got {optimizer!r}")
    if not (math.isfinite(lr) and lr > 0):
        raise ElmanError(f"the learning rate must be a finite number above 0, got {lr}")
    if not 0 <= momentum < 1:
        raise ElmanError(f"momentum must be at least 0 and below 1, got {momentum}")
    if momentum and optimizer == "adam":
        raise ElmanError(f"momentum goes with sgd, got {momentum} with adam: leave it out")
