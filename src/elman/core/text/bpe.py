"""Byte pair encoding as in GPT-2: pairs of neighbours that are frequent in a text become tokens.

It begins with the 256 bytes, so that every text can be read, and never joins what lies on both
sides of a word's border. A token is written with a character for each of its bytes, as GPT-2
writes it. The work is done by the library `tokenizers`, and `tokenizer.json` is in its format.
"""

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from elman.core.errors import ElmanError, not_installed, require_at_least, require_at_most
from elman.core.files import json_files
from elman.core.text.encoders import Ids, Words
from elman.core.text.tokenizers import Tokenizer, cut_before_space, is_continuation
from elman.core.text.vocab import UNKNOWN, Vocab

if TYPE_CHECKING:
    import tokenizers

NAME = "bpe"
VOCAB = 4096  # tokens, where nobody says how many
FEWEST, MOST = 257, 65_536  # the bytes and the unknown symbol; what 16 bits can hold
LARGEST = 32 << 20  # bytes of a tokenizer.json; one with the most tokens takes about 5 MB
# Pieces of text whose tokens are remembered, and those tokens: a piece may have any length.
KEPT, KEPT_IDS = 1 << 17, 1 << 22


def _alphabet() -> list[str]:
    """GPT-2's characters for the bytes 0 to 255: those that can be seen stand for themselves."""
    seen = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in seen else next(others)) for byte in range(256)]


ALPHABET = _alphabet()
BYTES = {ord(character): byte for byte, character in enumerate(ALPHABET)}

# A piece begins with white space and goes on until the next begins. GPT-2's borders of words do not
# depend on what comes before or after it: no token holds white space after something else. What
# only some call white space (all but these four characters) begins no piece.
_pieces = re.compile(r"\s*\S+(?:[^\S \t\r\n]\s*\S*)*|\s+").findall


LONGEST_RUN = 1024  # characters, beside white space or within it, of a piece to learn from
_long_runs = re.compile(
    rf"(?<!\S)\S{{{LONGEST_RUN + 1},}}|(?<!\s)\s{{{LONGEST_RUN + 1},}}"
).finditer


def check_size(size: int) -> None:
    """Raise an ElmanError unless a vocabulary can have so many tokens."""
    require_at_least(FEWEST, vocab_size=size)
    require_at_most(MOST, vocab_size=size)


def learn(texts: Iterable[str], size: int) -> Tokenizer:
    """The tokeniser with `size` tokens, or fewer if there are no more pairs, for some texts."""
    library = _library()
    made = _over(library, library.models.BPE())
    trainer = library.trainers.BpeTrainer(
        vocab_size=size - 1,  # and the unknown symbol
        initial_alphabet=ALPHABET,
        show_progress=False,
    )
    _interruptibly(lambda: made.train_from_iterator(_in_short_runs(texts), trainer))
    model = json.loads(made.to_str())["model"]
    return _tokenizer(
        library, Vocab(list(model["vocab"])), [tuple(pair) for pair in model["merges"]]
    )


def _in_short_runs(texts: Iterable[str]) -> Iterator[str]:
    """The texts, with runs without a border cut: learning takes the square of their length."""
    for raw_text in texts:
        start = 0
        for run in _long_runs(raw_text):
            for end in range(run.start() + LONGEST_RUN, run.end(), LONGEST_RUN):
                yield raw_text[start:end]
                start = end
        yield raw_text[start:]


def _interruptibly(work: Callable[[], None]) -> None:
    """Work in a thread, so that Ctrl-C need not wait until the library gives the word back."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no thread can be started: then Ctrl-C waits
        run()
    while thread.is_alive():
        thread.join(0.1)
    if failed:
        raise failed[0]


def read(path: Path, vocab: Vocab | None = None) -> Tokenizer:
    """The tokeniser of a tokenizer.json; if a vocabulary is given, its tokens must be those.

    An ElmanError tells what keeps the file from being one that `learn` could have made.
    """
    value = json_files.read(path, LARGEST)
    try:
        vocab = vocab or Vocab(list(value["model"]["vocab"]))
        same = value["model"]["vocab"] == vocab.token_to_idx
        pairs = [_pair(pair) for pair in value["model"]["merges"]]
        as_gpt2 = _is_as_in_gpt2(value)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ElmanError(f"{path} holds no byte pair encoding: {error!r}") from error
    if len(vocab) > MOST:
        raise ElmanError(f"{path} must have {MOST} tokens or fewer, got {len(vocab)}")
    if not same:
        raise ElmanError(f"the tokens of {path} are not those of vocab.json beside it")
    if not as_gpt2:
        raise ElmanError(f"{path} must read bytes as GPT-2 does, with nothing before and after")
    known = vocab.token_to_idx
    alphabet = [token for token in known if token != UNKNOWN]
    if not all(character in known for character in ALPHABET):
        raise ElmanError(f"{path} must have a token for each of the 256 bytes")
    if not all(character in BYTES for token in alphabet for character in map(ord, token)):
        raise ElmanError(f"{path} must write tokens in GPT-2's characters for bytes")
    if not all(token in known for one, two in pairs for token in (one, two, one + two)):
        raise ElmanError(f"{path} joins tokens that it does not have")
    return _tokenizer(_library(), vocab, pairs)


def _pair(value: Any) -> tuple[str, str]:
    one, two = value
    if not (isinstance(one, str) and isinstance(two, str)):
        raise ValueError("a pair that is joined has two tokens")
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
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise not_installed("bpe", error, "tokenizer") from error
    return tokenizers


def _over(library: Any, model: Any) -> "tokenizers.Tokenizer":
    """A tokeniser of the library that reads bytes as GPT-2 does."""
    made: tokenizers.Tokenizer = library.Tokenizer(model)
    made.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    made.decoder = library.decoders.ByteLevel()
    return made


def _tokenizer(library: Any, vocab: Vocab, pairs: list[tuple[str, str]]) -> Tokenizer:
    """The tokeniser that has this vocabulary and joins these pairs, the first ones first."""
    made = _over(library, library.models.BPE(vocab.token_to_idx, pairs))
    return Tokenizer(
        NAME,
        partial(_split, made),
        _join,
        partial(_encoder, made, vocab.idx_to_token),
        size=len,
        characters=_characters,
        alphabet=tuple(token for token in vocab.idx_to_token if token != UNKNOWN),
        cut=cut_before_space,
        model=made.to_str(),
    )


def _split(made: "tokenizers.Tokenizer", raw_text: str) -> list[str]:
    """The tokens of a text."""
    raw_text = raw_text.encode(errors="surrogateescape").decode(errors="replace")
    return list(made.encode(raw_text, add_special_tokens=False).tokens)


def _encoder(
    made: "tokenizers.Tokenizer", vocab: Sequence[str], begun: Iterable[str]
) -> "BytePairs":
    """Numbers tokens as the vocabulary does, whichever it is to begin with."""
    return BytePairs(made, vocab)


def _characters(token: str) -> int:
    """The number of characters that begin in a token; an unknown one has none."""
    return sum(not is_continuation(BYTES.get(ord(byte), 0x80)) for byte in token)


def _join(tokens: Iterable[str]) -> str:
    """The text of such tokens, with "�" for what is no UTF-8 and for the unknown symbol."""
    known, raw = {UNKNOWN: b"\xff"}, bytearray()
    for token in tokens:
        if token not in known:
            known[token] = bytes(map(BYTES.__getitem__, map(ord, token)))
        raw += known[token]
    return raw.decode("utf-8", errors="replace")


class BytePairs:
    """Numbers the tokens of a text as the vocabulary does.

    Texts repeat themselves, and a piece that was met before need not be joined again.
    """

    def __init__(self, made: "tokenizers.Tokenizer", tokens: Sequence[str]) -> None:
        self.tokens = tokens
        self._made = made
        self._forget()

    def __len__(self) -> int:
        return len(self.tokens)

    def _forget(self) -> None:
        self._pieces = Words(_pieces, ())
        self._ids = np.empty(0, np.uint16)
        self._ends = np.zeros(1, np.int64)  # of the ids of each piece, after a 0

    def ids(self, text: str) -> Ids:
        """The ids of a text's tokens."""
        if len(self._ends) > KEPT or len(self._ids) > KEPT_IDS:
            self._forget()
        numbers = self._pieces.ids(text)
        self._learn(self._pieces.tokens[len(self._ends) - 1 :])
        starts, ends = self._ends[numbers], self._ends[numbers + 1]
        lengths = ends - starts
        places = np.arange(lengths.sum()) + np.repeat(
            starts - (lengths.cumsum() - lengths), lengths
        )
        ids: Ids = self._ids[places]
        return ids

    def _learn(self, pieces: Sequence[str]) -> None:
        """Remember the ids of more pieces."""
        if not pieces:
            return
        encoded = self._made.encode_batch_fast(pieces, add_special_tokens=False)
        found = [piece.ids for piece in encoded]
        ids = np.fromiter(chain.from_iterable(found), np.uint16)
        ends = self._ends[-1] + np.cumsum(list(map(len, found)))
        self._ids, self._ends = np.append(self._ids, ids), np.append(self._ends, ends)
