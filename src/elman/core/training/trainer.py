"""The training loop of all frameworks, with D2L's hooks.

A framework's Trainer defines the step: `update`, `validate`, `clip_gradients`,
`scale_learning_rate`, `state_dict` and `load_state_dict`.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from typing import Any

from numpy.typing import NDArray

from elman.core.data.batch import Batch
from elman.core.errors import (
    DivergedError,
    ElmanError,
    is_finite_number,
    require_at_least,
    require_number,
    require_one_of,
)
from elman.core.files import memory
from elman.core.hyperparameters import HyperParameters
from elman.core.model.metrics import Mean
from elman.core.text import codec
from elman.core.training.callback import Callback
from elman.core.training.checkpoint import Checkpoint
from elman.core.training.history import Epoch, EpochProgress, TrainerState, check_forms
from elman.core.training.plotting import ProgressBoard
from elman.core.training.progress import progress
from elman.core.valid_values import DEFAULT_DECAY, OPTIMIZERS

log = logging.getLogger("elman")

SHARE_OF_TIME = 0.1  # of a time limit, for the first validation, and for a test
CUT_SHORT = "each validation reads %d of %d batches, all that a tenth of the time limit allows"
EXCESS = 0.1  # in nats, of a loss over another one, that counts
BEST = "best."  # prefix of the arrays of the best epoch in a checkpoint


class Trainer(HyperParameters):
    """Trains a model on data.

    `history` has an Epoch for each epoch of the last `fit`. `max_seconds` is a time limit. The last
    epoch ends where another update as long as the one before, and a validation, would not fit in.
    With a time limit the first validation ends after a tenth of it, and all others read as many
    batches.
    """

    max_epochs: int
    gradient_clip_val: float
    to: Callable[[Any, Any], Any]  # moves an array to a device; of a framework that has GPUs
    # Class attributes, since the constructor of a subclass may not call this one.
    num_gpus: int = 0
    show_progress: bool = True
    callbacks: Sequence[Callback] = ()
    max_seconds: float = math.inf
    best: Mapping[str, NDArray[Any]] = {}  # the state_dict of the best epoch, if a callback set it
    batch_loss: float = math.nan  # of the last update
    gradient_norm: Any = math.nan  # of the last update, before clipping
    learning_rate_factor: float = 1.0  # that a schedule has set
    hidden_state: Any = None  # after the last batch, where batches are contiguous
    _progress_display: Callback = Callback()

    def __init__(
        self,
        max_epochs: int,
        num_gpus: int = 0,
        gradient_clip_val: float = 0,
        show_progress: bool = True,
    ) -> None:
        """Initialise with d2l's settings and one more.

        - `max_epochs`: passes over the training data.
        - `num_gpus`: 1 uses a GPU if there is one, 0 the CPU.
        - `gradient_clip_val`: largest norm of the gradient over all weights; 0 does not clip.
        - `show_progress`: show a progress bar on standard error, or a line for each epoch if that
          is not a terminal; in a notebook the curves show the progress.
        """
        require_at_least(0, max_epochs=max_epochs, num_gpus=num_gpus)
        require_number(
            "0 (no bound) or a finite number above",
            lambda bound: is_finite_number(bound) and bound >= 0,
            gradient_clip_val=gradient_clip_val,
        )
        self.save_hyperparameters()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy or a pickle, and the reference from its model, which was left out."""
        vars(self).update(state)
        if "model" in state:
            self.model.trainer = self

    def prepare_data(self, data: Any) -> None:
        """Take the data loaders of `data`, and reset the history."""
        self.data = data
        self.history: list[Epoch] = []
        self.best, self._stopped = {}, False
        self._update_seconds, self._has_updated, self._validation_seconds = 0.0, False, 0.0
        self.batch_loss = self.gradient_norm = math.nan
        self.learning_rate_factor = 1.0
        self._begin_epoch()
        self._began = time.perf_counter()
        self.train_dataloader = data.train_dataloader()
        self.val_dataloader = data.val_dataloader()
        self.num_train_batches = len(self.train_dataloader)
        self.num_val_batches = 0 if self.val_dataloader is None else len(self.val_dataloader)

    def prepare_model(self, model: Any) -> None:
        """Take the model, and move it to the GPU, if there is one to train on."""
        model.trainer = self
        model.board.xlim = [0, self.max_epochs]
        self.model = model
        if self.gpus:
            self.move_model(model, self.gpus[0])

    def move_model(self, model: Any, device: Any) -> None:
        """Move the parameters of a model; not needed where the framework places them itself."""

    def prepare_optimizer(self) -> None:
        """Take the model's optimiser."""
        self.optim = self.model.configure_optimizers()

    @cached_property
    def gpus(self) -> list[Any]:
        """GPUs to train on, at most `num_gpus`; `prepare_batch` moves batches to the first."""
        return self.try_all_gpus()[: self.num_gpus]

    @staticmethod
    def try_all_gpus() -> list[Any]:
        """All GPUs that the framework can use."""
        return []

    def prepare_batch(self, batch: Sequence[Any]) -> Sequence[Any]:
        """Move a batch to the GPU, if there is one to train on, and tell the model its mask."""
        moved = [self.to(array, self.gpus[0]) for array in batch] if self.gpus else batch
        if not isinstance(batch, Batch):
            return moved
        self.model.set_mask(batch.mask)  # for a `fit_epoch` that calls the model's steps itself
        return batch.with_arrays(moved)

    def fit(self, model: Any, data: Any, resume: Checkpoint | None = None) -> None:
        """Train `model` on `data`, from its current weights or from a checkpoint.

        `resume` is a checkpoint as returned by `elman.core.training.checkpoint.read`. The model
        takes the codec of the data; an ElmanError is raised, and nothing changed, if it has
        another.
        """
        _check_has("model", model, "configure_optimizers")
        _check_has("data", data, "train_dataloader")
        shared = codec.shared(model, data)
        memory.retain_freed()
        self.prepare_data(data)
        self.prepare_model(model)
        model.board.begin()
        self.prepare_optimizer()
        self.epoch = self.train_batch_idx = self.val_batch_idx = 0
        if resume is not None:
            self._resume(*resume)
        model.codec = shared
        with self._showing_progress():
            for epoch in range(len(self.history), self.max_epochs):
                if not self._current.batches and self._is_over():
                    break
                self.epoch = epoch
                self.fit_epoch()
                model.set_mask(None)
        self._notify("after_fit")
        self._warn_of_sgd()

    def _warn_of_sgd(self) -> None:
        """Warn if SGD has not learned how frequent the tokens are.

        Only the last epoch counts: with the book's settings the first epochs have not, either.
        """
        if not (self.history and _has_own_sgd(self.model)):
            return
        last = self.history[-1]
        reached = min(last.train_loss, last.val_loss)  # the first where the second is NaN
        wanted = getattr(self.data, "loss_without_context", lambda: math.nan)()
        if wanted + EXCESS < reached:
            # A new model has the loss of equal chances; a rate that is too high makes it larger.
            slow = last.train_loss <= math.log(self.model.vocab_size) + EXCESS
            log.warning(
                "SGD at a learning rate of %g is too %s: after epoch %d the loss is %.4f nats per "
                "token, and the frequencies of the tokens alone give %.4f: use a %s learning rate, "
                "or the optimizer adam with a rate of 0.005",
                *(self.model.lr, "slow" if slow else "fast", last.epoch, reached, wanted),
                "higher" if slow else "lower",
            )

    def fit_epoch(self) -> None:
        """Train on all training batches once, then validate."""
        if self._stopped and not self._current.batches:
            return  # the book's own `fit` does not check
        began, tokens = self.seconds, self._current.loss.weight
        self._train()
        trained = self.seconds
        validation, train = self._validate(), self._current.loss
        self.history.append(
            Epoch(
                epoch=self.epoch + 1,
                train_loss=train.value,
                val_loss=validation.value,
                # No time passes here if the training resumes within a validation.
                tokens_per_second=(train.weight - tokens) / max(trained - began, 1e-9),
                seconds=self.seconds,
            )
        )
        self._validation_seconds = self.seconds - trained
        self._begin_epoch()
        self._notify("after_epoch")
        self._notify("on_checkpoint")

    def _begin_epoch(self) -> None:
        self._current, self.hidden_state = EpochProgress(), None

    def _train(self) -> None:
        self.model.train()
        current = self._current
        current.loader_state = getattr(self.train_dataloader, "state", None)
        for batch in islice(self.train_dataloader, current.batches, None):
            if self._stopped or (current.batches and self._time_is_up):
                break
            self._notify("before_update")
            previous_norm, began = self.gradient_norm, self.seconds
            batch = self._prepared(batch)
            loss = self._train_on(batch)
            if self._has_updated:  # the first update may be compiled
                self._update_seconds = self.seconds - began
            self._has_updated = True
            self.train_batch_idx += 1
            current.batches += 1
            self._check_finite(loss, "training", previous_norm)
            self.batch_loss = loss
            current.loss.add(loss, batch.num_targets)
            self._notify("after_update")
            self._notify("on_checkpoint")

    def _validate(self) -> Mean:
        mean = Mean()
        if self.val_dataloader is None:
            return mean
        self.model.eval()
        self.hidden_state = None
        for batch in self._validation_batches():
            self._notify("before_validate")
            batch = self._prepared(batch)
            loss = self._validate_on(batch)
            self.val_batch_idx += 1
            self._current.validated += 1
            if loss is not None:  # the book's own validation steps return nothing
                self._check_finite(loss, "validation", self.gradient_norm)
                mean.add(loss, batch.num_targets)
        if self._current.validated < self.num_val_batches:
            self.model.board.complete("val_")  # the board waits for num_val_batches
        return mean

    def _validation_batches(self) -> Iterator[Sequence[Any]]:
        """All batches; with a time limit, as many as the first validation had time for."""
        limited, deadline, number = self.max_seconds < math.inf, math.inf, None
        if limited and self.history:
            number = max(1, self.val_batch_idx // len(self.history))
        began = latest = 0.0
        for batch in self.val_dataloader:
            validated = self._current.validated
            if validated == number:
                return
            if self.seconds + latest >= deadline:
                log.info(CUT_SHORT, validated, self.num_val_batches)
                return
            began = self.seconds
            yield batch
            latest = self.seconds - began
            if limited and not number and validated == 0:  # the first batch may be compiled
                deadline = self.seconds + SHARE_OF_TIME * self.max_seconds

    def _prepared(self, arrays: Sequence[Any]) -> Batch:
        """Batch on the device, made of what the data set and `prepare_batch` return."""
        moved = self.prepare_batch(arrays)
        return moved if isinstance(moved, Batch) else Batch.of(arrays).with_arrays(moved)

    def _train_on(self, batch: Batch) -> float:
        """Take the step of a training batch; return its mean loss in nats per token."""
        return float(self._take_step(self.update, batch))

    def _validate_on(self, batch: Batch) -> float | None:
        """Mean loss of a validation batch in nats per token, or None."""
        loss: float | None = self._take_step(self.validate, batch)
        return loss

    def _take_step(self, step: Callable[[Batch], Any], batch: Batch) -> Any:
        """Loss of a batch; a stateful one starts from the state after the previous one."""
        if not batch.stateful:
            return step(batch)
        loss = step(batch.with_state(self.hidden_state))
        self.hidden_state = self.model.final_state
        if self.hidden_state is None:
            raise ElmanError(
                "a stateful batch continues the previous one, and "
                f"{type(self.model).__name__} has set no attribute `final_state` to the state "
                "after that: use random windows, or set it in forward"
            )
        return loss

    def _check_finite(self, loss: float, part: str, norm: Any) -> None:
        if not math.isfinite(loss):
            at = " at a smaller norm" if self.gradient_clip_val > 0 else ""
            raise DivergedError(
                f"the {part} loss became {loss} in epoch {self.epoch + 1}, after "
                f"{self.train_batch_idx} updates{_norm_suffix(float(norm))}: use a lower learning "
                f"rate, or clip the gradient{at}"
            )

    def _notify(self, hook: str) -> None:
        for callback in (*self.callbacks, self._progress_display):
            getattr(callback, hook)(self)

    @contextmanager
    def _showing_progress(self) -> Iterator[None]:
        with progress(self) as self._progress_display:
            try:
                yield
            finally:
                del self._progress_display  # its locks would keep the trainer from being copied

    def stop(self) -> None:
        """End the training with this epoch, after its validation."""
        self._stopped = True

    def may_end(self, wish: bool) -> bool:
        """True if the training may end at once, since a callback has the wish."""
        return wish

    @property
    def seconds(self) -> float:
        """Seconds of training, including those before a checkpoint that it resumed from."""
        return time.perf_counter() - self._began

    @property
    def progress(self) -> float:
        """Fraction of the training that is done, of its updates or its time, whichever is more."""
        total = self.max_epochs * self.num_train_batches
        updates = self.train_batch_idx / total if total else 1.0
        return max(updates, min(1.0, self.seconds / self.max_seconds))

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last update; NaN if the model has no attribute `lr`."""
        return float(getattr(self.model, "lr", math.nan)) * self.learning_rate_factor

    @property
    def _time_is_up(self) -> bool:
        """True if the time is too short for another update, and a validation after it."""
        validation = self._validation_seconds
        if not self.history:  # a batch takes less than an update
            longest = self.num_val_batches * self._update_seconds
            validation = min(SHARE_OF_TIME * self.max_seconds, longest)
        return self.seconds + self._update_seconds + validation >= self.max_seconds

    def _is_over(self) -> bool:
        return self._stopped or bool(self.history and self._time_is_up)

    def example(self) -> Any:
        """A training batch to infer shapes from."""
        if hasattr(self.train_dataloader, "example"):
            return self.train_dataloader.example()
        return next(iter(self.train_dataloader))

    def prepare_state(self) -> None:
        """Create the parameters and optimiser slots that a checkpoint has values for."""

    def checkpoint_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays of a checkpoint: the current `state_dict`, and that of the best epoch."""
        return {**self.state_dict(), **{BEST + name: array for name, array in self.best.items()}}

    def trainer_state(self) -> TrainerState:
        """State of the training besides its arrays."""
        current = self._current
        return TrainerState(
            history=list(self.history),
            batches=current.batches,
            loss=(current.loss.total, current.loss.weight),
            loader_state=current.loader_state or getattr(self.train_dataloader, "state", None),
            updates=self.train_batch_idx,
            validations=self.val_batch_idx - current.validated,  # a resume validates from the start
            seconds=self.seconds,
            validation_seconds=self._validation_seconds,
            stopped=self._stopped,
            update_seconds=self._update_seconds,
        )

    def _resume(self, arrays: Mapping[str, NDArray[Any]], state: TrainerState) -> None:
        state.check_against(self.max_epochs, self.num_train_batches, self.num_val_batches)
        best = {n.removeprefix(BEST): array for n, array in arrays.items() if n.startswith(BEST)}
        current = {name: array for name, array in arrays.items() if not name.startswith(BEST)}
        self.prepare_state()
        own = self.state_dict()
        check_forms(own, current, own)
        try:
            self._load(current, best)
            if state.loader_state:
                self.train_dataloader.state = state.loader_state
        except Exception as error:  # each framework raises its own
            message = "the checkpoint belongs to another training: its state does not fit this one"
            raise ElmanError(message) from error
        own = self.state_dict()
        check_forms(current, current, own)  # arrays that this training does not have
        check_forms(best, best, own)
        self.best, self.history = best, list(state.history)
        self._current.batches = state.batches
        self._current.loss.total, self._current.loss.weight = state.loss
        self.train_batch_idx, self.val_batch_idx = state.updates, state.validations
        self._began = time.perf_counter() - state.seconds
        self._update_seconds = state.update_seconds
        self._validation_seconds, self._stopped = state.validation_seconds, state.stopped

    def _load(self, current: Mapping[str, NDArray[Any]], best: Mapping[str, NDArray[Any]]) -> None:
        """Load the arrays of a checkpoint; those of the best epoch only to see that they fit."""
        if best:
            self.load_state_dict(best)
        self.load_state_dict(current)
        if self.hidden_state is not None:
            self._try_hidden_state()
            self.load_state_dict(current)

    def _try_hidden_state(self) -> None:
        """Take a step from the hidden state, which only shows whether it fits the model."""
        board, self.model.board = self.model.board, ProgressBoard()
        self.model.eval()
        self._validate_on(self._prepared(next(iter(self.train_dataloader))))
        self.model.board = board

    def update(self, batch: Batch) -> float:
        """Take one optimisation step; return the mean loss of the batch in nats per token."""
        raise NotImplementedError("a framework's Trainer defines update(batch)")

    def validate(self, batch: Batch) -> float | None:
        """Mean loss of a batch without gradients; None if the model's step returns none."""
        raise NotImplementedError("a framework's Trainer defines validate(batch)")

    def backpropagate(self, batch: Batch) -> float:
        """Compute the gradients of a batch, which stay in the model; return its mean loss."""
        raise NotImplementedError(f"{type(self).__name__} has no shards: use another framework")

    def gradient_vector(self) -> Any:
        """Copy of all gradients, as one vector in single precision."""
        raise NotImplementedError("a Trainer with shards defines gradient_vector()")

    def apply_gradients(self, vector: Any) -> None:
        """Clip these gradients, or measure them, and take the optimiser's step."""
        raise NotImplementedError("a Trainer with shards defines apply_gradients(vector)")

    def seed_dropout(self, *words: int) -> None:
        """Seed the generators of dropout with some numbers."""
        raise NotImplementedError("a Trainer with shards defines seed_dropout(*words)")

    def vector_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights, in the order of `gradient_vector`."""
        raise NotImplementedError("a Trainer with shards defines vector_shapes()")

    def partition_optimizer(self, own: slice) -> None:
        """Make the optimiser one of a part of all weights, which are taken as one vector."""
        raise NotImplementedError("a Trainer with shards defines partition_optimizer(own)")

    def update_part(self, vector: Any) -> Any:
        """Take the optimiser's step with these gradients of all weights; return its part."""
        raise NotImplementedError("a Trainer with shards defines update_part(vector)")

    def set_weight_vector(self, vector: Any) -> None:
        """Set all weights, in the order of `gradient_vector`."""
        raise NotImplementedError("a Trainer with shards defines set_weight_vector(vector)")

    def is_of_part(self, name: str) -> bool:
        """True if an array of the state has numbers of the optimiser's part alone."""
        raise NotImplementedError("a Trainer with shards defines is_of_part(name)")

    def clip_or_measure(self) -> None:
        """Clip the model's gradients, or else set `gradient_norm`, as clipping does."""
        if self.gradient_clip_val > 0:
            self.clip_gradients(self.gradient_clip_val, self.model)
        else:
            self.gradient_norm = self.measure_gradients(self.model)

    def measure_gradients(self, model: Any) -> Any:
        """Norm of all gradients as one vector."""
        raise NotImplementedError("a framework's Trainer defines measure_gradients(model)")

    def clip_gradients(self, grad_clip_val: float, model: Any) -> None:
        """Scale all gradients so that their common norm is at most `grad_clip_val`."""
        raise NotImplementedError("a framework's Trainer defines clip_gradients(value, model)")

    def scale_learning_rate(self, factor: float) -> None:
        """Set the learning rate to `factor` times its initial value."""
        raise NotImplementedError("a framework's Trainer defines scale_learning_rate(factor)")

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Copies of all arrays that training changes: weights, optimiser, generators."""
        raise NotImplementedError("a framework's Trainer defines state_dict()")

    def load_state_dict(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Load what `state_dict` returned; the model and its optimiser must be prepared."""
        raise NotImplementedError("a framework's Trainer defines load_state_dict(arrays)")


def _check_has(name: str, value: Any, method: str) -> None:
    if not hasattr(value, method):
        raise ElmanError(f"fit requires {name} with {method}(), got {value!r}")


def _has_own_sgd(model: Any) -> bool:
    """True if the optimizer of a model is SGD, made by this package."""
    made_by = getattr(type(model).configure_optimizers, "__module__", "")
    return getattr(model, "optimizer", None) == "sgd" and made_by.startswith("elman.")


def _norm_suffix(norm: float) -> str:
    """The gradient norm of the previous update, for the end of a message; empty if unknown."""
    return "" if math.isnan(norm) else f" (gradient norm of the previous update: {norm:.3g})"


def check_optimizer(
    optimizer: str, lr: float, momentum: float, weight_decay: float | None = None
) -> None:
    """Raise an ElmanError unless these are valid settings of an optimiser."""
    require_one_of(OPTIMIZERS, optimizer=optimizer)
    require_number(
        "a finite number above 0",
        lambda rate: is_finite_number(rate) and rate > 0,
        the_learning_rate=lr,
    )
    require_number("at least 0 and below 1", lambda share: 0 <= share < 1, momentum=momentum)
    if momentum and optimizer != "sgd":
        raise ElmanError(f"momentum requires sgd, got {momentum} with {optimizer}: leave it out")
    if weight_decay is not None:
        require_number(
            "a finite number of 0 or more",
            lambda decay: is_finite_number(decay) and decay >= 0,
            weight_decay=weight_decay,
        )
    if weight_decay and optimizer != "adamw":
        raise ElmanError(
            f"weight decay requires adamw, got {weight_decay} with {optimizer}: leave it out"
        )


def decay_of(weight_decay: float | None) -> float:
    """Weight decay of AdamW where this is given; None stands for `DEFAULT_DECAY`."""
    return DEFAULT_DECAY if weight_decay is None else weight_decay
