"""Codec: maps a text to token ids and back."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.errors import ElmanError
from elman.files import atomic, json_files
from elman.text import bpe
from elman.text.text_files import LINE_END, nonempty_lines
from elman.text.tokenizers import (
    SPACED_WORDS,
    UNIVERSAL,
    Tokenizer,
    Units,
    check_name,
    check_newlines,
    clean,
    cleaned,
    pieces,
    tokenizer,
    with_newlines,
)
from elman.text.vocab import UNKNOWN, Vocab, read_vocab, tokens_of
from elman.user_classes import DataAttributes, ModelAttributes
from elman.valid_values import BPE, WORD

VOCAB_FILE, TOKENIZER_FILE = "vocab.json", "tokenizer.json"
TARGET = "target_"  # prefix of the files of targets
MAX_VOCAB_BYTES = 1 << 26  # of vocab.json: 64 for each of a million tokens
MAX_SHOWN_CHARACTERS = 80  # of the vocabulary, in a message

PADDING, BEGIN, END = "<pad>", "<bos>", "<eos>"
RESERVED = {PADDING, BEGIN, END, UNKNOWN}
OF_SOURCES, OF_TARGETS = (PADDING, END), (PADDING, BEGIN, END)  # symbols of the vocabularies


class Codec:
    """Maps a text to token ids and back: line ends, cleaning, tokenizer, vocabulary.

    With `lines`, each line of a text is a separate sequence. A codec of pairs is for the targets,
    and its `source` is the codec of their sources: in both, a text has `num_steps` tokens at most,
    its end symbol included. Codecs are equal if they map every text to the same ids.
    """

    def __init__(
        self,
        vocab: Vocab,
        used: str | Tokenizer,
        clean: bool = False,
        newlines: str = UNIVERSAL,
        lines: bool = False,
        *,
        num_steps: int = 0,
        source: "Codec | None" = None,
    ) -> None:
        check_newlines(newlines)
        self.vocab = vocab
        self.tokenizer = tokenizer(used) if isinstance(used, str) else used
        self.clean = clean
        self.newlines = newlines
        self.lines = lines
        self.num_steps = num_steps
        self.source: Any = source
        if lines and (clean or not self.border):
            raise ElmanError(
                "a codec of lines must keep lines unchanged and have the line end in its "
                "vocabulary: leave lines, clean or newlines out"
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Codec):
            return NotImplemented
        mine, its = (
            (each.clean, each.newlines, each.lines, each.num_steps) for each in (self, other)
        )
        return mine == its and self.has_same_tokens(other)

    __hash__ = None  # type: ignore[assignment]  # it is mutable

    def __repr__(self) -> str:
        return f"Codec({self.in_words()})"

    def in_words(self) -> str:
        """Tokens, and how a text is read."""
        ways = {
            "each line a sequence": self.lines,
            "cleaned to lower-case letters": self.clean,
            "line ends as they are": self.newlines != UNIVERSAL,
        }
        used = [words for words, holds in ways.items() if holds]
        own = ", ".join([self.tokenizer.name, f"vocabulary of {len(self.vocab):,}", *used])
        return own if self.source is None else f"sources {self.source.in_words()}, targets {own}"

    def has_same_tokens(self, other: "Codec") -> bool:
        """True if both have the same tokenizers and vocabularies, regardless of cleaning."""
        mine, its = (
            [
                (each.tokenizer.name, each.tokenizer.model, each.vocab.idx_to_token)
                for each in (codec, codec.source)
                if each is not None
            ]
            for codec in (self, other)
        )
        return mine == its

    @property
    def border(self) -> list[int]:
        """Ids of the symbol between two lines: one, or none.

        A model of continuous text recognizes lines by their ends, as it reads them (a space if
        cleaned). If the vocabulary has no line end, nothing predicts the first token of a line.
        """
        tokens = self.tokenizer.split(clean(LINE_END) if self.clean else LINE_END)
        known = len(tokens) == 1 and tokens[0] in self.vocab
        return self.vocab[tokens] if known else []

    @property
    def line_end(self) -> int:
        """Id of the line end; a model of lines also begins each line with it."""
        return self.border[0]

    @property
    def start(self) -> list[int]:
        """Ids that every text begins with: the start of a line for a model of lines."""
        return self.border if self.lines else []

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end every text: the line end for a model of lines."""
        return (LINE_END,) * len(self.start)

    def pieces(self, blocks: Iterable[str]) -> Iterator[str] | Iterator[list[str]]:
        """Yield a text with converted line ends and cleaning, in pieces to tokenize separately.

        With `lines`, a piece is a list of lines.
        """
        blocks = with_newlines(blocks, self.newlines)
        if self.lines:
            return nonempty_lines(blocks)
        return pieces(cleaned(blocks) if self.clean else blocks, self.tokenizer.cut)

    def prefix_ids(self, prefix: str, allow_unknown: bool = False) -> list[int]:
        """Ids of a prefix (not cleaned), after the `start` of a text.

        Raises an ElmanError for unknown tokens and the unknown symbol, unless they are allowed.
        """
        if not isinstance(prefix, str):
            raise ElmanError(f"the prefix must be a str, got {prefix!r}")
        try:
            tokens = self.tokenizer.split(prefix)
        except UnicodeEncodeError as error:
            raise ElmanError(
                f"the prefix must not contain half a surrogate pair, got "
                f"{prefix[error.start]!a}: remove it"
            ) from error
        if not allow_unknown and (unknown := sorted({*self.unknown(prefix)})):
            raise ElmanError(
                f"the model does not know {', '.join(map(repr, unknown[:8]))} in the prefix; "
                f"it knows {self._known()}"
            )
        ids, start = self.vocab[tokens], self.start
        if {*start}.intersection(ids):
            raise ElmanError(f"a line must not contain a line end, got {prefix!r}: leave it out")
        return [*start, *ids]

    def padded(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Ids of texts with their ends, (texts, steps), cut or padded, and their lengths, (texts,).

        Only the codecs of pairs have an end and a number of steps.
        """
        ids = np.full((len(texts), self.num_steps), self.vocab[PADDING])
        lengths = np.zeros(len(texts), np.int32)
        for n, text in enumerate(texts):
            known = (token if self._has(token) else UNKNOWN for token in self.tokenizer.split(text))
            row = self.vocab[[*known, END][: self.num_steps]]
            ids[n, : len(row)] = row
            lengths[n] = len(row)
        return ids, lengths

    def cuts(self, text: str) -> bool:
        """True if a text has more tokens, its end included, than a codec of pairs reads."""
        return len(self.tokenizer.split(text)) >= self.num_steps

    def unknown(self, text: str) -> list[str]:
        """The tokens of a text (not cleaned) that the vocabulary lacks, in order.

        In pairs, a token that is spelled like a symbol is unknown.
        """
        return [token for token in self.tokenizer.split(text) if not self._has(token)]

    def _has(self, token: str) -> bool:
        return token in self.vocab and not (self.num_steps and token in RESERVED)

    def _known(self) -> str:
        """The first tokens of the vocabulary, quoted, and the number of the others."""
        tokens = [token for token in self.vocab.idx_to_token if token != UNKNOWN]
        shown = sum(end <= MAX_SHOWN_CHARACTERS for end in accumulate(map(len, tokens)))
        more = f" and {len(tokens) - shown:,} more tokens" if shown < len(tokens) else ""
        return f"{''.join(tokens[:shown])!r}{more}"

    def text(self, ids: Iterable[int]) -> str:
        """Text for ids; "�" for bytes that are not UTF-8, and in pairs for the unknown symbol.

        The other symbols of pairs are no text.
        """
        tokens = (self.vocab.idx_to_token[index] for index in ids)
        if not self.num_steps:
            return self.tokenizer.join(tokens)
        unknown = UNKNOWN if self.tokenizer.has_byte_tokens else "�"
        return self.tokenizer.join(
            unknown if token == UNKNOWN else token
            for token in tokens
            if token == UNKNOWN or token not in RESERVED
        )

    def raw(self, index: int) -> bytes:
        """UTF-8 bytes of the token with an id; they may be part of a character."""
        return self.tokenizer.raw(self.vocab.idx_to_token[index])

    def written(self, ids: Sequence[int]) -> str:
        """Text for ids that begin with a prefix: of lines, without start, up to its end."""
        start = self.start
        return self.text(takewhile(lambda index: index not in start, ids[len(start) :]))

    def spelling(self, index: int) -> str:
        """Token of an id on one line; control characters, backslashes and broken bytes escaped."""
        token = self.vocab.idx_to_token[index]
        if token == UNKNOWN:
            return token
        text = self.tokenizer.raw(token).decode(errors="surrogateescape").replace("\\", r"\\")
        return "".join(map(_on_one_line, text))


def _on_one_line(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that is part of a character
        return f"\\x{ord(character) & 0xFF:02x}"
    return character if character.isprintable() else ascii(character)[1:-1]


def check_tokenizer(name: str, vocab_size: int | None, min_freq: int | None) -> None:
    """Raise an ElmanError unless this tokenizer exists and accepts these bounds."""
    check_name(name)
    if name == BPE:
        bpe.check(vocab_size, min_freq)
    else:
        tokenizer(name, vocab_size, min_freq)


def make_tokenizer(
    name: str,
    vocab_size: int | None,
    min_freq: int | None,
    sample: Callable[[], Iterable[str]],
) -> Tokenizer:
    """Make a tokenizer; if it must be learned, learn it from a `sample` of the text."""
    if name == BPE:
        return bpe.learn(sample(), vocab_size)
    return tokenizer(name, vocab_size, min_freq)


def tokenizer_of_pairs(name: str, texts: Iterable[str] = ()) -> Tokenizer:
    """Tokenizer of some texts: of characters, of words, or of byte pairs learned from them."""
    return SPACED_WORDS if name == WORD else make_tokenizer(name, None, None, lambda: texts)


def of_pairs(
    tokenizers: Sequence[Tokenizer],
    sources: Iterable[list[str]],
    targets: Iterable[list[str]],
    num_steps: int,
) -> Codec:
    """Codec of pairs with the tokens of some texts, of which the first `num_steps` are read."""
    source, target = (
        Vocab(
            [*used.alphabet, *chain.from_iterable(text[:num_steps] for text in texts)], 1, symbols
        )
        for used, texts, symbols in zip(
            tokenizers, (sources, targets), (OF_SOURCES, OF_TARGETS), strict=True
        )
    )
    of_sources = Codec(source, tokenizers[0], num_steps=num_steps)
    return Codec(target, tokenizers[1], num_steps=num_steps, source=of_sources)


def write(folder: Path, codec: Codec) -> None:
    """Write the vocabularies, and the tokenizers that were learned from a text, into a folder."""
    sides = {"": codec} if codec.source is None else {"": codec.source, TARGET: codec}
    for prefix, side in sides.items():
        json_files.write(folder / (prefix + VOCAB_FILE), side.vocab.idx_to_token)
        if side.tokenizer.model:
            atomic.write(folder / (prefix + TOKENIZER_FILE), side.tokenizer.model.encode())


def read(
    folder: Path, size: int, name: str, clean: bool, newlines: str, lines: bool = False
) -> Codec:
    """Read a codec with `size` tokens in its vocabulary and the tokenizer `name`.

    `clean`, `newlines` and `lines` are the codec's. Raises an ElmanError if the vocabulary contains
    tokens that the tokenizer cannot produce.
    """
    return _read(folder, "", size, name, (), clean=clean, newlines=newlines, lines=lines)


def read_pair(folder: Path, sizes: tuple[int, int], names: tuple[str, str], steps: int) -> Codec:
    """Read the codec of pairs with vocabularies of these sizes and the tokenizers of these names.

    The first is of the sources.
    """
    source = _read(folder, "", sizes[0], names[0], OF_SOURCES, num_steps=steps)
    return _read(folder, TARGET, sizes[1], names[1], OF_TARGETS, num_steps=steps, source=source)


def _read(
    folder: Path, prefix: str, size: int, name: str, symbols: tuple[str, ...], **how: Any
) -> Codec:
    """Read a codec; those of pairs have `symbols`, and `how` are the fields besides the tokens."""
    path, own = folder / (prefix + VOCAB_FILE), folder / (prefix + TOKENIZER_FILE)
    vocab = read_vocab(json_files.read(path, MAX_VOCAB_BYTES), str(path), size)
    if missing := [symbol for symbol in symbols if symbol not in vocab]:
        raise ElmanError(f"{path} must have the symbol {missing[0]}")
    if name == BPE:
        used = bpe.read(own, None if symbols else vocab)
    else:
        used = tokenizer_of_pairs(name) if symbols else tokenizer(name)
    if used.model and {*used.alphabet, *symbols, UNKNOWN} != {*vocab.idx_to_token}:
        raise ElmanError(f"the tokens of {path} must be those of {own} and {', '.join(symbols)}")
    codec = Codec(vocab, used, **how)
    if not _are_tokens(codec):
        raise ElmanError(f"{path} contains tokens that are not tokens of {used.name}")
    return codec


def _are_tokens(codec: Codec) -> bool:
    """False if a tokenizer, except of the words of a text, cannot produce the vocabulary."""
    known, used = codec.vocab.idx_to_token, codec.tokenizer
    symbols = RESERVED if codec.num_steps else {UNKNOWN}
    tokens = [token for token in known if token not in symbols]
    try:
        codec.text(range(len(known)))
    except UnicodeError:
        return False
    if used.units in (Units.CHARACTERS, Units.BYTES):
        return all(len(token) == 1 for token in tokens)
    return used is not SPACED_WORDS or all(used.split(token) == [token] for token in tokens)


def ended(used: Tokenizer, texts: Iterable[str]) -> list[list[str]]:
    """Tokens of texts, each with its end; an ElmanError for a token that is a symbol."""
    found = [[*used.split(text), END] for text in texts]
    for each in found:
        if names := RESERVED.intersection(each[:-1]):
            raise ElmanError(f"a text must not contain the reserved word {names.pop()}")
    return found


def shared(model: Any, data: Any) -> Any:
    """Codec of a model that is trained on some data: the model's codec, or else the data's.

    None if neither has one. The user's own data may have only a `vocab`, or none. Raises an
    ElmanError if the data number tokens differently from the model.
    """
    used: Codec | None = model.codec
    of_data = DataAttributes.of(data)
    # The user's own data may use this name for something else.
    given: Codec | None = of_data.codec if isinstance(of_data.codec, Codec) else None
    tokens = tokens_of(of_data.vocab if given is None else given.vocab)
    if tokens is None:
        return used
    if used is None:
        _check_size(model, len(tokens))
        return given
    same = tokens == used.vocab.idx_to_token if given is None else used.has_same_tokens(given)
    if not same:
        number = f"{len(tokens)} others" if given is None else given.in_words()
        cure = "read the text with the model's codec, as in TextFile(..., codec=model.codec)"
        raise ElmanError(
            f"model and data must number tokens equally, got {used.in_words()} in the model and "
            f"{number} in the data: {'train a new model' if used.source else cure}"
        )
    return used if given is None or given.source is None else given


def _check_size(model: Any, tokens: int) -> None:
    """Raise an ElmanError if the data have more tokens than the model."""
    size = ModelAttributes.of(model).vocab_size
    if size is not None and tokens > size:
        raise ElmanError(
            f"a model must have as many tokens as its data, got {size} and {tokens}: give it "
            "vocab_size=len(data.vocab)"
        )
