"""The book's base class of data sets, The Time Machine as in the book, and texts of any size."""

import hashlib
import math
from collections.abc import Sequence
from functools import cached_property
from itertools import islice
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from elman.book.module import HyperParameters
from elman.data import sizes
from elman.data.batches import Batch, Convert, Loader, Minibatches, SequenceBatches
from elman.data.orders import Numbered, check_order_of_lines, check_window
from elman.data.parts import PARTS, Sources
from elman.data.sequences import Sequences
from elman.data.sizes import Size
from elman.data.text import BatchSettings, Text, read_text
from elman.data.tokenization import TokenSettings
from elman.errors import ElmanError, require_at_least
from elman.text.codec import Codec
from elman.text.time_machine import time_machine
from elman.text.tokenizers import Units, clean
from elman.text.vocab import UNKNOWN, Vocab


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
        self.text_sha256 = hashlib.sha256(raw_text.encode()).hexdigest()
        corpus, self.vocab = self.build(raw_text)
        check_window(len(corpus), num_steps)
        if (windows := len(corpus) - num_steps) < num_train + num_val:
            raise ElmanError(
                f"num_train + num_val must be {windows} or less, the windows of {num_steps} steps "
                f"in the text, got {num_train + num_val}: use fewer"
            )
        self._ids = np.asarray(corpus, self.id_type)

    @cached_property
    def X(self) -> Any:  # noqa: N802
        """All windows, (windows, num_steps)."""
        return self.to_tensor(self._windows[:, :-1])

    @cached_property
    def Y(self) -> Any:  # noqa: N802
        """Targets of all windows: the windows one token later, (windows, num_steps)."""
        return self.to_tensor(self._windows[:, 1:])

    @property
    def _windows(self) -> NDArray[Any]:
        """Windows with the token after each, (windows, num_steps + 1): a view of the ids."""
        assert self._ids is not None
        windows = np.lib.stride_tricks.sliding_window_view
        # Writeable because torch.from_numpy warns about read-only arrays.
        return windows(self._ids, self.num_steps + 1, writeable=True)

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
        """Attributes for a copy or a pickle, without windows that are views of the ids."""
        return {
            name: value
            for name, value in vars(self).items()
            if not (name in ("X", "Y") and self._is_view(value))
        }

    def _is_view(self, windows: Any) -> bool:
        arrays = isinstance(windows, np.ndarray) and self._ids is not None
        return arrays and np.may_share_memory(windows, self._ids)

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


class TextFile(DataModule):
    """A text of any size, in parts that do not overlap: training, validation and test.

    `train`, `val` and `test` are the ids of the parts, arrays on disk; there may be no test part.
    `sizes` are their sizes. `test_tokens` is the test part with its size, or None if there is none.
    """

    text: Text
    batches: BatchSettings
    text_sha256: str

    def __init__(
        self,
        path: str | Sequence[str],
        batch_size: int,
        num_steps: int,
        tokenizer: str | None = None,
        split: Sequence[float] | None = None,
        seed: int = 0,
        batching: str = "random",
        codec: Codec | None = None,
        vocab_size: int | None = None,
        min_freq: int | None = None,
        newlines: str | None = None,
        val_path: str | None = None,
        test_path: str | None = None,
        lines: bool = False,
    ) -> None:
        """Read the text or the store.

        - `path`: a UTF-8 file, plain or gzip-compressed; several files, read in order; or a store
          made by `elman prepare`.
        - `batch_size`: windows or sequences in a batch.
        - `num_steps`: tokens in a window.
        - `tokenizer`: char (default), byte, word or bpe.
        - `split`: shares of the training, validation and test part, in text order, or of the first
          two; 0.8, 0.1 and 0.1 by default.
        - `seed`: seed for the boundaries and the order of the training windows.
        - `batching`: random, contiguous or shuffled. With random, an epoch reads each token once,
          in windows whose boundaries and order change; validation and test windows are in text
          order. With contiguous, each part is read as `batch_size` contiguous sequences, and the
          state is carried from batch to batch. With shuffled, the training part is read in
          stretches of about 256 characters, whose boundaries and order change; the state is carried
          from window to window of a stretch. Validation and test parts are then contiguous.
        - `codec`: codec of a model, to read the text with, instead of a new codec from the training
          part.
        - `vocab_size`: maximum size of the vocabulary, including the unknown symbol: the most
          frequent tokens of the training part, or for bpe the number of tokens to learn.
        - `min_freq`: occurrences in the training part that a token needs to be in the vocabulary;
          2 for word by default.
        - `newlines`: universal (default) reads CR LF and a lone CR as LF; keep leaves them.
        - `val_path`: file of the validation part. The whole text is then used for training.
        - `test_path`: file of the test part. The text is then split into training and validation,
          with shares of 0.9 and 0.1 by default.
        - `lines`: each nonempty line is a separate sequence of at most `num_steps` tokens. Batches
          contain `batch_size` lines of similar length, with a mask. A hash assigns lines to the
          parts of a text, so that equal lines are in the same part.

        A store keeps its tokenizer, vocabulary, line ends and parts.
        """
        super().__init__()
        self.save_hyperparameters()
        sources = Sources.of(path, split, val_path, test_path)
        batches = BatchSettings(batch_size, num_steps, batching, seed)
        check_order_of_lines(lines, batching)
        settings = TokenSettings(tokenizer, vocab_size, min_freq, newlines, lines, codec)
        self._begin(read_text(sources, settings), batches)
        self.text.warn()

    @classmethod
    def of(cls, text: Text, batches: BatchSettings) -> Self:
        """Make batches of a text that has been read."""
        data = cls.__new__(cls)
        DataModule.__init__(data)
        data._begin(text, batches)
        return data

    def _begin(self, text: Text, batches: BatchSettings) -> None:
        """Validate the batches, read the first ones, and warn about unsuitable ones."""
        batches.check(text)
        self.text = text
        self.batches = batches
        self.batch_size = batches.batch_size
        self.num_steps = batches.num_steps
        self.batching = batches.batching
        self.seed = batches.seed
        self._name_parts()
        if self.lines:
            for part in PARTS[:2]:
                text.sequences[part].tell_cut(part, self.num_steps)
        for part in text.used:
            self._batches(part)
        training = self._batches("training", np.random.default_rng(self.seed))
        batches.advise(text, len(training))

    def _name_parts(self) -> None:
        """Set the attributes of the text that users read."""
        text = self.text
        self.sources = text.sources
        self.codec = text.codec
        self.vocab = text.codec.vocab
        self.tokenizer = text.codec.tokenizer.name
        self.newlines = text.codec.newlines
        self.lines = text.codec.lines
        self.vocab_size = text.settings.vocab_size
        self.min_freq = text.settings.min_freq
        self.text_sha256, self.val_sha256, self.test_sha256 = text.tokens.sources_sha256
        self.train, self.val, self.test = (text.ids(part) for part in PARTS)
        self.sizes = text.sizes
        self.test_tokens = text.parts["test"] if len(self.test) else None

    def __repr__(self) -> str:
        names = ", ".join(map(str, self.sources.training))
        sizes = (f"{len(self.text.ids(part)):,} for {part}" for part in self.text.used)
        units = "lines" if self.lines else "sequences"
        batches = f"batches of {self.batch_size} {units} of {self.num_steps}"
        words = ", ".join([names, f"tokens: {', '.join(sizes)}", self.codec.in_words(), batches])
        return f"{type(self).__name__}({words})"

    @property
    def unknown(self) -> dict[str, tuple[int, int]]:
        """Number of unknown tokens and of all predicted tokens in each part."""
        return self.text.unknown

    @property
    def sizes_in_characters(self) -> tuple[Size, Size] | None:
        """Sizes of the training and the validation part; None if tokens are characters."""
        if self.codec.tokenizer.units is Units.CHARACTERS:
            return None
        return Size.of_part(self.sizes["training"]), Size.of_part(self.sizes["validation"])

    def trained(self) -> Size:
        """Size of the training part."""
        return Size.of_part(self.sizes["training"])

    def validated(self, batches: int) -> Size:
        """Number of targets in the first `batches` of the validation part."""
        counts = np.zeros(len(self.vocab), np.int64)
        for batch in islice(self._batches("validation", convert=np.asarray), batches):
            targets = np.asarray(batch[1])  # (batch, steps)
            mask = Batch.of(batch).mask
            counted = targets.ravel() if mask is None else targets[mask]
            counts += np.bincount(counted, minlength=len(counts))
        unknown = self.sizes["validation"].unknown
        return Size.of_counts(counts, self.codec, unknown)

    def loss_without_context(self) -> float:
        """Loss in nats per token of a model based only on token frequencies in the training part.

        NaN if processes share a store: each reads only its part.
        """
        return math.nan if self.text.shared else sizes.entropy_of(self.train)

    @property
    def mean_line(self) -> float:
        """Mean number of targets in a training line; 0 if lines are not sequences."""
        return self.text.mean_line(self.num_steps)

    @property
    def num_lines(self) -> int:
        """Number of training lines; 0 if lines are not sequences."""
        return self.text.num_lines

    def get_dataloader(self, train: bool) -> Loader:
        """Return the minibatches of the training or the validation part."""
        if train:
            return self._batches("training", np.random.default_rng(self.seed))
        return self._batches("validation")

    def test_dataloader(self) -> Loader:
        """Return the minibatches of the test part; an ElmanError if there is none."""
        if self.test_tokens is None:
            raise ElmanError("a test requires a test part: give split three shares, or a test file")
        return self._batches("test")

    def _batches(
        self,
        part: str,
        rng: np.random.Generator | None = None,
        convert: Convert | None = None,
    ) -> Loader:
        """Minibatches of a part; `convert` defaults to the framework's conversion."""
        read = self.text.sequences[part]
        own = dict(zip(PARTS, (self.train, self.val, self.test), strict=True))[part]
        if own is not self.text.ids(part):  # the user has replaced them
            read = Sequences.of_part(own, self.codec, part)
        size = self.sizes["training"]
        characters = max(1, size.characters) / max(1, size.tokens)
        order = self.batches.order(read, rng, characters)
        return SequenceBatches(read, order, convert or self.to_tensor, self.id_type)
