"""Data sets of text: The Time Machine in two editions, a file or a token store."""

import hashlib
import logging
import math
import os
from collections.abc import Callable, Sequence
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.data import splits, store
from elman.core.data.batching import (
    ContiguousBatches,
    MemmapWindows,
    Minibatches,
    non_overlapping,
    sliding_windows,
)
from elman.core.data.data_module import DataModule
from elman.core.data.lines import LineBatches, Lines, tell_cut
from elman.core.data.parts import PARTS, Sources, enough_tokens, shares_of
from elman.core.data.sizes import Size
from elman.core.data.token_writer import Tokens
from elman.core.data.tokenization import (
    TokenizerSettings,
    tokenize_sources,
    tokenize_sources_with,
)
from elman.core.errors import ElmanError, in_words, require_at_least, require_one_of
from elman.core.files.download import DATA_URL, download, sha1
from elman.core.files.paths import as_path, user_cache
from elman.core.text.codec import Codec
from elman.core.text.text_files import check_path
from elman.core.text.tokenizers import clean
from elman.core.text.vocab import UNKNOWN, Vocab
from elman.core.valid_values import BATCHING, EDITIONS

D2L_SHA1 = "090b5e7e70c295757f55df93cb0a180b9691891a"
GUTENBERG_SHA256 = "531e11d1185ca4a86cb7acf60fd45943c1591945aea40f4f1c1ea577dfd6e2d9"
MIN_UPDATES, SUGGESTED_UPDATES = 2, 10  # in an epoch

log = logging.getLogger("elman")
Loader = Minibatches | ContiguousBatches | LineBatches


def time_machine(edition: str = "gutenberg", root: str = "../data") -> str:
    """Text of The Time Machine by H. G. Wells, as edited by Project Gutenberg (35) or by D2L.

    Gutenberg's is part of an installed package; D2L's is read from the folder `root` or the user's
    cache, or downloaded into the cache. The digest of either is verified.
    """
    require_one_of(EDITIONS, edition=edition)
    if edition == "gutenberg":
        return _gutenberg()
    found = as_path(root, "the folder of texts") / "timemachine.txt"
    if sha1(found) != D2L_SHA1:
        url, cache = DATA_URL + "timemachine.txt", str(user_cache())
        found = Path(download(url, cache, D2L_SHA1))
    return found.read_text(encoding="utf-8")


def _gutenberg() -> str:
    """Text of Project Gutenberg without licence, title page and table of contents."""
    raw = (resources.files("word_text_counter") / "data" / "time_machine.txt").read_bytes()
    if hashlib.sha256(raw).hexdigest() != GUTENBERG_SHA256:
        raise ElmanError(
            "the installed word-text-counter contains other bytes than expected: "
            "reinstall it with pip install --force-reinstall 'word-text-counter==0.3.0'"
        )
    book = raw.decode("utf-8-sig").replace("\r\n", "\n")
    body = book[book.index("\n I.\n") : book.index("*** END OF THE PROJECT GUTENBERG EBOOK")]
    return body.strip() + "\n"


def _sha256(raw_text: str) -> str:
    return hashlib.sha256(raw_text.encode()).hexdigest()


class TimeMachine(DataModule):
    """The Time Machine in overlapping windows of `num_steps` ids, as in d2l.

    The first `num_train` windows are for training, the next `num_val` for validation. `X` and `Y`
    are all windows and their targets, (windows, num_steps), as views of one array of ids.
    """

    edition = "gutenberg"
    num_steps: int
    num_train: int
    num_val: int

    # The __init__ of a framework's TimeMachine. It is not one here because the book replaces that
    # __init__ by one that calls super().__init__() without arguments.
    def build_windows(
        self,
        batch_size: int,
        num_steps: int,
        num_train: int = 10000,
        num_val: int = 5000,
        edition: str = "gutenberg",
        seed: int = 0,
    ) -> None:
        """Read the text and cut it into windows.

        - `batch_size`: windows per batch.
        - `num_steps`: characters per window.
        - `num_train`, `num_val`: windows for training, and the following ones for validation.
        - `edition`: gutenberg, which is installed, or d2l, the book's file, which is read from the
          folder `root` (../data) or downloaded once.
        - `seed`: seed of the order of the training windows.
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
        X, Y = sliding_windows(ids, num_steps)
        if len(X) < num_train + num_val:
            raise ElmanError(
                f"num_train + num_val is {num_train + num_val}, and the text has {len(X)} windows "
                f"of {num_steps} steps: use fewer"
            )
        self._ids = ids
        self.X, self.Y = self.to_tensor(X), self.to_tensor(Y)

    def __getstate__(self) -> dict[str, Any]:
        """Attributes of a copy or a pickle; windows that are views of the ids are left out."""
        state = vars(self).copy()
        if "_ids" in state and all(map(self._is_view, (self.X, self.Y))):
            del state["X"], state["Y"]
        return state

    def _is_view(self, windows: Any) -> bool:
        return isinstance(windows, np.ndarray) and np.may_share_memory(windows, self._ids)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy or a pickle."""
        vars(self).update(state)
        if "X" not in state:
            self.X, self.Y = sliding_windows(self._ids, self.num_steps)

    def _download(self) -> str:
        return time_machine(self.edition, self.root)

    def _preprocess(self, text: str) -> str:
        return clean(text)

    def _tokenize(self, text: str) -> list[str]:
        return list(text)

    def build(self, raw_text: str, vocab: Vocab | None = None) -> tuple[list[int], Vocab]:
        """Ids of a text, and their vocabulary: `vocab`, or a new one."""
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
        """Loss in nats per token of a model that only knows the frequencies; NaN without ids."""
        if not hasattr(self, "_ids"):  # the book's own constructor has other attributes
            return math.nan
        return splits.entropy_of(self._ids[: self.num_train + self.num_steps])

    def get_dataloader(self, train: bool) -> Minibatches:
        """Return the minibatches for training, shuffled anew in every epoch, or for validation."""
        end = self.num_train + self.num_val
        rows = slice(0, self.num_train) if train else slice(self.num_train, end)
        return self.get_tensorloader([self.X, self.Y], train, rows)

    def trained(self) -> Size:
        """Size of the targets for training, which are characters."""
        return Size(*[self.num_train * self.num_steps] * 3)

    def validated(self, batches: int) -> Size:
        """Size of the targets of the first `batches` for validation."""
        windows = min(batches * self.batch_size, self.num_val)
        return Size(*[windows * self.num_steps] * 3)


class TextFile(DataModule):
    """A text of any size in parts that do not overlap: training, validation and test.

    `train`, `val` and `test` are their ids, arrays on disk; there may be no test part. `sizes` are
    their sizes. `test_tokens` is the test part with its size, or None if there is none.
    """

    path: str | Sequence[str]
    num_steps: int
    batching: str

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
        shared: bool = False,
    ) -> None:
        """Read the text, or the store.

        - `path`: a UTF-8 file, gzip-compressed or not, several, which are read one after the other,
          or a store made by `elman prepare`.
        - `batch_size`: windows or sequences per batch.
        - `num_steps`: tokens per window.
        - `tokenizer`: char (default), byte, word or bpe.
        - `split`: shares of the training, validation and test part, in the order of the text, or of
          the first two; 0.8, 0.1 and 0.1 by default.
        - `seed`: seed of the boundaries and the order of the training windows.
        - `batching`: random or contiguous. With random an epoch reads each token once, in windows
          whose boundaries and order change; validation and test windows are in the order of the
          text.
          With contiguous each part is read as `batch_size` contiguous sequences, and the state is
          carried from batch to batch.
        - `codec`: codec of a model, to read the text with, instead of one of the training part.
        - `vocab_size`: size of the vocabulary at most, the unknown symbol included: the most
          frequent tokens of the training part, or as many as bpe learns.
        - `min_freq`: occurrences in the training part for a token to be in the vocabulary; with
          word 2 by default.
        - `newlines`: universal (default), which reads CR LF and a lone CR as LF, or keep.
        - `val_path`: file of the validation part. The text is then for training alone.
        - `test_path`: file of the test part. The text is then for training and validation, with
          shares of 0.9 and 0.1 by default.
        - `lines`: each line that is not empty is a sequence of its own, `num_steps` tokens of it at
          most. Batches have `batch_size` lines of about the same length, with a mask. Lines are
          assigned to the parts of a text by a hash, so that equal lines are in one part.
        - `shared`: several processes read a store, each a share of it. Ids are checked when they
          are read, and `warn_of_unknown()` is left to the first process.

        A store has its own tokenizer, vocabulary, line ends and parts.
        """
        super().__init__()
        self.save_hyperparameters()
        sources = self.sources = _sources(path, split, val_path, test_path)
        self._check_batches()
        require_at_least(0, seed=seed)
        asked = {
            "tokenizer": tokenizer,
            "vocab_size": vocab_size,
            "min_freq": min_freq,
            "newlines": newlines,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        tokens, self.codec = self._read(sources, given, codec)
        self.tokenizer, self.vocab = self.codec.tokenizer.name, self.codec.vocab
        self.newlines = self.codec.newlines
        self.text_sha256, self.val_sha256, self.test_sha256 = tokens.sources_sha256
        if self.text_sha256 in (self.val_sha256, self.test_sha256):
            log.warning(
                "the training text is also that of the validation or the test part, whose loss "
                "then tells nothing of other texts"
            )
        asks_test = sources.shares[2] > 0 and not sources.training[0].is_dir()
        self._split(tokens, asks_test)
        self._check_lengths()
        if len(self.vocab) == 1:
            raise ElmanError(
                f"every token of the training part of {sources.training[0]} is too rare for the "
                "vocabulary: give a longer text, or the tokenizer char, byte or bpe"
            )
        self._begin_batches()
        if not shared:
            self.warn_of_unknown()
            others = {"validation": self.val, "test": self.test}
            splits.warn_of_order(self.train, others, self.vocab)

    def set_batches(self, batch_size: int, num_steps: int, batching: str) -> None:
        """Cut the parts into other batches; an ElmanError if a part is too short for them."""
        tells_cut = num_steps != self.num_steps  # what was said already is not said again
        self.batch_size, self.num_steps, self.batching = batch_size, num_steps, batching
        self._check_batches()
        self._check_lengths()
        self._begin_batches(tells_cut)

    def _check_batches(self) -> None:
        """Raise an ElmanError unless the form of the batches is valid."""
        require_one_of(BATCHING, batching=self.batching)
        require_at_least(1, batch_size=self.batch_size, num_steps=self.num_steps)
        if self.lines and self.batching != "random":
            raise ElmanError(
                f"lines do not continue each other, got batching {self.batching}: leave it out"
            )

    def _check_lengths(self) -> None:
        """Raise an ElmanError, with a length that is enough, for a part without a whole batch."""
        if self.lines:
            return
        if self.batching == "contiguous":
            needed = self.batch_size + 1
            rule, less = f"{self.batch_size} sequences need {needed} tokens", "a smaller batch"
        else:
            needed, steps = self.num_steps + 1, "step" if self.num_steps == 1 else "steps"
            rule = f"a window of {self.num_steps} {steps} needs {needed} tokens"
            less = "fewer steps"
        for part in self._used:
            if (found := len(self._ids(part))) < needed:
                cure = self._longer(part, needed) + (f", or {less}" if needed > 2 else "")
                raise ElmanError(f"{rule}, and the {part} part has {found}: {cure}")

    def _longer(self, part: str, needed: int) -> str:
        """Cure for a part that has fewer tokens than it needs."""
        sources = self.sources
        if sources.training[0].is_dir():
            return "prepare a longer text"
        if sources.by_part[PARTS.index(part)] and part != PARTS[0]:
            return "give a longer file for this part"
        return f"give a text of {enough_tokens(needed, sources.shares)} tokens or more"

    def _begin_batches(self, tells_cut: bool = True) -> None:
        """Make the first batches, which raises an error if a part is too short, and warn.

        Lines that are too long are warned of if it `tells_cut`.
        """
        if self.lines and tells_cut:
            for part in PARTS[:2]:
                tell_cut(self._lines[part], self.num_steps)
        for part in self._used:
            self._batches(part)
        self._advise()

    def _read(
        self, sources: Sources, given: dict[str, Any], codec: Codec | None
    ) -> tuple[Tokens, Codec]:
        """Tokens of a text, and their codec: the given one, or that of the text."""
        path = sources.training[0]
        if path.is_dir():
            self._check_store_alone()
        if codec is not None:
            return self._read_with(sources, given, codec), codec
        if path.is_dir():
            text = store.read(path, checked=not self.shared)
            _check_same(given, text.codec, f"{path} was prepared with")
            self._check_lines(text.codec, str(path))
        else:
            text = tokenize_sources(sources, TokenizerSettings(**given, lines=self.lines))
        return text.tokens, text.codec

    def _read_with(self, sources: Sources, given: dict[str, Any], codec: Codec) -> Tokens:
        if not isinstance(codec, Codec):
            raise ElmanError(
                f"codec must be a Codec, such as model.codec, got {type(codec).__name__}"
            )
        _check_same(given, codec, "the codec has")
        self._check_lines(codec, "the codec")
        if sources.training[0].is_dir():
            return store.read_with(sources.training[0], codec, checked=not self.shared).tokens
        return tokenize_sources_with(sources, codec)

    def _check_lines(self, codec: Codec, owner: str) -> None:
        """Raise an ElmanError unless a codec reads lines as this data set does."""
        if codec.lines != self.lines:
            mode, cure = ("", "give --lines") if codec.lines else (" not", "leave --lines out")
            raise ElmanError(
                f"{owner} is{mode} for lines as sequences of their own: {cure}, or in Python "
                f"lines={codec.lines}"
            )

    def _check_store_alone(self) -> None:
        """Raise an ElmanError for what the parts of a store have already been made of."""
        more = {
            "split": self.split,
            "validation file": self.val_path,
            "test file": self.test_path,
            "second text": None if isinstance(self.path, str | Path) else [*self.path[1:]] or None,
        }
        for name, value in more.items():
            if value is not None:
                raise ElmanError(
                    f"a store has its own parts, got a {name}, {value!r}: leave it out, or prepare "
                    "another store with it"
                )

    def _split(self, tokens: Tokens, asks_test: bool) -> None:
        """Take the parts of the tokens.

        Of lines, whose parts are drawn, the test part may be empty though the split `asks_test`.
        """
        if self.lines and not len(tokens.ids):
            raise ElmanError("every line of the text is empty: give lines that are not")
        parts = [tokens.part(number) for number in range(len(PARTS))]
        self.train, self.val, self.test = (part.ids for part in parts)
        self.sizes = dict(zip(PARTS, tokens.parts, strict=True))
        self.test_tokens = parts[2] if len(self.test) else None
        self._used = PARTS if self.test_tokens or (self.lines and asks_test) else PARTS[:2]
        if self.lines:
            end = self.codec.line_end
            self._lines = {name: Lines(self._ids(name), end, name) for name in self._used}

    def _ids(self, part: str) -> NDArray[Any]:
        """Ids of a part."""
        return dict(zip(PARTS, (self.train, self.val, self.test), strict=True))[part]

    @property
    def unknown(self) -> dict[str, tuple[int, int]]:
        """Numbers of unknown tokens and of all that are predicted, for each part."""
        return {
            f"{name} part": (part.unknown.tokens, part.tokens - 1)
            for name, part in self.sizes.items()
            if part.tokens
        }

    def warn_of_unknown(self) -> None:
        """Warn of parts with many unknown tokens."""
        splits.warn_of_unknown(self.unknown)

    def trained(self) -> Size:
        """Size of the training part."""
        return Size.of_part(self.sizes["training"])

    def validated(self, batches: int) -> Size:
        """Size of the targets in the first `batches` of the validation part."""
        counts = np.zeros(len(self.vocab), np.int64)
        for batch in islice(self._batches("validation", convert=np.asarray), batches):
            targets = np.asarray(batch[1])  # (batch, steps)
            mask = getattr(batch, "mask", None)
            counted = targets.ravel() if mask is None else targets[mask]
            counts += np.bincount(counted, minlength=len(counts))
        unknown = self.sizes["validation"].unknown
        return Size.of_counts(counts, self.vocab, self.codec.tokenizer, unknown)

    def _advise(self) -> None:
        """Warn of batches so large that an epoch has few updates."""
        updates = len(self._batches("training"))
        if self.lines:
            sequences, tokens = f"{self.batch_size} lines", len(self._lines["training"])
        else:
            sequences = f"{self.batch_size} windows of {self.num_steps} tokens"
            tokens = len(self.train)
        better = max(1, tokens // ((1 if self.lines else self.num_steps) * SUGGESTED_UPDATES))
        if updates <= MIN_UPDATES and better < self.batch_size:
            log.warning(
                "an epoch has %s: a batch takes %s, and the training part has %d: use a smaller "
                "batch size, such as %d",
                *("1 update" if updates == 1 else f"{updates} updates", sequences, tokens, better),
            )

    def loss_without_context(self) -> float:
        """Loss in nats per token of a model that only knows the training part's frequencies.

        It is NaN where processes share a store, of which each reads its own part.
        """
        return math.nan if self.shared else splits.entropy_of(self.train)

    @property
    def mean_line(self) -> float:
        """Mean number of targets read of a training line; 0 if lines are no sequences."""
        return self._lines["training"].read(self.num_steps) / self.num_lines if self.lines else 0.0

    @property
    def num_lines(self) -> int:
        """Number of training lines; 0 if lines are no sequences of their own."""
        return len(self._lines["training"]) if self.lines else 0

    def get_dataloader(self, train: bool) -> Loader:
        """Return the minibatches of the training or of the validation part."""
        if train:
            return self._batches("training", np.random.default_rng(self.seed))
        return self._batches("validation")

    def test_dataloader(self) -> Loader:
        """Return the minibatches of the test part; an ElmanError if there is none."""
        if self.test_tokens is None:
            raise ElmanError("the text has no test part: give split three shares, or a test file")
        return self._batches("test")

    def _batches(
        self,
        part: str,
        rng: np.random.Generator | None = None,
        convert: Callable[[NDArray[Any]], Any] | None = None,
    ) -> Loader:
        """Minibatches of a part; `convert` makes arrays of the framework by default."""
        ids, convert = self._ids(part), convert or self.to_tensor
        if self.lines:
            most = self.num_steps
            return LineBatches(self._lines[part], self.batch_size, most, rng, convert, self.id_type)
        if self.batching == "contiguous":
            return ContiguousBatches(ids, self.batch_size, self.num_steps, convert, self.id_type)
        arrays = [
            MemmapWindows(view, self.id_type) for view in sliding_windows(ids, self.num_steps)
        ]
        sampler = non_overlapping(len(arrays[0]), self.num_steps, rng)
        return Minibatches(arrays, self.batch_size, sampler, convert)


def _sources(path: Any, split: Any, val_path: Any, test_path: Any) -> Sources:
    """Files of the parts of a text, checked."""
    single = isinstance(path, str | os.PathLike) or not isinstance(path, Sequence)
    paths = [path] if single else list(path)
    if not paths:
        raise ElmanError("a text is the path of a UTF-8 file, or of several, got none")
    own = [each for each in (val_path, test_path) if each is not None]
    for each in (*paths, *own):
        check_path(str(each))
    shares = shares_of(split, val_path, test_path)
    return Sources(
        tuple(as_path(each, "a text") for each in paths),
        None if val_path is None else as_path(val_path, "a validation text"),
        None if test_path is None else as_path(test_path, "a test text"),
        shares,
    )


def _check_same(given: dict[str, Any], codec: Codec, owner: str) -> None:
    """Raise an ElmanError if a given setting differs from the codec."""
    own = {"tokenizer": codec.tokenizer.name, "newlines": codec.newlines}
    for name, value in given.items():
        if not (isinstance(value, str) and value == own.get(name)):
            known = f"the {name} {own[name]}" if name in own else f"a {in_words(name)} of its own"
            raise ElmanError(f"{owner} {known}, got {value!r}: leave it out")
