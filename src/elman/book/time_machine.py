"""The Time Machine as the data set of D2L: overlapping windows."""

import hashlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.book.data_module import DataModule
from elman.data import sizes
from elman.data.batches import Minibatches
from elman.data.orders import check_window
from elman.data.sizes import Size
from elman.errors import ElmanError, require_at_least
from elman.text.codec import Codec
from elman.text.time_machine import time_machine
from elman.text.tokenizers import clean
from elman.text.vocab import UNKNOWN, Vocab


class TimeMachine(DataModule):
    """The Time Machine in overlapping windows of `num_steps` ids, as in d2l.

    The first `num_train` windows are for training, the next `num_val` for validation. `X` and `Y`
    are all windows and their targets, (windows, num_steps), as views of one array of ids.
    """

    edition = "gutenberg"
    text_sha256 = ""  # until `build_windows` reads the text
    val_sha256 = test_sha256 = ""  # there are no files for these parts
    num_steps: int
    num_train: int
    num_val: int
    _ids: NDArray[Any] | None = None

    # The __init__ of a framework's TimeMachine. It is not named __init__ here, because the book
    # replaces that method with one that calls super().__init__() without arguments.
    def build_windows(
        self,
        batch_size: int,
        num_steps: int,
        num_train: int = 10000,
        num_val: int = 5000,
        edition: str = "gutenberg",
        seed: int = 0,
    ) -> None:
        """Read the text and divide it into windows.

        - `batch_size`: windows in a batch.
        - `num_steps`: characters in a window.
        - `num_train`, `num_val`: windows for training, and the following windows for validation.
        - `edition`: gutenberg, which is installed, or d2l, the book's file: read from the folder
          `root` (../data) or downloaded once.
        - `seed`: seed for the order of the training windows.
        """
        DataModule.__init__(self)
        self.save_hyperparameters()
        require_at_least(
            1, batch_size=batch_size, num_steps=num_steps, num_train=num_train, num_val=num_val
        )
        require_at_least(0, seed=seed)
        raw_text = self._download()
        self.text_sha256 = _sha256(raw_text)
        corpus, self.vocab = self.build(raw_text)
        ids = np.asarray(corpus, self.id_type)
        X, Y = _sliding_windows(ids, num_steps)
        if len(X) < num_train + num_val:
            raise ElmanError(
                f"num_train + num_val must be {len(X)} or less, the windows of {num_steps} steps "
                f"in the text, got {num_train + num_val}: use fewer"
            )
        self._ids = ids
        self.X = self.to_tensor(X)
        self.Y = self.to_tensor(Y)

    def __repr__(self) -> str:
        name = type(self).__name__
        if "vocab" not in vars(self):  # a user's constructor may set other attributes
            return f"{name}()"
        windows = f"{self.num_train:,} windows of {self.num_steps} for training"
        return (
            f"{name}({self.edition} edition, {windows}, {self.num_val:,} for validation, "
            f"vocabulary of {len(self.vocab)}, batches of {self.batch_size:,})"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Attributes for a copy or a pickle, without windows: they are views of the ids."""
        state = vars(self).copy()
        if "_ids" in state and all(map(self._is_view, (self.X, self.Y))):
            del state["X"], state["Y"]
        return state

    def _is_view(self, windows: Any) -> bool:
        return isinstance(windows, np.ndarray) and np.may_share_memory(windows, self._ids)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy or a pickle."""
        vars(self).update(state)
        if "X" not in state and self._ids is not None:
            self.X, self.Y = _sliding_windows(self._ids, self.num_steps)

    def _download(self) -> str:
        return time_machine(self.edition, self.root)

    def _preprocess(self, text: str) -> str:
        return clean(text)

    def _tokenize(self, text: str) -> list[str]:
        return list(text)

    def build(self, raw_text: str, vocab: Vocab | None = None) -> tuple[list[int], Vocab]:
        """Ids of a text and their vocabulary: `vocab`, or a new one."""
        tokens = self._tokenize(self._preprocess(raw_text))
        vocab = vocab or Vocab(tokens)
        return vocab[tokens], vocab

    @property
    def codec(self) -> Codec | None:
        """Codec for models trained on this data.

        None if the user's own `_tokenize` makes tokens longer than a character. It cleans a text
        unless the user's own `_preprocess` keeps characters that the book's cleaning removes.
        """
        tokens = [token for token in self.vocab.idx_to_token if token != UNKNOWN]
        if any(len(token) > 1 for token in tokens):
            return None
        cleaned = all(clean(token) == token for token in tokens)
        return Codec(self.vocab, "char", cleaned)

    def loss_without_context(self) -> float:
        """Loss in nats per token of a model based only on token frequencies; NaN without ids."""
        if self._ids is None:  # the book's own constructor sets other attributes
            return math.nan
        return sizes.entropy_of(self._ids[: self.num_train + self.num_steps])

    def get_dataloader(self, train: bool) -> Minibatches:
        """Return the minibatches for training, reshuffled in each epoch, or for validation."""
        end = self.num_train + self.num_val
        rows = slice(0, self.num_train) if train else slice(self.num_train, end)
        return self.get_tensorloader([self.X, self.Y], train, rows)

    def trained(self) -> Size:
        """Number of targets for training; they are characters."""
        return Size(*[self.num_train * self.num_steps] * 3)

    def validated(self, batches: int) -> Size:
        """Number of targets in the first `batches` for validation."""
        windows = min(batches * self.batch_size, self.num_val)
        return Size(*[windows * self.num_steps] * 3)


def _sliding_windows(ids: NDArray[Any], steps: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """All windows of `steps` ids, and the windows one token later: two views (windows, steps)."""
    check_window(len(ids), steps)
    # Writeable because torch.from_numpy warns about read-only arrays.
    both = np.lib.stride_tricks.sliding_window_view(ids, steps + 1, writeable=True)
    return both[:, :-1], both[:, 1:]  # (windows, steps) each


def _sha256(raw_text: str) -> str:
    return hashlib.sha256(raw_text.encode()).hexdigest()
