"""Trainer: the loop with D2L's hooks, curves and a progress display.

A framework's Trainer defines `step_type` and D2L's `clip_gradients`. With gradients in the model it
has `measure_gradients`, with GPUs `to`, `try_all_gpus` and `move_model`, with kernels
`compile_ahead` and `compile_beside`.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any

from elman.book.module import HyperParameters
from elman.book.plotting import ProgressBoard
from elman.data.batches import Batch
from elman.errors import ElmanError, is_finite_number, require_at_least, require_number
from elman.files import memory
from elman.files.long_work import showing
from elman.text import codec
from elman.training.checkpoint import Checkpoint
from elman.training.curve_files import Picture
from elman.training.loop import Loop
from elman.training.progress import progress
from elman.training.schedule import warn_of_sgd


class Trainer(Loop, HyperParameters):
    """Trains a model on data."""

    clip_gradients: Callable[..., Any]  # scales gradients down to a norm
    measure_gradients: Callable[[Any], Any]  # norm of the gradients in a model
    to: Callable[[Any, Any], Any]  # moves an array to a device, in a framework with GPUs
    # Class attributes, since a subclass's constructor may not call this one.
    num_gpus: int = 0
    show_progress: bool = True
    compiles_beside: bool = True  # while batches are computed, compile what the end needs

    def __init__(
        self,
        max_epochs: int,
        num_gpus: int = 0,
        gradient_clip_val: float = 0,
        show_progress: bool = True,
    ) -> None:
        """Initialize with d2l's settings and one more.

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

    def __getstate__(self) -> dict[str, Any]:
        """Attributes of a copy or a pickle: all but the step; it is made again."""
        return {name: value for name, value in vars(self).items() if name != "_step"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy or a pickle, and the reference from its model, which was omitted."""
        vars(self).update(state)
        if "model" in state:
            self.model.trainer = self

    def prepare_data(self, data: Any) -> None:
        """Take the data loaders of `data`, and reset the history."""
        self.begin(data)

    def prepare_model(self, model: Any) -> None:
        """Take the model, and move it to the GPU if there is one to train on."""
        model.trainer = self
        model.board.minutes = self.max_seconds / 60 if self.by_time else None
        model.board.xlim = [0, model.board.minutes or self.max_epochs]
        self.model = model
        if self.gpus:
            self.move_model(model, self.gpus[0])

    def move_model(self, model: Any, device: Any) -> None:
        """Move the parameters of a model; not needed if the framework places them itself."""

    def prepare_optimizer(self) -> None:
        """Take the model's optimizer."""
        self.optim = self.model.configure_optimizers()

    @cached_property
    def gpus(self) -> list[Any]:
        """GPUs to train on, at most `num_gpus`; `prepare_batch` moves batches to the first."""
        found = self.try_all_gpus() if self.num_gpus else []
        return found[: self.num_gpus] if self.shards is None else self.shards.own_gpu(found)

    @staticmethod
    def try_all_gpus() -> list[Any]:
        """All GPUs that the framework can use."""
        return []

    def prepare_batch(self, batch: Sequence[Any]) -> Sequence[Any]:
        """Move a batch to the GPU if there is one to train on, and give the model its mask."""
        moved = [self.to(array, self.gpus[0]) for array in batch] if self.gpus else batch
        if not isinstance(batch, Batch):
            return moved
        self.model.set_mask(batch.mask)  # for a `fit_epoch` that calls the model's steps itself
        return batch.with_arrays(moved)

    def fit(self, model: Any, data: Any, resume: Checkpoint | None = None) -> None:
        """Train `model` on `data`, from its current weights or from a checkpoint.

        `resume` is a checkpoint as returned by `elman.training.checkpoint.read`. The model
        takes the codec of the data. If it has another codec, an ElmanError is raised and nothing
        changes.
        """
        _check_has("model", model, "configure_optimizers")
        _check_has("data", data, "train_dataloader")
        shared = codec.shared(model, data)
        with showing("compiling") if self.show_progress else nullcontext():
            self.compile_ahead(model, data)
        if self.compiles_beside:
            self.compile_beside()
        memory.retain_freed()
        self.prepare_data(data)
        self.prepare_model(model)
        model.board.begin()
        self.prepare_optimizer()
        self._step = None  # of another training
        self.epoch = self.train_batch_idx = self.val_batch_idx = 0
        if resume is not None:
            self.resume(*resume)
        model.codec = shared
        callbacks = self.callbacks
        with progress(self, self.show_progress) as display:
            self.callbacks = (*callbacks, display)
            try:
                self.run()
            finally:
                self.callbacks = callbacks  # a display's locks would prevent copying the trainer
        warn_of_sgd(self)

    def compile_ahead(self, model: Any, data: Any) -> None:
        """Compile what a framework can compile before the timing of the training starts."""

    def compile_beside(self) -> None:
        """Begin to compile what only the end of the training needs, in another process."""

    def _end_row(self) -> None:
        row = self._row
        super()._end_row()
        if self.by_time or row.validated < self.num_val_batches:
            self.model.board.complete("val_")  # the board waits for num_val_batches

    def _validate_finally(self) -> None:
        super()._validate_finally()
        self.model.board.discard("val_")  # it covers other batches than the curve

    def _try_hidden_state(self) -> None:
        board, self.model.board = self.model.board, ProgressBoard(display=False)
        super()._try_hidden_state()
        self.model.board = board

    def plot(self) -> Picture:
        """The curves of the model, as a notebook shows them during `fit`."""
        if self.model is None:
            raise ElmanError("a trainer has no curves before its training: call fit first")
        return Picture(self.model.board.figure())


def _check_has(name: str, value: Any, method: str) -> None:
    if not hasattr(value, method):
        raise ElmanError(f"fit requires {name} with {method}(), got {value!r}")
