"""The training loop of all frameworks; `time_limit.py` says when it ends.

The loop prepares batches, calls a framework's step for each (`step.py`), and keeps the history. It
shows nothing: callbacks do. D2L's hooks are in `book/trainer.py`.
"""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from operator import methodcaller
from typing import Any

from numpy.typing import NDArray

from elman.data.batches import Batch, ShardedBatch
from elman.errors import DivergedError, ElmanError, is_number
from elman.model.metrics import Mean, bits_per_character
from elman.training.history import (
    BEST,
    Epoch,
    RowProgress,
    TrainerState,
    best_epoch,
    check_forms,
)
from elman.training.step import Arrays, Step
from elman.training.time_limit import TimeLimit, TimePlan
from elman.training.workers.sharded import PartitionedStep, ShardedStep, Shards
from elman.user_classes import DataAttributes, LoaderAttributes, ModelAttributes


class Loop:
    """Trains a model on data, epoch by epoch, with a framework's step.

    `history` contains an Epoch for each epoch of the last training. `max_seconds` is a time limit.
    The last epoch ends when another update as long as the previous one, plus a validation, would
    exceed it. With a time limit, the first validation ends after a tenth of it; all others read as
    many batches.

    `by_time` is for a training that only its time limit ends. Its history has a row for about each
    tenth of the time, regardless of passes over the data. Validations during the training read the
    same few batches, in less than 5 % of the time. The final weights are validated on as much as
    fits in a tenth of the time.
    """

    step_type: Any  # the framework's Step
    model: Any = None
    optim: Any = None
    data: Any = None  # of the last training
    history: list[Epoch]
    max_epochs: int
    epoch: int
    gradient_clip_val: float
    train_batch_idx: int  # updates so far
    val_batch_idx: int  # batches of all validations so far
    # Class attributes, since a subclass's constructor may not call another one.
    callbacks: Sequence[Any] = ()  # as `callback.Callback`
    max_seconds: float = math.inf
    by_time: bool = False
    shards: Shards | None = None  # how batches are divided, if the training uses shards
    best: Mapping[str, NDArray[Any]] = {}  # the state_dict of the best epoch, if a callback set it
    batch_loss: float = math.nan  # of the last update
    gradient_norm: Any = math.nan  # of the last update, before clipping
    learning_rate_factor: float = 1.0  # set by a schedule
    hidden_state: Any = None  # after the last batch, if batches are stateful
    # Convert training and validation losses to bits per character, unless tokens are characters.
    in_bits: tuple[Any, Any] | None = None
    is_between_updates: bool = False  # a checkpoint can be written
    _final: tuple[float, int] | None = None  # loss and batches of the last validation by time
    _step: Step | None = None
    _step_of: tuple[Any, Any] = None, None  # model and optimizer of the step

    def begin(self, data: Any) -> None:
        """Take the data loaders of `data`, and reset the history."""
        self.data = data
        self.history = []
        self.best = {}
        self._stopped = self.is_between_updates = False
        self.limit = (TimePlan if self.by_time else TimeLimit)(self.max_seconds)
        self.batch_loss = self.gradient_norm = math.nan
        self.learning_rate_factor = 1.0
        self._final = None
        self.in_bits = None
        if (sizes := DataAttributes.of(data).sizes_in_characters) is not None:
            of_training, of_validation = (partial(bits_per_character, size=s) for s in sizes)
            self.in_bits = of_training, of_validation
        self._begin_epoch()
        self._row = RowProgress()
        self._began = time.perf_counter()
        self.train_dataloader = self._own_shards(data.train_dataloader())
        self.val_dataloader = self._own_shards(data.val_dataloader())
        self.num_train_batches = len(self.train_dataloader)
        self.num_val_batches = 0 if self.val_dataloader is None else len(self.val_dataloader)

    def _own_shards(self, loader: Any) -> Any:
        """The loader, divided if the training uses shards."""
        if self.shards is None or loader is None:
            return loader
        return self.shards.cut(loader, len(self.data.vocab))

    @property
    def step(self) -> Step:
        """The framework's step for this model and optimizer, in shards if there are any."""
        # The book's own `fit` and `prepare_model` do not drop the step of another training.
        model, optim = self._step_of
        if self._step is not None and model is self.model and optim is self.optim:
            return self._step
        self.step = step = self._new_step()
        return step

    @step.setter
    def step(self, step: Step) -> None:
        self._step = step
        self._step_of = self.model, self.optim  # a step may have replaced the optimizer

    def _new_step(self) -> Step:
        step: Any = self.step_type(self)
        if self.shards is None:
            return step  # type: ignore[no-any-return]
        kind = PartitionedStep if self.shards.partitioned else ShardedStep
        return kind(step, self.shards)

    def prepare_batch(self, batch: Sequence[Any]) -> Sequence[Any]:
        """Arrays of a batch on the device of the model."""
        return batch

    def run(self) -> None:
        """Train epoch by epoch until all are done or the time is up."""
        for epoch in range(self._passes_ended, self.max_epochs):
            if (self.by_time or not self._pass_batches) and self._is_over():
                break
            self.epoch = epoch
            self.fit_epoch()
            self.model.set_mask(None)
        if self.by_time and self._row.batches:
            self._end_row()
        self._call("after_fit")
        if self.by_time:
            self._validate_finally()

    def _call(self, *hooks: str) -> None:
        """Call each hook of all callbacks."""
        for hook in hooks:
            for callback in self.callbacks:
                methodcaller(hook, self)(callback)

    @property
    def _passes_ended(self) -> int:
        """Number of passes over the training data that have ended."""
        if not self.by_time:
            return len(self.history)
        return (self.train_batch_idx - self._pass_batches) // max(1, self.num_train_batches)

    def fit_epoch(self) -> None:
        """Train on all training batches once, then validate; in a training by time only if due."""
        if self._stopped and not self._pass_batches:
            return  # the book's own `fit` does not check
        if not self._row.batches:
            self._row.begin(self.seconds)
        self._train()
        if not self.by_time:
            self._end_row()
        elif not self._is_over():  # otherwise a checkpoint contains the position in the pass
            self._begin_epoch()

    def reached(self) -> Epoch:
        """The row for the training since the last row of the history, not yet validated."""
        row, seconds = self._row, self.seconds
        before = self.history[-1].tokens if self.history else 0
        return Epoch(
            epoch=1 + (len(self.history) if self.by_time else self.epoch),
            train_loss=row.loss.value,
            val_loss=math.nan,
            tokens_per_second=row.speed(seconds),
            seconds=seconds,
            tokens=None if before is None else before + row.loss.weight,
            passes=self.passes,
            learning_rate=_known(self.learning_rate),
            gradient_norm=_known(self.gradient_norm),
        )

    @property
    def passes(self) -> float:
        """Number of passes over the training data so far."""
        share = LoaderAttributes.of(self.train_dataloader).share
        return share * self.train_batch_idx / max(1, self.num_train_batches)

    def _end_row(self) -> None:
        """Validate, and add a row to the history."""
        row = self.reached()
        validation = self._validate(self._validation_batches())
        self.history.append(replace(row, val_loss=validation.value, seconds=self.seconds))
        if not self.by_time:
            self.limit.validation_seconds = self.seconds - row.seconds
            self._begin_epoch()
        self._row = RowProgress()
        self._call("after_epoch", "on_checkpoint")
        self._row.begin(self.seconds)

    def _begin_epoch(self) -> None:
        self._pass_batches = 0  # so far, in the current pass over the training data
        self._pass_began: Any = None  # state of the training data's generator at its beginning
        self.hidden_state = None

    def _train(self) -> None:
        self.model.train()
        self._pass_began = self._loader_state
        for arrays in islice(self.train_dataloader, self._pass_batches, None):
            if self.is_due:
                self._end_row()
                self.model.train()
            has_begun = self.train_batch_idx if self.by_time else self._pass_batches
            if self._stopped or (has_begun and self._time_is_up):
                break
            self._call("before_update")
            previous_norm = self.gradient_norm
            began = self.seconds
            batch = self._prepared(arrays, self.hidden_state)
            self.is_between_updates = False
            loss = float(self.step.update(batch))
            self.hidden_state = self._state_after(batch, self.hidden_state)
            self.limit.note_update(self.seconds - began)
            self.train_batch_idx += 1
            self._pass_batches += 1
            self._check_finite(loss, "training", previous_norm)
            self.batch_loss = loss
            self._row.batches += 1
            self._row.loss.add(loss, batch.num_targets)
            self.is_between_updates = True
            self._call("after_update", "on_checkpoint")

    def _validate(self, batches: Iterable[Sequence[Any]]) -> Mean:
        mean = Mean()
        if self.val_dataloader is None:
            return mean
        self.model.eval()
        state = None
        for arrays in batches:
            self._call("before_validate")
            batch = self._prepared(arrays, state)
            loss = self.step.validate(batch)
            state = self._state_after(batch, state)
            self.val_batch_idx += 1
            self._row.validated += 1
            if loss is not None:  # the book's own validation steps return nothing
                self._check_finite(loss, "validation", self.gradient_norm)
                mean.add(loss, batch.num_targets)
        return mean

    def _validation_batches(self) -> Iterable[Sequence[Any]]:
        """All batches; with a time limit, as many as the first validation had time for."""
        if self.val_dataloader is None:
            return ()
        if self.max_seconds == math.inf:
            return self.val_dataloader  # type: ignore[no-any-return]
        number = self._validated_batches or None
        return self.limit.row_batches(self.val_dataloader, self._clock, number)

    @property
    def _validated_batches(self) -> int:
        """Batches that each row of the history was validated on; 0 if there are no rows."""
        return max(1, self.val_batch_idx // len(self.history)) if self.history else 0

    def _clock(self) -> float:
        return self.seconds

    def _validate_finally(self) -> None:
        """Validate the final weights of a training by time, if its rows read less."""
        if not self.history or self._validated_batches >= self.num_val_batches:
            return
        batches = self.limit.validation_batches(self.val_dataloader, self._clock, None)
        self._final = self._validate(batches).value, self._row.validated

    @property
    def validation(self) -> tuple[float, int]:
        """Loss of the best epoch's weights in nats per token, and the number of batches."""
        if self._final is not None:
            return self._final
        return best_epoch(self.history).val_loss, self.val_batch_idx // len(self.history)

    def _prepared(self, arrays: Any, state: Any) -> Any:
        """Batch on the device, made from the results of the data set and `prepare_batch`.

        A stateful batch starts from the state after the previous batch, unless it begins.
        """
        batch = self._on_device(arrays)
        return batch.with_state(None if batch.begins else state) if batch.stateful else batch

    def _on_device(self, arrays: Any) -> Any:
        sharded = isinstance(arrays, ShardedBatch)
        return arrays.prepared(self._moved) if sharded else self._moved(arrays)

    def _moved(self, arrays: Sequence[Any]) -> Batch:
        moved = self.prepare_batch(arrays)
        return moved if isinstance(moved, Batch) else Batch.of(arrays).with_arrays(moved)

    def _state_after(self, batch: Any, before: Any) -> Any:
        """State after a batch if the next one continues its sequences; otherwise the one before."""
        if not batch.stateful:
            return before
        state = self.step.final_state
        if state is None:
            raise ElmanError(
                "a stateful batch requires the state after the previous one, and "
                f"{type(self.model).__name__} does not set `final_state`: use random windows, or "
                "set it in forward"
            )
        return state

    def _check_finite(self, loss: float, part: str, norm: Any) -> None:
        if not math.isfinite(loss):
            at = " at a smaller norm" if self.gradient_clip_val > 0 else ""
            raise DivergedError(
                f"the {part} loss became {loss} in epoch {self.epoch + 1}, after "
                f"{self.train_batch_idx} updates{_norm_suffix(float(norm))}: use a lower learning "
                f"rate, or clip the gradient{at}"
            )

    def stop(self) -> None:
        """End the training with this epoch, after its validation."""
        self._stopped = True

    @property
    def elapsed(self) -> float:
        """Seconds of training by this process's clock, used by `seconds`."""
        return time.perf_counter() - self._began

    @property
    def seconds(self) -> float:
        """Seconds of training, including the time before a checkpoint that it resumed from."""
        agreed = self.step.agreed_seconds
        return self.elapsed if agreed is None else agreed

    @property
    def progress(self) -> float:
        """Fraction of the training that is done: of its updates or its time, whichever is more."""
        total = self.max_epochs * self.num_train_batches
        updates = self.train_batch_idx / total if total else 1.0
        return max(updates, min(1.0, self.seconds / self.max_seconds))

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last update; NaN if the model's attribute `lr` is no number."""
        lr = ModelAttributes.of(self.model).lr
        return float(lr) * self.learning_rate_factor if is_number(lr) else math.nan

    @property
    def _time_is_up(self) -> bool:
        return self.limit.is_up(self.seconds, self._validated_batches, self.num_val_batches)

    def _is_over(self) -> bool:
        return self._stopped or bool((self.history or self._row.batches) and self._time_is_up)

    @property
    def is_due(self) -> bool:
        """True if a training by time must be validated before the next update."""
        last = self.history[-1].seconds if self.history else 0.0
        validation = self._validated_batches, self.num_val_batches
        return self._row.batches > 0 and self.limit.is_due(last, self.seconds, *validation)

    def example(self) -> Any:
        """A training batch to infer shapes from."""
        example = LoaderAttributes.of(self.train_dataloader).example
        return next(iter(self.train_dataloader)) if example is None else example()

    @property
    def _loader_state(self) -> Any:
        """State of the generator of training batches; None for a user's loader without one."""
        return LoaderAttributes.of(self.train_dataloader).state

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Copies of all arrays that training changes: weights, optimizer, generators, state."""
        return self.step.state_dict() | self.step.hidden_arrays(self.hidden_state)

    def load_state_dict(self, arrays: Arrays) -> None:
        """Load the result of `state_dict`; the model and its optimizer must be prepared."""
        self.step.load_state_dict(arrays)
        self.hidden_state = self.step.hidden_state(arrays)

    def checkpoint_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays of a checkpoint: the current `state_dict`, and the best epoch's."""
        best = {BEST + name: array for name, array in self.best.items()}
        return self.step.gathered({**self.state_dict(), **best})

    def trainer_state(self) -> TrainerState:
        """State of the training except its arrays."""
        row = self._row
        return TrainerState(
            history=list(self.history),
            batches=self._pass_batches,
            row_batches=row.batches if self.by_time else None,
            loss=(row.loss.total, row.loss.weight),
            loader_state=self._pass_began or self._loader_state,
            updates=self.train_batch_idx,
            validations=self.val_batch_idx - row.validated,  # a resume validates from the start
            seconds=self.seconds,
            validation_seconds=self.limit.validation_seconds,
            stopped=self._stopped,
            update_seconds=self.limit.update_seconds,
            learning_rate_factor=self.learning_rate_factor,
            gradient_norm=_known(self.gradient_norm),
        )

    def resume(self, arrays: Arrays, state: TrainerState) -> None:
        """Continue from a checkpoint; an ElmanError if it belongs to another training."""
        numbers = self.max_epochs, self.num_train_batches, self.num_val_batches
        state.check_against(*numbers, self.by_time)
        arrays = self.step.own_part(arrays)
        best = {n.removeprefix(BEST): array for n, array in arrays.items() if n.startswith(BEST)}
        current = {name: array for name, array in arrays.items() if not name.startswith(BEST)}
        self.step.create_state()
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
        check_forms(current, current, own)  # fails for arrays that this training does not have
        check_forms(best, best, own)
        self.best = best
        self.history = list(state.history)
        self._pass_batches = state.batches
        self._row.batches = state.batches if state.row_batches is None else state.row_batches
        self._row.loss.total, self._row.loss.weight = state.loss
        self.train_batch_idx = state.updates
        self.val_batch_idx = state.validations
        self._began = time.perf_counter() - state.seconds
        if self.step.agreed_seconds is not None:
            self.step.agreed_seconds = state.seconds
        self.limit.update_seconds = state.update_seconds
        self.limit.validation_seconds = state.validation_seconds
        self.learning_rate_factor = state.learning_rate_factor
        self.gradient_norm = math.nan if state.gradient_norm is None else state.gradient_norm
        self._stopped = state.stopped
        self._row.begin(self.seconds)
        self.is_between_updates = True

    def _load(self, current: Arrays, best: Arrays) -> None:
        """Load the arrays of a checkpoint; the best epoch's only to check that they fit."""
        if best:
            self.load_state_dict(best)
        self.load_state_dict(current)
        if self.hidden_state is not None:
            self._try_hidden_state()
            self.load_state_dict(current)

    def _try_hidden_state(self) -> None:
        """Take a step from the hidden state, only to check that it fits the model."""
        self.model.eval()
        batch = self._on_device(next(iter(self.train_dataloader)))
        self.step.validate(batch.with_state(self.hidden_state))


def _known(number: Any) -> float | None:
    """A number of any framework as a float; None if it is not finite."""
    return value if math.isfinite(value := float(number)) else None


def _norm_suffix(norm: float) -> str:
    """The gradient norm of the previous update, for the end of a message; empty if unknown."""
    return "" if math.isnan(norm) else f" (gradient norm of the previous update: {norm:.3g})"
