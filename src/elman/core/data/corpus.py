"""Sources of text: the two editions of The Time Machine, or a file of the user's."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.core.data import parts, store
from elman.core.data.batching import Minibatches, OnDisk, Streams, apart, check_windows, windows
from elman.core.data.data_module import DataModule
from elman.core.data.token_writer import Split, Tokens, ends_of
from elman.core.errors import ElmanError, in_words, is_number, is_one_of, require_at_least
from elman.core.files import disk
from elman.core.files.download import DATA_URL, download, sha1
from elman.core.text.codec import Codec
from elman.core.text.text_files import check_path
from elman.core.text.tokenizers import clean
from elman.core.text.vocab import UNKNOWN, Vocab

D2L_SHA1 = "090b5e7e70c295757f55df93cb0a180b9691891a"
GUTENBERG_SHA256 = "531e11d1185ca4a86cb7acf60fd45943c1591945aea40f4f1c1ea577dfd6e2d9"
EDITIONS = ("gutenberg", "d2l")
FEW_UPDATES, MANY_UPDATES = 2, 10  # in an epoch

log = logging.getLogger("elman")


def time_machine(edition: str = "gutenberg", root: str = "../data") -> str:
    """The Time Machine by H. G. Wells, in the edition of Project Gutenberg (35) or of D2L.

    Gutenberg's comes with an installed package; D2L's is taken from `root` or the user's cache, or
    downloaded into the cache. Both are verified before they are used.
    """
    check_edition(edition)
    if edition == "gutenberg":
        return _gutenberg()
    found = disk.path(root, "the folder of texts") / "timemachine.txt"
    if sha1(found) != D2L_SHA1:
        url, cache = DATA_URL + "timemachine.txt", str(disk.user_cache())
        found = Path(download(url, cache, D2L_SHA1))
    return found.read_text(encoding="utf-8")


def check_edition(edition: str, of_file: bool = False) -> None:
    """Raise an ElmanError unless there is such an edition, and it is not asked for of a file."""
    if not is_one_of(edition, EDITIONS):
        raise ElmanError(f"the edition is one of {', '.join(EDITIONS)}, got {edition!r}")
    if of_file and edition != EDITIONS[0]:
        raise ElmanError(f"only The Time Machine has editions, got {edition!r} beside a file")


def _gutenberg() -> str:
    """Project Gutenberg's text without its licence, title page and contents."""
    raw = (resources.files("word_text_counter") / "data" / "time_machine.txt").read_bytes()
    if hashlib.sha256(raw).hexdigest() != GUTENBERG_SHA256:
        raise ElmanError(
            "the installed word-text-counter carries other bytes than expected: "
            "reinstall it with pip install --force-reinstall 'word-text-counter==0.3.0'"
        )
    book = raw.decode("utf-8-sig").replace("\r\n", "\n")
    body = book[book.index("\n I.\n") : book.index("*** END OF THE PROJECT GUTENBERG EBOOK")]
    return body.strip() + "\n"


def _sha256(raw_text: str) -> str:
    return hashlib.sha256(raw_text.encode()).hexdigest()


class TimeMachine(DataModule):
    """The Time Machine in overlapping windows of `num_steps` ids, as in d2l.

    Windows 0 to `num_train` train the model, the `num_val` after them validate it. `X` and `Y` are
    all windows and their targets, (windows, num_steps), as views of one id array.
    """

    edition = "gutenberg"
    num_steps: int
    num_train: int
    num_val: int

    # A framework's TimeMachine takes this as its __init__. It is not one here because the book
    # replaces that __init__ by one that calls super().__init__() with no arguments.
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

        - `batch_size`: windows of a batch.
        - `num_steps`: characters of a window.
        - `num_train`, `num_val`: windows for training, and those after them for validation.
        - `edition`: gutenberg, which is installed, or d2l, the book's file, which is taken from the
          folder `root`, ../data, or downloaded once.
        - `seed`: that of the order of the training windows.
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
        X, Y = windows(ids, num_steps)
        if len(X) < num_train + num_val:
            raise ElmanError(
                f"num_train + num_val is {num_train + num_val}, and the text has {len(X)} windows "
                f"of {num_steps} steps: use fewer"
            )
        self.X, self.Y = self.to_tensor(X), self.to_tensor(Y)

    def _download(self) -> str:
        return time_machine(self.edition, self.root)

    def _preprocess(self, text: str) -> str:
        return clean(text)

    def _tokenize(self, text: str) -> list[str]:
        return list(text)

    def build(self, raw_text: str, vocab: Vocab | None = None) -> tuple[list[int], Vocab]:
        """The ids of a text, and the vocabulary they are in (a new one unless given)."""
        tokens = self._tokenize(self._preprocess(raw_text))
        vocab = vocab or Vocab(tokens)
        return vocab[tokens], vocab

    @property
    def codec(self) -> Codec | None:
        """Codec from a text to what a model of this data reads.

        None where the user's own `_tokenize` makes longer tokens than characters. A text is cleaned
        unless their own `_preprocess` leaves more than the book's cleaning does.
        """
        tokens = [token for token in self.vocab.idx_to_token if token != UNKNOWN]
        if any(len(token) > 1 for token in tokens):
            return None
        cleaned = all(clean(token) == token for token in tokens)
        return Codec(self.vocab, "char", cleaned)

    def get_dataloader(self, train: bool) -> Minibatches:
        """The minibatches for training, shuffled anew in every epoch, or for validation."""
        end = self.num_train + self.num_val
        rows = slice(0, self.num_train) if train else slice(self.num_train, end)
        return self.get_tensorloader([self.X, self.Y], train, rows)


class TextFile(DataModule):
    """A text of any size, cut into a training, a validation and a test part that do not overlap.

    `train`, `val` and `test` are their ids, arrays on disk; `unknown` has how many tokens of each
    part the vocabulary lacks, and of how many. `test_tokens` has the test part with its size, which
    is not known (None) where a store is split otherwise than it was prepared for.
    """

    path: str
    num_steps: int
    windows: str

    def __init__(
        self,
        path: str,
        batch_size: int,
        num_steps: int,
        tokenizer: str | None = None,
        split: Split = store.SPLIT,
        seed: int = 0,
        windows: str = "random",
        codec: Codec | None = None,
        vocab_size: int | None = None,
        min_freq: int | None = None,
        newlines: str | None = None,
    ) -> None:
        """Read the text, or the store.

        - `path`: a UTF-8 file, gzip-compressed or not, or a store made by `elman prepare`.
        - `batch_size`: windows of a batch, or streams.
        - `num_steps`: tokens of a window.
        - `tokenizer`: char (where none is given), byte, word or bpe.
        - `split`: shares of the training, validation and test part, in the order of the text.
        - `seed`: that of the cut and the order of the training windows.
        - `windows`: random or stream. With random an epoch reads each token once, in windows whose
          cut and order change; validation and test windows follow each other. With stream each
          part is read as `batch_size` streams from their start to their end, and the state is
          carried from batch to batch.
        - `codec`: that of a model; the text is read in its tokens, whatever its training part has.
        - `vocab_size`: tokens of the vocabulary at most, the most frequent of the training part,
          the unknown symbol included; bpe learns so many.
        - `min_freq`: how often a token must occur in the training part to be in the vocabulary;
          by words twice where it is not given.
        - `newlines`: universal (where none are given), which reads CR LF and a lone CR as LF, or
          keep, which takes line ends as they are.

        A store has a tokenizer, a vocabulary and line ends of its own.
        """
        super().__init__()
        self.save_hyperparameters()
        check_path(str(path))
        place = disk.path(path, "a text")
        check_windows(windows)
        require_at_least(1, batch_size=batch_size, num_steps=num_steps)
        require_at_least(0, seed=seed)
        _check_split(split)
        asked = {
            "tokenizer": tokenizer,
            "vocab_size": vocab_size,
            "min_freq": min_freq,
            "newlines": newlines,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        tokens, self.codec = self._read(place, given, split, codec)
        self.tokenizer, self.vocab = self.codec.tokenizer.name, self.codec.vocab
        self.newlines = self.codec.newlines
        self.text_sha256 = tokens.text_sha256
        self._split(tokens.ids, split)
        self._advise()
        sized = tuple(split) == store.SPLIT or not place.is_dir()
        self.test_tokens = self._tested(tokens) if sized else None
        self._describe_parts()

    def _read(
        self, path: Path, given: dict[str, Any], split: Split, codec: Codec | None
    ) -> tuple[Tokens, Codec]:
        """The tokens of a text and their codec, which may be given."""
        if codec is not None:
            return self._read_as(path, given, split, codec), codec
        text = self._read_anew(path, given, split)
        if len(text.tokens.vocab) == 1:
            raise ElmanError(
                f"every token of the training part of {path} is too rare for the vocabulary, and "
                "so unknown: give a longer text, or the tokenizer char, byte or bpe"
            )
        return text.tokens, text.codec

    def _read_anew(self, path: Path, given: dict[str, Any], split: Split) -> store.Text:
        if not path.is_dir():
            return store.of_file(path, store.Reading(**given), split)
        text = store.read(path)
        _check_same(given, text.codec, f"{path} was prepared with")
        if ends_of(len(text.tokens.ids), split)[0] != text.training:
            raise ElmanError(
                f"the vocabulary of {path} is that of its first {text.training:,} tokens: leave "
                "split as it is"
            )
        return text

    def _read_as(self, path: Path, given: dict[str, Any], split: Split, codec: Codec) -> Tokens:
        if not isinstance(codec, Codec):
            raise ElmanError(f"codec is that of a model, model.codec, got {type(codec).__name__}")
        _check_same(given, codec, "the codec has")
        if path.is_dir():
            return store.read_as(path, codec).tokens
        return store.of_file_as(path, codec, split)

    def _split(self, ids: NDArray[Any], split: Split) -> None:
        """Cut the ids into parts, each long enough for its windows."""
        self.train, self.val, self.test = np.split(ids, ends_of(len(ids), split))
        for part in (self.train, self.val, self.test):
            self._minibatches(part)  # raises where the part is too short

    def _tested(self, tokens: Tokens) -> Tokens:
        """The test part of the tokens of a text."""
        characters, utf8_bytes = tokens.test_characters, tokens.test_utf8_bytes
        return replace(tokens, ids=self.test, characters=characters, utf8_bytes=utf8_bytes)

    def _describe_parts(self) -> None:
        """Count what is unknown, and warn of parts that are hard to compare."""
        own = {"training part": self.train, "validation part": self.val, "test part": self.test}
        self.unknown = {
            name: (parts.count(ids, self.vocab.unk), len(ids)) for name, ids in own.items()
        }
        parts.warn_of_unknown(self.unknown)
        parts.warn_of_order(self.train, {"validation": self.val, "test": self.test}, self.vocab)

    def _advise(self) -> None:
        """Warn of batches so large that an epoch has next to no updates."""
        updates = len(self._minibatches(self.train))
        better = max(1, len(self.train) // (self.num_steps * MANY_UPDATES))
        if updates <= FEW_UPDATES and better < self.batch_size:
            log.warning(
                "an epoch has %s: a batch takes %d windows of %d tokens, and the training part has "
                "%d: use a smaller batch size, such as %d",
                *("1 update" if updates == 1 else f"{updates} updates", self.batch_size),
                *(self.num_steps, len(self.train), better),
            )

    def get_dataloader(self, train: bool) -> Minibatches | Streams:
        """The minibatches of the training or of the validation part."""
        if train:
            return self._minibatches(self.train, np.random.default_rng(self.seed))
        return self._minibatches(self.val)

    def test_dataloader(self) -> Minibatches | Streams:
        """The minibatches of the test part."""
        return self._minibatches(self.test)

    def _minibatches(
        self, ids: NDArray[Any], rng: np.random.Generator | None = None
    ) -> Minibatches | Streams:
        if self.windows == "stream":
            return Streams(ids, self.batch_size, self.num_steps, self.to_tensor, self.id_type)
        arrays = [OnDisk(view, self.id_type) for view in windows(ids, self.num_steps)]
        rows = apart(len(arrays[0]), self.num_steps, rng)
        return Minibatches(arrays, self.batch_size, rows, self.to_tensor)


def _check_split(split: Any) -> None:
    shares = list(split) if isinstance(split, Sequence) and not isinstance(split, str) else []
    # Written so that no comparison with nan makes it good.
    good = len(shares) == 3 and all(map(is_number, shares))
    if not (good and min(shares) > 0 and abs(sum(shares) - 1) <= 1e-9):
        raise ElmanError(f"split must be three shares above 0 that sum to 1, got {split!r}")


def _check_same(given: dict[str, Any], codec: Codec, owner: str) -> None:
    """Raise an ElmanError where a text is asked for otherwise than its codec reads it."""
    own = {"tokenizer": codec.tokenizer.name, "newlines": codec.newlines}
    for name, value in given.items():
        if not (isinstance(value, str) and value == own.get(name)):
            known = f"the {name} {own[name]}" if name in own else f"a {in_words(name)} of its own"
            raise ElmanError(f"{owner} {known}, got {value!r}: leave it out")
