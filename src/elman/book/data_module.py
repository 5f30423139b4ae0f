"""Base class of data sets, as in D2L: DataModule."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from elman.data.batches import Minibatches
from elman.data.orders import Numbered
from elman.hyperparameters import HyperParameters


class DataModule(HyperParameters):
    """Base class of data sets: they provide minibatches for training and validation.

    `root` is the folder of its files. `num_workers` is accepted for the book's code but unused:
    slicing an array in memory is faster than passing batches between processes.
    """

    batch_size: int
    seed = 0
    id_type: Any = np.int64  # of token ids

    def __init__(self, root: str = "../data", num_workers: int = 4) -> None:
        self.save_hyperparameters()

    def get_dataloader(self, train: bool) -> Any:
        """Return the minibatches for training or for validation."""
        raise NotImplementedError("define get_dataloader(train)")

    def train_dataloader(self) -> Any:
        """Return the minibatches for training."""
        return self.get_dataloader(train=True)

    def val_dataloader(self) -> Any:
        """Return the minibatches for validation."""
        return self.get_dataloader(train=False)

    def to_tensor(self, array: Any) -> Any:
        """Convert a NumPy array to a tensor of the framework."""
        return array

    def to_array(self, tensor: Any) -> Any:
        """Convert a tensor of the framework, or something like it, to a NumPy array."""
        return np.asarray(tensor)

    def get_tensorloader(
        self,
        tensors: Sequence[Any],
        train: bool,
        indices: slice = slice(0, None),
        padding: int | None = None,
    ) -> Minibatches:
        """Return minibatches of the rows `indices` of some tensors, shuffled for training.

        The last tensor has the targets. With `padding`, the id of a symbol, batches have a mask:
        targets that are padding do not count.
        """
        arrays = [self.to_array(tensor[indices]) for tensor in tensors]
        rng = np.random.default_rng(self.seed) if train else None
        order = Numbered(len(arrays[0]), self.batch_size, rng)
        return Minibatches(arrays, order, self.to_tensor, padding)
