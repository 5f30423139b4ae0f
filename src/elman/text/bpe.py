"""Byte pair encoding as in GPT-2: frequent pairs of adjacent tokens are merged into new tokens.

The first tokens are the 256 bytes, so that every text can be read. No merge crosses a word
boundary. A token is written with one character for each byte, as in GPT-2. The library `tokenizers`
does the work, and `tokenizer.json` is in its format.
"""

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from elman.errors import ElmanError, require_at_least, require_at_most
from elman.files import json_files
from elman.text.tokenizers import (
    TOKENIZERS,
    Ids,
    Tokenizer,
    Units,
    Words,
    cut_before_space,
)
from elman.text.vocab import UNKNOWN, Vocab
from elman.valid_values import BPE

if TYPE_CHECKING:
    import tokenizers

DEFAULT_VOCAB_SIZE = 4096
MIN_VOCAB_SIZE = 257  # the bytes and the unknown symbol
MAX_VOCAB_SIZE = 65_536  # ids fit into 16 bits
MAX_FILE_BYTES = 32 << 20  # of tokenizer.json; MAX_VOCAB_SIZE tokens take about 5 MB
# Number of cached pieces of text, and of their ids: a piece may have any length.
MAX_CACHED_PIECES, MAX_CACHED_IDS = 1 << 17, 1 << 22


def _alphabet() -> list[str]:
    """GPT-2's characters for the bytes 0 to 255. Visible characters stand for themselves."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(others)) for byte in range(256)]


ALPHABET = _alphabet()
BYTES = {ord(character): byte for byte, character in enumerate(ALPHABET)}

# A piece starts with white space and ends before the next white space. GPT-2's word boundaries
# within a piece do not depend on its context, since no token has white space after another
# character. Only these four characters are white space by every definition; no other character
# starts a piece.
_pieces = re.compile(r"\s*\S+(?:[^\S \t\r\n]\s*\S*)*|\s+").findall


MAX_RUN_CHARACTERS = 1024  # in a run of white space, or of other characters, to learn from
_long_runs = re.compile(
    rf"(?<!\S)\S{{{MAX_RUN_CHARACTERS + 1},}}|(?<!\s)\s{{{MAX_RUN_CHARACTERS + 1},}}"
).finditer


def check_size(size: int) -> None:
    """Raise an ElmanError unless `size` is a valid vocabulary size."""
    require_at_least(MIN_VOCAB_SIZE, vocab_size=size)
    require_at_most(MAX_VOCAB_SIZE, vocab_size=size)


def check(vocab_size: int | None, min_freq: int | None) -> None:
    """Raise an ElmanError unless byte pairs can be learned with these bounds."""
    if min_freq is not None:
        counted = [known.name for known in TOKENIZERS.values() if not known.alphabet]
        raise ElmanError(
            f"min freq requires {' or '.join(counted)}, got {min_freq} with {BPE}: leave it out"
        )
    check_size(_size(vocab_size))


def _size(vocab_size: int | None) -> int:
    return DEFAULT_VOCAB_SIZE if vocab_size is None else vocab_size


def learn(texts: Iterable[str], vocab_size: int | None = None) -> Tokenizer:
    """Learn a tokenizer from texts.

    It has `vocab_size` tokens, or fewer if the texts contain too few pairs.
    """
    size = _size(vocab_size)
    library = _library()
    made = _byte_level(library, library.models.BPE())
    trainer = library.trainers.BpeTrainer(
        vocab_size=size - 1,  # plus the unknown symbol
        initial_alphabet=ALPHABET,
        show_progress=False,
    )
    _run_interruptibly(lambda read: made.train_from_iterator(read, trainer), _in_short_runs(texts))
    model = json.loads(made.to_str())["model"]
    return _tokenizer(
        library, Vocab(list(model["vocab"])), [tuple(pair) for pair in model["merges"]]
    )


def _in_short_runs(texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts with long runs split: learning time is quadratic in their length."""
    for raw_text in texts:
        start = 0
        for run in _long_runs(raw_text):
            for end in range(run.start() + MAX_RUN_CHARACTERS, run.end(), MAX_RUN_CHARACTERS):
                yield raw_text[start:end]
                start = end
        yield raw_text[start:]


def _run_interruptibly(work: Callable[[Iterator[str]], None], texts: Iterator[str]) -> None:
    """Let `work` read texts in a thread, so that Ctrl-C is handled while the library runs.

    The interpreter waits for the thread before it exits: a thread that the library calls Python
    from would abort the process.
    """
    failed: list[BaseException] = []
    ended = threading.Event()

    def read() -> Iterator[str]:
        for text in texts:
            if ended.is_set():
                raise KeyboardInterrupt
            yield text

    def run() -> None:
        try:
            work(read())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    try:
        try:
            thread.start()
        except RuntimeError:  # no thread can be started, so Ctrl-C waits for the library
            run()
        while thread.is_alive():
            thread.join(0.1)
    finally:  # after an interrupt, even of its start, the thread reads no further
        ended.set()
    if failed:
        raise failed[0]


def read(path: Path, vocab: Vocab | None = None) -> Tokenizer:
    """Read the tokenizer of a tokenizer.json. If `vocab` is given, it must have the same tokens.

    Raises an ElmanError for a file that `learn` cannot have produced.
    """
    value = json_files.read(path, MAX_FILE_BYTES)
    try:
        vocab = vocab or Vocab(list(value["model"]["vocab"]))
        same = value["model"]["vocab"] == vocab.token_to_idx
        pairs = [_pair(pair) for pair in value["model"]["merges"]]
        as_gpt2 = _is_as_in_gpt2(value)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ElmanError(f"{path} is not a byte pair encoding: {error!r}") from error
    if len(vocab) > MAX_VOCAB_SIZE:
        raise ElmanError(f"{path} must have {MAX_VOCAB_SIZE} tokens or fewer, got {len(vocab)}")
    if not same:
        raise ElmanError(f"the tokens of {path} must equal those in vocab.json in the same folder")
    if not as_gpt2:
        raise ElmanError(
            f"{path} must be a byte-level tokenizer as in GPT-2, without other processing"
        )
    known = vocab.token_to_idx
    alphabet = [token for token in known if token != UNKNOWN]
    if not all(character in known for character in ALPHABET):
        raise ElmanError(f"{path} must have a token for each of the 256 bytes")
    if not all(character in BYTES for token in alphabet for character in map(ord, token)):
        raise ElmanError(f"{path} must write tokens in GPT-2's characters for bytes")
    if not all(token in known for one, two in pairs for token in (one, two, one + two)):
        raise ElmanError(f"{path} must only merge tokens that it contains")
    return _tokenizer(_library(), vocab, pairs)


def _pair(value: Any) -> tuple[str, str]:
    one, two = value
    if not (isinstance(one, str) and isinstance(two, str)):
        raise ValueError("a merge must have two tokens")
    return one, two


def _is_as_in_gpt2(value: dict[str, Any]) -> bool:
    before = value["pre_tokenizer"]
    wanted = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    return (
        value["model"]["type"] == "BPE"
        and all(before[name] == setting for name, setting in wanted.items())
        and not any(value[name] for name in ("normalizer", "added_tokens", "post_processor"))
    )


def _library() -> Any:
    import tokenizers  # slow to import, and most texts are read by characters

    return tokenizers


def _byte_level(library: Any, model: Any) -> "tokenizers.Tokenizer":
    """Make a byte-level tokenizer of the library, as in GPT-2."""
    made: tokenizers.Tokenizer = library.Tokenizer(model)
    made.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    made.decoder = library.decoders.ByteLevel()
    return made


def _tokenizer(library: Any, vocab: Vocab, pairs: list[tuple[str, str]]) -> Tokenizer:
    """Make the tokenizer with this vocabulary that merges these pairs in order."""
    made = _byte_level(library, library.models.BPE(vocab.token_to_idx, pairs))
    return Tokenizer(
        BPE,
        Units.BYTE_PAIRS,
        partial(_split, made),
        _join,
        partial(BytePairs, made, vocab.idx_to_token),
        raw=_raw,
        alphabet=tuple(token for token in vocab.idx_to_token if token != UNKNOWN),
        cut=cut_before_space,
        model=made.to_str(),
    )


def _split(made: "tokenizers.Tokenizer", raw_text: str) -> list[str]:
    """Split a text into tokens."""
    raw_text = raw_text.encode(errors="surrogateescape").decode(errors="replace")
    return list(made.encode(raw_text, add_special_tokens=False).tokens)


def _join(tokens: Iterable[str]) -> str:
    """Join tokens to a text; "�" for bytes that are not UTF-8 and for the unknown symbol."""
    raw = bytearray()
    for token in tokens:
        raw += _raw(token)
    return raw.decode("utf-8", errors="replace")


@lru_cache(MAX_VOCAB_SIZE)
def _raw(token: str) -> bytes:
    """The bytes of a token; for the unknown symbol, a byte that occurs in no text."""
    return b"\xff" if token == UNKNOWN else bytes(map(BYTES.__getitem__, map(ord, token)))


class BytePairs:
    """Encoder that uses the vocabulary's numbers.

    Texts are repetitive: the ids of each distinct piece are computed once and cached.
    """

    def __init__(self, made: "tokenizers.Tokenizer", tokens: Sequence[str]) -> None:
        self.tokens = tokens
        self._made = made
        self._clear_cache()

    def __len__(self) -> int:
        return len(self.tokens)

    def _clear_cache(self) -> None:
        self._pieces = Words(_pieces)
        self._ids = np.empty(0, np.uint16)
        self._ends = np.zeros(1, np.int64)  # end of each piece's ids, after a 0

    def ids(self, text: str) -> Ids:
        """Ids of a text's tokens."""
        self._bound_cache()
        return self._ids_of(self._pieces.ids(text))

    def line_ids(self, lines: Sequence[str]) -> Ids:
        """Ids of the tokens of some lines, each followed by the line end."""
        self._bound_cache()
        return self._ids_of(self._pieces.line_ids(lines))

    def _bound_cache(self) -> None:
        if len(self._ends) > MAX_CACHED_PIECES or len(self._ids) > MAX_CACHED_IDS:
            self._clear_cache()

    def _ids_of(self, numbers: Ids) -> Ids:
        """Ids of the tokens of some pieces, given by index."""
        self._cache(self._pieces.tokens[len(self._ends) - 1 :])
        starts = self._ends[numbers]
        ends = self._ends[numbers + 1]
        lengths = ends - starts
        places = np.arange(lengths.sum()) + np.repeat(
            starts - (lengths.cumsum() - lengths), lengths
        )
        ids: Ids = self._ids[places]
        return ids

    def _cache(self, pieces: Sequence[str]) -> None:
        """Add the ids of new pieces to the cache."""
        if not pieces:
            return
        encoded = self._made.encode_batch_fast(pieces, add_special_tokens=False)
        found = [piece.ids for piece in encoded]
        ids = np.fromiter(chain.from_iterable(found), np.uint16)
        ends = self._ends[-1] + np.cumsum(list(map(len, found)))
        self._ids = np.append(self._ids, ids)
        self._ends = np.append(self._ends, ends)
