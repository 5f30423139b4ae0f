"""HyperParameters, the base of D2L's classes, and Module, the base of its models."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from elman.book.plotting import ProgressBoard
from elman.errors import ElmanError, is_finite_number, require_number
from elman.user_classes import ModelAttributes


def add_to_class(Class: type) -> Callable[[Any], None]:
    """Decorator that adds a function to `Class` as a method."""

    def wrapper(function: Any) -> None:
        setattr(Class, function.__name__, function)

    return wrapper


def check_len(a: Sized, n: int) -> None:
    """Assert that `a` has `n` elements."""
    assert len(a) == n, f"list's length {len(a)} != expected length {n}"


def check_shape(a: Any, shape: tuple[int, ...]) -> None:
    """Assert that the tensor `a` has the shape `shape`."""
    assert a.shape == shape, f"tensor's shape {a.shape} != expected shape {shape}"


class HyperParameters:
    """Base class that stores the arguments of a constructor as attributes."""

    if TYPE_CHECKING:  # attributes are unknown to type checkers

        def __getattr__(self, name: str) -> Any: ...

    def save_hyperparameters(self, ignore: Sequence[str] = ()) -> None:
        """Store the local variables of the calling method as attributes and in `hparams`.

        Omits `self`, names in `ignore` and names that begin with an underscore.
        """
        frame = inspect.currentframe()
        assert frame is not None  # CPython has frames
        assert frame.f_back is not None  # of the calling method
        ignored = {"self", *ignore}
        self.hparams = {
            name: value
            for name, value in frame.f_back.f_locals.items()
            if name not in ignored and not name.startswith("_")
        }
        for name, value in self.hparams.items():
            setattr(self, name, value)


class Module(HyperParameters):
    """Base class of models in every framework: computes and plots the loss of a batch.

    A framework's Module adds `configure_optimizers`, and `forward` and `to_float` if these differ.
    """

    board: ProgressBoard
    trainer: Any = None  # the last one that fitted it
    plot_train_per_epoch: int
    plot_valid_per_epoch: int
    training: bool = False
    codec: Any = None  # of the training data, or of the run that it was loaded from
    final_state: Any = None  # after the last batch, detached
    collected: dict[str, Any] | None = None
    _mask: Any = None
    _mask_used: bool = False

    def __getstate__(self) -> dict[str, Any]:
        """Attributes of a copy or a pickle: all but the trainer, since its data may be large."""
        return {name: value for name, value in vars(self).items() if name != "trainer"}

    def prepare_plots(self, plot_train_per_epoch: int, plot_valid_per_epoch: int) -> None:
        """Create the board of the model, with this number of points per epoch."""
        require_number(
            "a finite number above 0",
            lambda number: is_finite_number(number) and number > 0,
            plot_train_per_epoch=plot_train_per_epoch,
            plot_valid_per_epoch=plot_valid_per_epoch,
        )
        self.save_hyperparameters()
        self.board = ProgressBoard()

    def __call__(self, *inputs: Any) -> Any:
        """Call `forward`; some frameworks override this with their own."""
        return self.forward(*inputs)

    def forward(self, X: Any) -> Any:
        """Outputs for a batch of inputs, computed by `self.net` unless overridden."""
        if not hasattr(self, "net"):
            raise NotImplementedError("define forward(), or the attribute net")
        return self.net(X)

    def loss(self, y_hat: Any, y: Any) -> Any:
        """Mean loss of outputs `y_hat` against targets `y`."""
        raise NotImplementedError("define loss(y_hat, y)")

    def configure_optimizers(self) -> Any:
        """Return the optimizer."""
        raise NotImplementedError("define configure_optimizers()")

    def to_float(self, value: Any) -> float:
        """Convert a number of the framework to a Python float."""
        return float(value)

    def train(self) -> None:
        """Set training mode: dropout is active."""
        self.training = True

    def eval(self) -> None:
        """Set evaluation mode: dropout is inactive."""
        self.training = False

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Set evaluation mode within the block."""
        was_training = self.training
        self.eval()
        try:
            yield
        finally:
            if was_training:
                self.train()

    def training_step(self, batch: Sequence[Any]) -> Any:
        """Loss of a training batch (inputs ..., targets), plotted."""
        loss = self.loss(self(*batch[:-1]), batch[-1])
        self.plot("loss", loss, train=True)
        return loss

    def validation_step(self, batch: Sequence[Any]) -> Any:
        """Loss of a validation batch (inputs ..., targets), plotted."""
        loss = self.loss(self(*batch[:-1]), batch[-1])
        self.plot("loss", loss, train=False)
        return loss

    @property
    def target_mask(self) -> Any:
        """Mask of the current batch's targets, (batch, ...), or None if all of them count.

        A user's own `loss` must average over the targets where it is true.
        """
        self._mask_used = True
        return self._mask

    def set_mask(self, mask: Any) -> None:
        """Set `target_mask` until it is set again."""
        self._mask = mask

    @contextmanager
    def masking(self, mask: Any) -> Iterator[None]:
        """Set `target_mask` within the block; an ElmanError if no loss uses the mask.

        The book's encoder-decoders use `tgt_pad` instead; it selects the same targets.
        """
        self.set_mask(mask)
        self._mask_used = mask is None
        try:
            yield
        finally:
            self.set_mask(None)
        if not self._mask_used and ModelAttributes.of(self).tgt_pad is None:
            raise ElmanError(
                f"the loss of {type(self).__name__} must use the mask of the batch: average over "
                "the targets where self.target_mask is true"
            )

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Read `target_mask` within the block without counting as a use by the loss."""
        used = self._mask_used
        yield
        self._mask_used = used

    @contextmanager
    def collecting(self) -> Iterator[dict[str, Any]]:
        """Collect plotted values in a dict within the block: while tracing, they have no values."""
        self.collected = {}
        try:
            yield self.collected
        finally:
            self.collected = None

    def plot_all(self, values: Mapping[str, Any], train: bool) -> None:
        """Plot the values that a compiled step has collected."""
        for key, value in values.items():
            self.plot(key, value, train)

    def plot(self, key: str, value: Any, train: bool) -> None:
        """Plot a value at the current epoch, or at the minute in a training by time.

        Each point is a mean over a part of an epoch or of the time.
        """
        if self.collected is not None:
            self.collected[key] = value
            return
        trainer = self.trainer
        label = ("train_" if train else "val_") + key
        if self.board.minutes is not None:
            self.board.xlabel = "minutes"
            self.board.draw_by_time(trainer.seconds, self.to_float(value), label)
            return
        self.board.xlabel = "epoch"
        if train:
            x = trainer.train_batch_idx / trainer.num_train_batches
            every = trainer.num_train_batches / self.plot_train_per_epoch
        else:
            x = trainer.epoch + 1
            every = trainer.num_val_batches / self.plot_valid_per_epoch
        self.board.draw(x, self.to_float(value), label, every_n=max(1, int(every)))


class Classifier:
    """The part of a classification model that most frameworks share."""

    def validation_step(self: Any, batch: Sequence[Any]) -> Any:
        """Loss of a validation batch, (inputs ..., targets); plots it and the accuracy."""
        Y_hat = self(*batch[:-1])
        loss = self.loss(Y_hat, batch[-1])
        self.plot("loss", loss, train=False)
        with self.measuring():
            self.plot("acc", self.accuracy(Y_hat, batch[-1]), train=False)
        return loss


def print_output_shapes(layers: Iterable[Any], X: Any) -> None:
    """Print the output shape of each layer; the first layer reads `X`."""
    for layer in layers:
        X = layer(X)
        print(type(layer).__name__, "output shape:\t", X.shape)
