"""Codec: maps a text to token ids and back."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from elman.errors import ElmanError
from elman.files import atomic, json_files
from elman.text import known_tokenizers
from elman.text.line_blocks import LINE_END, line_blocks
from elman.text.tokenizers import (
    UNIVERSAL,
    Tokenizer,
    Units,
    check_newlines,
    cleaned,
    pieces,
    tokenizer,
    with_newlines,
)
from elman.text.vocab import UNKNOWN, Vocab, read_vocab, tokens_of
from elman.user_classes import DataAttributes, ModelAttributes

VOCAB_FILE, TOKENIZER_FILE = "vocab.json", "tokenizer.json"
MAX_VOCAB_BYTES = 1 << 26  # of vocab.json: 64 for each of a million tokens
MAX_SHOWN_CHARACTERS = 80  # of the vocabulary, in a message


class Codec:
    """Maps a text to token ids and back: line ends, cleaning, tokenizer, vocabulary.

    With `lines`, each line of a text is a separate sequence. Codecs are equal if they map every
    text to the same ids.
    """

    def __init__(
        self,
        vocab: Vocab,
        used: str | Tokenizer,
        clean: bool,
        newlines: str = UNIVERSAL,
        lines: bool = False,
    ) -> None:
        check_newlines(newlines)
        self.vocab = vocab
        self.tokenizer = tokenizer(used) if isinstance(used, str) else used
        self.clean = clean
        self.newlines = newlines
        self.lines = lines
        if lines and (clean or self.line_end == vocab.unk):
            raise ElmanError(
                "a codec of lines must keep lines unchanged and have the line end in its "
                "vocabulary: leave lines, clean or newlines out"
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Codec):
            return NotImplemented
        mine, its = ((each.clean, each.newlines, each.lines) for each in (self, other))
        same = mine == its
        return same and self.has_same_tokens(other)

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
        return ", ".join([self.tokenizer.name, f"vocabulary of {len(self.vocab):,}", *used])

    def has_same_tokens(self, other: "Codec") -> bool:
        """True if both have the same tokenizer and vocabulary, regardless of cleaning."""
        mine = self.tokenizer
        its = other.tokenizer
        same = (mine.name, mine.model) == (its.name, its.model)
        return same and self.vocab.idx_to_token == other.vocab.idx_to_token

    @property
    def line_end(self) -> int:
        """Id of the line end; a model of lines also begins each line with it."""
        (token,) = self.tokenizer.split(LINE_END)
        number: int = self.vocab[token]
        return number

    def pieces(self, blocks: Iterable[str]) -> Iterator[str] | Iterator[list[str]]:
        """Yield a text with converted line ends and cleaning, in pieces to tokenize separately.

        With `lines`, a piece is a list of lines.
        """
        blocks = with_newlines(blocks, self.newlines)
        if self.lines:
            return line_blocks(blocks)
        return pieces(cleaned(blocks) if self.clean else blocks, self.tokenizer.cut)

    def prefix_ids(self, prefix: str, allow_unknown: bool = False) -> list[int]:
        """Ids of a prefix (not cleaned); an ElmanError for unknown tokens or the unknown symbol.

        With `lines`, the ids begin with the start of a line.
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
        if not allow_unknown and (unknown := self.unknown(prefix)):
            raise ElmanError(
                f"the model does not know {', '.join(map(repr, unknown[:8]))} in the prefix; "
                f"it knows {self._known()}"
            )
        ids: list[int] = self.vocab[tokens]
        if not self.lines:
            return ids
        if self.line_end in ids:
            raise ElmanError(f"a line must not contain a line end, got {prefix!r}: leave it out")
        return [self.line_end, *ids]

    def unknown(self, text: str) -> list[str]:
        """Distinct tokens of a text (not cleaned) that the vocabulary lacks, in order."""
        return sorted({token for token in self.tokenizer.split(text) if token not in self.vocab})

    def knows(self, text: str) -> bool:
        """True if a text, which is not cleaned, has tokens, and all are in the vocabulary."""
        tokens = self.tokenizer.split(text)
        return bool(tokens) and all(token in self.vocab for token in tokens)

    def _known(self) -> str:
        """The first tokens of the vocabulary, quoted, and the number of the others."""
        tokens = [token for token in self.vocab.idx_to_token if token != UNKNOWN]
        shown = sum(end <= MAX_SHOWN_CHARACTERS for end in accumulate(map(len, tokens)))
        more = f" and {len(tokens) - shown:,} more tokens" if shown < len(tokens) else ""
        return f"{''.join(tokens[:shown])!r}{more}"

    def text(self, ids: Iterable[int]) -> str:
        """Text for ids; "�" for the unknown symbol and for bytes that are not UTF-8."""
        return self.tokenizer.join(self.vocab.idx_to_token[index] for index in ids)

    def raw(self, index: int) -> bytes:
        """UTF-8 bytes of the token with an id; they may be part of a character."""
        return self.tokenizer.raw(self.vocab.idx_to_token[index])

    def line(self, ids: Sequence[int]) -> str:
        """Text of a line whose ids begin with its start, up to its end if it has one."""
        end = ids.index(self.line_end, 1) if self.line_end in ids[1:] else len(ids)
        return self.text(ids[1:end])

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


def write_vocab(folder: Path, vocab: Vocab, used: Tokenizer, prefix: str = "") -> None:
    """Write the vocabulary, and the tokenizer if it was learned from a text, into a folder.

    - `prefix`: of the names of the files.
    """
    json_files.write(folder / (prefix + VOCAB_FILE), vocab.idx_to_token)
    if used.model:
        atomic.write(folder / (prefix + TOKENIZER_FILE), used.model.encode())


def read(
    folder: Path, size: int, name: str, clean: bool, newlines: str, lines: bool = False
) -> Codec:
    """Read a codec with `size` tokens in its vocabulary and the tokenizer `name`.

    `clean`, `newlines` and `lines` are the codec's. Raises an ElmanError if the vocabulary contains
    tokens that the tokenizer cannot produce.
    """
    path = folder / VOCAB_FILE
    vocab = read_vocab(json_files.read(path, MAX_VOCAB_BYTES), str(path), size)
    used = known_tokenizers.read(name, folder / TOKENIZER_FILE, vocab)
    codec = Codec(vocab, used, clean, newlines, lines)
    if not _are_tokens(codec):
        raise ElmanError(f"{path} contains tokens that are not tokens of {name}")
    return codec


def _are_tokens(codec: Codec) -> bool:
    """False if a tokenizer of characters, bytes or byte pairs cannot produce the vocabulary."""
    tokens = codec.vocab.idx_to_token
    try:
        codec.text(range(len(tokens)))
    except UnicodeError:
        return False
    is_single = codec.tokenizer.units in (Units.CHARACTERS, Units.BYTES)
    return not is_single or all(len(token) == 1 for token in tokens if token != UNKNOWN)


def shared(model: Any, data: Any) -> Any:
    """Codec of a model that is trained on some data: the model's codec, or else the data's.

    None if neither has one; a PairCodec for pairs.

    The user's own data may have only a `vocab`, or none. Raises an ElmanError if the data number
    tokens differently from the model.
    """
    used = model.codec
    of_data = DataAttributes.of(data)
    if of_data.pair_codec is not None:
        return _shared_by_pairs(used, of_data.pair_codec)
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
        raise ElmanError(
            f"model and data must number tokens equally, got {len(used.vocab)} tokens "
            f"({used.tokenizer.name}) in the model and {len(tokens)} others in the data: read the "
            "text with the model's codec, as in TextFile(..., codec=model.codec)"
        )
    return used


def _shared_by_pairs(used: Any, given: Any) -> Any:
    """The codec of the pairs; an ElmanError if the model was trained on other tokens."""
    if used is not None and not used.has_same_tokens(given):
        raise ElmanError(
            f"model and data must number tokens equally, got {used.in_words()} in the model and "
            f"{given.in_words()} in the data: train a new model"
        )
    return given


def _check_size(model: Any, tokens: int) -> None:
    """Raise an ElmanError if the data have more tokens than the model."""
    size = ModelAttributes.of(model).vocab_size
    if size is not None and tokens > size:
        raise ElmanError(
            f"a model must have as many tokens as its data, got {size} and {tokens}: give it "
            "vocab_size=len(data.vocab)"
        )
