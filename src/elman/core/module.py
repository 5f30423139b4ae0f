"""Base classes of models and data sets, as in D2L: HyperParameters, Module, DataModule."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from elman.core.board import ProgressBoard
from elman.core.errors import is_finite, require_number
from elman.core.windows import Minibatches, in_order, shuffled


def add_to_class(Class: type) -> Callable[[Any], None]:
    """A decorator that makes the function below it a method of `Class`."""

    def wrapper(function: Any) -> None:
        setattr(Class, function.__name__, function)

    return wrapper


def check_len(a: Sized, n: int) -> None:
    """Assert that `a` has `n` elements."""
    assert len(a) == n, f"list's length {len(a)} != expected length {n}"


def check_shape(a: Any, shape: tuple[int, ...]) -> None:
    """Assert that the tensor `a` has this shape."""
    assert a.shape == shape, f"tensor's shape {a.shape} != expected shape {shape}"


class HyperParameters:
    """An object that keeps its constructor's arguments as attributes."""

    if TYPE_CHECKING:  # the names of those arguments are known to no type checker

        def __getattr__(self, name: str) -> Any: ...

    def save_hyperparameters(self, ignore: Sequence[str] = ()) -> None:
        """Keep the calling method's local names as attributes and as the dict `hparams`.

        `self`, the names in `ignore` and names that begin with an underscore are left out.
        """
        frame = inspect.currentframe()
        assert frame is not None  # CPython has frames
        assert frame.f_back is not None  # and this one was called
        left_out = {"self", *ignore}
        self.hparams = {
            name: value
            for name, value in frame.f_back.f_locals.items()
            if name not in left_out and not name.startswith("_")
        }
        for name, value in self.hparams.items():
            setattr(self, name, value)


class Module(HyperParameters):
    """Base of models of every framework: takes a step, and plots what came of it.

    A framework's Module adds `forward`, `configure_optimizers` and `to_float`.
    """

    board: ProgressBoard
    trainer: Any
    plot_train_per_epoch: int
    plot_valid_per_epoch: int
    training: bool = False
    codec: Any = None  # of the text that it was trained on, or of the run that it was loaded from
    reached: Any = None  # the state after the last batch, through which no gradient flows
    collected: dict[str, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """State of a copy or a pickle: all but the trainer, whose data may be of any size."""
        return {name: value for name, value in vars(self).items() if name != "trainer"}

    def prepare_plots(self, plot_train_per_epoch: int, plot_valid_per_epoch: int) -> None:
        """Plot so many points an epoch, on a board of the model's own."""
        require_number(
            "a finite number above 0",
            lambda number: is_finite(number) and number > 0,
            plot_train_per_epoch=plot_train_per_epoch,
            plot_valid_per_epoch=plot_valid_per_epoch,
        )
        self.save_hyperparameters()
        self.board = ProgressBoard()

    def __call__(self, *inputs: Any) -> Any:
        """`forward`, for the frameworks that do not bring their own way of calling it."""
        return self.forward(*inputs)

    def forward(self, X: Any) -> Any:
        """The outputs for a batch of inputs; those of `self.net` unless overridden."""
        if not hasattr(self, "net"):
            raise NotImplementedError("define forward(), or the attribute net")
        return self.net(X)

    def loss(self, y_hat: Any, y: Any) -> Any:
        """The mean loss of a batch of outputs."""
        raise NotImplementedError("define loss(y_hat, y)")

    def configure_optimizers(self) -> Any:
        """The optimiser that the trainer drives."""
        raise NotImplementedError("define configure_optimizers()")

    def to_float(self, value: Any) -> float:
        """A number of the framework's as a Python float."""
        return float(value)

    def train(self) -> None:
        """From here on `training` is true: dropout acts."""
        self.training = True

    def eval(self) -> None:
        """From here on `training` is false."""
        self.training = False

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Within the block dropout does not act."""
        was_training = self.training
        self.eval()
        try:
            yield
        finally:
            if was_training:
                self.train()

    def training_step(self, batch: Sequence[Any]) -> Any:
        """The loss of a training batch, (inputs ..., targets)."""
        loss = self.loss(self(*batch[:-1]), batch[-1])
        self.plot("loss", loss, train=True)
        return loss

    def validation_step(self, batch: Sequence[Any]) -> Any:
        """The loss of a validation batch, (inputs ..., targets)."""
        loss = self.loss(self(*batch[:-1]), batch[-1])
        self.plot("loss", loss, train=False)
        return loss

    @contextmanager
    def collecting(self) -> Iterator[dict[str, Any]]:
        """Within the block `plot` only fills this dict: a step being compiled has no values yet."""
        self.collected = {}
        try:
            yield self.collected
        finally:
            self.collected = None

    def plot_all(self, values: Mapping[str, Any], train: bool) -> None:
        """`plot` each of what a compiled step has collected."""
        for key, value in values.items():
            self.plot(key, value, train)

    def plot(self, key: str, value: Any, train: bool) -> None:
        """Put a value on the board at the epoch reached, as the mean over a part of an epoch."""
        if self.collected is not None:
            self.collected[key] = value
            return
        trainer = self.trainer
        self.board.xlabel = "epoch"
        if train:
            x = trainer.train_batch_idx / trainer.num_train_batches
            every = trainer.num_train_batches / self.plot_train_per_epoch
        else:
            x = trainer.epoch + 1
            every = trainer.num_val_batches / self.plot_valid_per_epoch
        label = ("train_" if train else "val_") + key
        self.board.draw(x, self.to_float(value), label, every_n=max(1, int(every)))


class DataModule(HyperParameters):
    """Base of data sets: gives minibatches for training and for validation.

    `root` is the folder of its files. `num_workers` is kept for the book's code, and unused: to cut
    a batch from an array in memory is faster than to pass it between processes.
    """

    batch_size: int
    seed = 0
    id_type: Any = np.int64  # of the ids of tokens

    def __init__(self, root: str = "../data", num_workers: int = 4) -> None:
        self.save_hyperparameters()

    def get_dataloader(self, train: bool) -> Any:
        """The minibatches for training or for validation."""
        raise NotImplementedError("define get_dataloader(train)")

    def train_dataloader(self) -> Any:
        """The minibatches for training."""
        return self.get_dataloader(train=True)

    def val_dataloader(self) -> Any:
        """The minibatches for validation."""
        return self.get_dataloader(train=False)

    def to_tensor(self, array: Any) -> Any:
        """A NumPy array as a tensor of the framework."""
        return array

    def to_array(self, tensor: Any) -> Any:
        """A tensor of the framework, or what it makes one of, as a NumPy array."""
        return np.asarray(tensor)

    def get_tensorloader(
        self, tensors: Sequence[Any], train: bool, indices: slice = slice(0, None)
    ) -> Minibatches:
        """Minibatches of the rows `indices` of some tensors, shuffled by `seed` for training."""
        arrays = [self.to_array(tensor[indices]) for tensor in tensors]
        count = len(arrays[0])
        rows = shuffled(count, np.random.default_rng(self.seed)) if train else in_order(count)
        return Minibatches(arrays, self.batch_size, rows, self.to_tensor)
