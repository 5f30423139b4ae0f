"""Base class of models, as in D2L: Module."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from elman.core.errors import is_finite, require_number
from elman.core.hyperparameters import HyperParameters
from elman.core.training.plotting import ProgressBoard


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
    final_state: Any = None  # the state after the last batch, through which no gradient flows
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


class Classifier:
    """The part of a classification model that is the same in most frameworks."""

    def validation_step(self: Any, batch: Sequence[Any]) -> Any:
        """Loss of a validation batch, (inputs ..., targets); plots it and the accuracy."""
        Y_hat = self(*batch[:-1])
        loss = self.loss(Y_hat, batch[-1])
        self.plot("loss", loss, train=False)
        self.plot("acc", self.accuracy(Y_hat, batch[-1]), train=False)
        return loss


def print_output_shapes(layers: Iterable[Any], X: Any) -> None:
    """Print the output shape of each layer, the first of which reads `X`."""
    for layer in layers:
        X = layer(X)
        print(type(layer).__name__, "output shape:\t", X.shape)
