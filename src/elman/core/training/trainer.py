"""The only training loop, through D2L's hooks; a framework supplies `update` and `validate`."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from typing import Any

from numpy.typing import NDArray

from elman.core.errors import (
    DivergedError,
    ElmanError,
    is_finite,
    is_one_of,
    require_at_least,
    require_number,
)
from elman.core.files import memory
from elman.core.hyperparameters import HyperParameters
from elman.core.model.metrics import Mean
from elman.core.text import codec
from elman.core.training.callback import Callback
from elman.core.training.history import Checkpoint, Epoch, Facts
from elman.core.training.plotting import ProgressBoard
from elman.core.training.progress import progress

log = logging.getLogger("elman")

SHARE_OF_TIME = 0.1  # where that is bounded: what a validation, or a test, may take of it
CUT_SHORT = "each validation reads %d of %d batches, as many as a tenth of the time was enough for"
BEST = "best."  # begins the names, in a checkpoint, of what the best epoch captured


class Trainer(HyperParameters):
    """Trains a model on data for `max_epochs` epochs, with the gradient's norm held below a bound.

    `history` holds one Epoch for each epoch of the last `fit`. Where training takes `max_seconds`,
    its last epoch is cut short, in time for a validation as long as the last. The first validation
    then ends after a tenth of that time, and all others with the same batch.
    """

    max_epochs: int
    gradient_clip_val: float
    to: Callable[[Any, Any], Any]  # moves an array to a device; of a framework that has GPUs
    # A constructor of the user's need not know of these.
    num_gpus: int = 0
    show_progress: bool = True
    callbacks: Sequence[Callback] = ()
    max_seconds: float = math.inf
    best: Mapping[
        str, NDArray[Any]
    ] = {}  # what `state_dict` returned after the best epoch, if kept
    _shown: Callback = Callback()  # what shows the progress, within `fit`
    gradient_norm: Any = math.nan  # that of the last update, before it was clipped

    def __init__(
        self,
        max_epochs: int,
        num_gpus: int = 0,
        gradient_clip_val: float = 0,
        show_progress: bool = True,
    ) -> None:
        """Keep the settings, which are d2l's and one more.

        - `max_epochs`: passes over the training data.
        - `num_gpus`: with 1 a GPU is used where there is one, and the CPU elsewhere.
        - `gradient_clip_val`: bound of the gradient's norm over all weights; 0 means none.
        - `show_progress`: print a line for each epoch on standard error, or a bar where that is a
          terminal; in a notebook the curves show the progress.
        """
        require_at_least(0, max_epochs=max_epochs, num_gpus=num_gpus)
        require_number(
            "0 (no bound) or a finite number above",
            lambda bound: is_finite(bound) and bound >= 0,
            gradient_clip_val=gradient_clip_val,
        )
        self.save_hyperparameters()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what a copy or a pickle has, and the model with it, which has left its trainer."""
        vars(self).update(state)
        if "model" in state:
            self.model.trainer = self

    def prepare_data(self, data: Any) -> None:
        """Ask the data module for its minibatches."""
        self.data = data
        self.history: list[Epoch] = []
        self.best, self._stopped, self._validation_seconds = {}, False, 0.0
        self.gradient_norm = math.nan
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

    @cached_property
    def gpus(self) -> list[Any]:
        """GPUs to train on, at most `num_gpus`; `prepare_batch` moves batches to the first."""
        return self.try_all_gpus()[: self.num_gpus]

    @staticmethod
    def try_all_gpus() -> list[Any]:
        """All GPUs that the framework can use."""
        return []

    def prepare_batch(self, batch: Sequence[Any]) -> Sequence[Any]:
        """Move a batch to the GPU, if there is one to train on."""
        return [self.to(array, self.gpus[0]) for array in batch] if self.gpus else batch

    def fit(self, model: Any, data: Any, resume: Checkpoint | None = None) -> None:
        """Train `model` on `data` from the weights it has, or from a checkpoint on.

        A checkpoint is one that `elman.core.training.checkpoint.read` returns. From here on the
        model has the codec of the data; an ElmanError if it has another, before any change.
        """
        for name, given, method in (
            ("model", model, "configure_optimizers"),
            ("data", data, "train_dataloader"),
        ):
            if not hasattr(given, method):
                raise ElmanError(f"fit takes a {name} that has {method}(), got {given!r}")
        shared = codec.shared(model, data)
        memory.keep_freed()
        self.prepare_data(data)
        self.prepare_model(model)
        model.board.begin()
        self.prepare_optimizer()
        self.epoch = self.train_batch_idx = self.val_batch_idx = 0
        if resume is not None:
            self._go_on_from(*resume)
        model.codec = shared
        with self._showing_progress():
            for epoch in range(len(self.history), self.max_epochs):
                if not self._batches and (self._stopped or (self.history and self._time_is_up)):
                    break
                self.epoch = epoch
                self.fit_epoch()
        self._notify("after_fit")

    @contextmanager
    def _showing_progress(self) -> Iterator[None]:
        with progress(self) as self._shown:
            try:
                yield
            finally:
                del self._shown  # a bar has locks: with it no trainer could be copied

    def stop(self) -> None:
        """Train no further: an epoch that has begun is validated, and is the last."""
        self._stopped = True

    @property
    def seconds(self) -> float:
        """Seconds of training, those before a checkpoint that it went on from included."""
        return time.perf_counter() - self._began

    @property
    def progress(self) -> float:
        """The share of the training that is done: of its updates, or its time if that is more."""
        total = self.max_epochs * self.num_train_batches
        updates = self.train_batch_idx / total if total else 1.0
        return max(updates, min(1.0, self.seconds / self.max_seconds))

    @property
    def _time_is_up(self) -> bool:
        return self.seconds + self._validation_seconds >= self.max_seconds

    def scale_learning_rate(self, factor: float) -> None:
        """From here on the learning rate is `factor` times what the optimiser has begun with."""
        raise NotImplementedError("a framework's Trainer defines scale_learning_rate(factor)")

    def example(self) -> Any:
        """A batch to learn shapes from; drawn as any other where the data have none for that."""
        if hasattr(self.train_dataloader, "example"):
            return self.train_dataloader.example()
        return next(iter(self.train_dataloader))

    def prepare_state(self) -> None:
        """Create the parameters and optimiser slots that a checkpoint has values for."""

    def checkpoint_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays of a checkpoint: all that has changed by now, and the same of the best epoch."""
        return {**self.state_dict(), **{BEST + name: array for name, array in self.best.items()}}

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Copies of all arrays that training changes: weights, optimiser, generators."""
        raise NotImplementedError("a framework's Trainer defines state_dict()")

    def load_state_dict(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Load what `state_dict` returned; the model and its optimiser must be prepared."""
        raise NotImplementedError("a framework's Trainer defines load_state_dict(arrays)")

    def facts(self) -> Facts:
        """State of the training, arrays apart, and its history."""
        return Facts(
            history=list(self.history),
            batches=self._batches,
            loss=(self._in_epoch.total, self._in_epoch.weight),
            drawn_from=self._drawn_from or getattr(self.train_dataloader, "state", None),
            updates=self.train_batch_idx,
            validations=self.val_batch_idx - self._validated,  # the others are done anew
            seconds=self.seconds,
            validation_seconds=self._validation_seconds,
            stopped=self._stopped,
        )

    def _go_on_from(self, arrays: Mapping[str, NDArray[Any]], facts: Facts) -> None:
        facts.check_against(self.max_epochs, self.num_train_batches, self.num_val_batches)
        best = {n.removeprefix(BEST): array for n, array in arrays.items() if n.startswith(BEST)}
        now = {name: array for name, array in arrays.items() if not name.startswith(BEST)}
        self.prepare_state()
        own = self.state_dict()
        _check_same(own, now, own)
        try:
            for kept in (best, now):
                if kept:
                    self.load_state_dict(kept)
            if self.hidden_state is not None:
                self._try_hidden_state()
                self.load_state_dict(now)
            if facts.drawn_from:
                self.train_dataloader.state = facts.drawn_from
        except Exception as error:  # each framework raises its own
            message = "the checkpoint is one of another training: its state does not fit this one"
            raise ElmanError(message) from error
        own = self.state_dict()
        _check_same(now, now, own)  # what this training knows nothing of
        _check_same(best, best, own)
        self.best = best
        self.history = list(facts.history)
        self._batches = facts.batches
        self._in_epoch.total, self._in_epoch.weight = facts.loss
        self.train_batch_idx, self.val_batch_idx = facts.updates, facts.validations
        self._began = time.perf_counter() - facts.seconds
        self._validation_seconds = facts.validation_seconds
        self._stopped = facts.stopped

    def _try_hidden_state(self) -> None:
        """Go on from the state carried, on no board: whether it fits is known by nothing less."""
        board, self.model.board = self.model.board, ProgressBoard()
        self.model.eval()
        self._take(self.validate, next(iter(self.train_dataloader)), self.train_dataloader)
        self.model.board = board

    def fit_epoch(self) -> None:
        """One pass over the training batches, then one over the validation batches."""
        if self._stopped and not self._batches:
            return  # a `fit` of the book's does not ask
        began, tokens = time.perf_counter(), self._in_epoch.weight
        self._train()
        trained = time.perf_counter()
        validation, train = self._validate(), self._in_epoch
        self.history.append(
            Epoch(
                epoch=self.epoch + 1,
                train_loss=train.value,
                val_loss=validation.value,
                # After a stop within the validation there was nothing left to train.
                tokens_per_second=(train.weight - tokens) / max(trained - began, 1e-9),
                seconds=self.seconds,
            )
        )
        self._validation_seconds = time.perf_counter() - trained
        self._begin_epoch()
        self._notify("after_epoch")
        self._notify("on_checkpoint")

    def _notify(self, what: str) -> None:
        for callback in (*self.callbacks, self._shown):
            getattr(callback, what)(self)

    def _begin_epoch(self) -> None:
        """Nothing is done of the next epoch: no batch, no loss, no rows drawn, no state reached."""
        self._batches, self._in_epoch, self._drawn_from = 0, Mean(), None
        self._validated = 0
        self.hidden_state: Any = None

    def _train(self) -> None:
        self.model.train()
        self._drawn_from = getattr(self.train_dataloader, "state", None)
        for batch in islice(self.train_dataloader, self._batches, None):
            if self._stopped or (self._batches and self._time_is_up):
                break
            self._notify("before_update")
            norm_before = self.gradient_norm
            loss = self._take(self.update, batch, self.train_dataloader)
            self.train_batch_idx += 1
            self._batches += 1
            self._check_finite(loss, "training", norm_before)
            self._in_epoch.add(loss, math.prod(batch[-1].shape))
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
            loss = self._take(self.validate, batch, self.val_dataloader)
            self.val_batch_idx += 1
            self._validated += 1
            if loss is not None:  # the book's own validation steps return nothing
                self._check_finite(loss, "validation", self.gradient_norm)
                mean.add(loss, math.prod(batch[-1].shape))
        if self._validated < self.num_val_batches:
            self.model.board.complete("val_")  # it waits for as many batches as there are
        return mean

    def _validation_batches(self) -> Iterator[Sequence[Any]]:
        """All batches, or, where time is bounded, as many as the first validation had time for."""
        bounded, until, known = self.max_seconds < math.inf, math.inf, None
        if bounded and self.history:
            known = max(1, self.val_batch_idx // len(self.history))
        for batch in self.val_dataloader:
            if self._validated == known:
                return
            if time.perf_counter() >= until:
                log.info(CUT_SHORT, self._validated, self.num_val_batches)
                return
            yield batch
            if bounded and not known and self._validated == 1:  # which may have been compiled
                until = time.perf_counter() + SHARE_OF_TIME * self.max_seconds

    def _take(self, step: Callable[..., Any], batch: Sequence[Any], dataloader: Any) -> Any:
        """The loss of a batch; in a stream, from the state that the batch before has reached."""
        batch = self.prepare_batch(batch)
        if not getattr(dataloader, "stream", False):
            return step(batch)
        loss = step([*batch[:-1], self.hidden_state, batch[-1]])
        self.hidden_state = self.model.final_state
        if self.hidden_state is None:
            raise ElmanError(
                "a stream carries the state from batch to batch, and "
                f"{type(self.model).__name__} has set no attribute `final_state` to the state "
                "after this one: use windows that are random, or set it in forward"
            )
        return loss

    def _check_finite(self, loss: float, which: str, norm: Any) -> None:
        if not math.isfinite(loss):
            raise DivergedError(
                f"the {which} loss became {loss} in epoch {self.epoch + 1}, after "
                f"{self.train_batch_idx} updates{_told(float(norm))}: use a lower learning rate, "
                "or clip the gradient"
            )

    def update(self, batch: Sequence[Any]) -> float:
        """Take one optimisation step and return the batch's mean loss, in nats."""
        raise NotImplementedError("a framework's Trainer defines update(batch)")

    def validate(self, batch: Sequence[Any]) -> float | None:
        """Return the batch's mean loss without a gradient, or None where the model gives none."""
        raise NotImplementedError("a framework's Trainer defines validate(batch)")

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


def _told(norm: float) -> str:
    """End of a message: the norm of the gradient before, if it is known."""
    return (
        "" if math.isnan(norm) else f", the gradient's norm in the last before it being {norm:.3g}"
    )


def _check_same(
    names: Iterable[str], kept: Mapping[str, NDArray[Any]], own: Mapping[str, NDArray[Any]]
) -> None:
    """Raise an ElmanError unless a checkpoint's arrays are such as a training has of its own."""
    for name in names:
        there, here = _form(name, kept), _form(name, own)
        if there != here:
            raise ElmanError(
                f"the checkpoint is one of another training: as {name} it has {there}, and this "
                f"one {here}"
            )


def _form(name: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    if name not in arrays:
        return "nothing"
    kind = "floats" if arrays[name].dtype.kind == "f" else "whole numbers"
    if name.startswith("generator"):
        return kind  # a generator's state may be longer or shorter
    return f"{kind} of shape {arrays[name].shape}"


def check_optimizer(optimizer: str, lr: float, momentum: float) -> None:
    """Raise an ElmanError unless these settings make an optimiser."""
    if not is_one_of(optimizer, ("sgd", "adam")):
        raise ElmanError(f"the optimizer is sgd or adam, got {optimizer!r}")
    require_number(
        "a finite number above 0", lambda rate: is_finite(rate) and rate > 0, the_learning_rate=lr
    )
    require_number("at least 0 and below 1", lambda share: 0 <= share < 1, momentum=momentum)
    if momentum and optimizer == "adam":
        raise ElmanError(f"momentum goes with sgd, got {momentum} with adam: leave it out")
