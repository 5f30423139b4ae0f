"""Vocabulary: the mapping between tokens and ids, and the cost of spelling tokens that it lacks."""

import operator
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.errors import ElmanError, require_at_least

UNKNOWN = "<unk>"
MAX_SHOWN_TOKENS = 8
CODE_POINTS = 0x110000
TOKENS_AT_ONCE = 1 << 16  # to spell


class Vocab:
    """Sorted tokens of a text, mapped to ids and back (d2l's Vocab).

    `tokens` is a list of tokens or of lists of tokens. Tokens that occur fewer than `min_freq`
    times are omitted. `reserved_tokens` and the unknown symbol are always included.
    """

    def __init__(
        self,
        tokens: Sequence[Any] = (),
        min_freq: int = 0,
        reserved_tokens: Sequence[str] = (),
    ) -> None:
        require_at_least(0, min_freq=min_freq)
        try:
            if len(tokens) and isinstance(tokens[0], (list, tuple)):
                tokens = [token for line in tokens for token in line]
            self._number(tokens, min_freq, reserved_tokens)
        except (TypeError, KeyError) as error:
            raise ElmanError(
                "a vocabulary must be made from a list of str, or from lists of str, got "
                f"{type(tokens).__name__}: {error}"
            ) from error

    def _number(self, tokens: Sequence[Any], min_freq: int, reserved_tokens: Sequence[str]) -> None:
        self.token_freqs = Counter(tokens).most_common()
        frequent = (token for token, freq in self.token_freqs if freq >= min_freq)
        self.idx_to_token: list[str] = sorted({UNKNOWN, *reserved_tokens, *frequent})
        self.token_to_idx = {token: idx for idx, token in enumerate(self.idx_to_token)}

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self.idx_to_token[:MAX_SHOWN_TOKENS]))
        more = ", ..." if len(self) > MAX_SHOWN_TOKENS else ""
        return f"Vocab({len(self):,} tokens: {shown}{more})"

    def __len__(self) -> int:
        return len(self.idx_to_token)

    def __contains__(self, token: object) -> bool:
        return token in self.token_to_idx

    def __getitem__(self, tokens: Any) -> Any:
        """Id of a token, or a list of ids for a list of tokens; `unk` for unknown tokens."""
        if not isinstance(tokens, (list, tuple)):
            try:
                return self.token_to_idx.get(tokens, self.unk)
            except TypeError as error:
                raise ElmanError(f"tokens must be str, got {tokens!r}") from error
        return [self[token] for token in tokens]

    def to_tokens(self, indices: Any) -> Any:
        """Token of an id, or a list of tokens for a list or one-dimensional array of ids."""
        if isinstance(indices, (list, tuple)) or np.ndim(indices) > 0:
            return [self.to_tokens(index) for index in indices]
        try:
            index = _as_index(indices)
        except (TypeError, AttributeError):
            index = -1
        if not 0 <= index < len(self):
            raise ElmanError(f"ids must be from 0 to {len(self) - 1}, got {indices!r}")
        return self.idx_to_token[index]

    @property
    def unk(self) -> int:
        """Id of the unknown symbol."""
        return self.token_to_idx[UNKNOWN]

    def encode(self, tokens: Sequence[str]) -> NDArray[np.int64]:
        """Ids of many tokens as one array."""
        unk = self.unk
        get = self.token_to_idx.get
        return np.fromiter((get(token, unk) for token in tokens), np.int64, len(tokens))


def _as_index(value: Any) -> int:
    """An integer of any kind as a Python int."""
    try:
        return operator.index(value)
    except TypeError:  # arrays of MXNet are no indices themselves
        return operator.index(value.item())


def tokens_of(vocab: Any) -> list[str] | None:
    """Tokens of a vocabulary, which may be of a user's class; None for anything else."""
    tokens: list[str] | None = getattr(vocab, "idx_to_token", None)
    return tokens


def read_vocab(tokens: Any, where: str, size: int) -> Vocab:
    """Make a vocabulary of `size` tokens from the contents of the JSON file `where`.

    Raises an ElmanError unless they are a sorted list of `size` distinct tokens.
    """
    if isinstance(tokens, list) and len(tokens) != size:
        raise ElmanError(f"{where} must have {size} tokens, got {len(tokens)}")
    strings = isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)
    vocab = Vocab(tokens) if strings else None
    if vocab is None or vocab.idx_to_token != tokens:
        raise ElmanError(f"{where} must be a sorted list of distinct tokens that includes <unk>")
    try:
        "".join(tokens).encode()
    except UnicodeEncodeError as error:
        raise ElmanError(f"cannot read {where}: it contains half a surrogate pair") from error
    return vocab


@dataclass(frozen=True)
class Unknown:
    """Tokens that are not in a vocabulary: number, characters, bytes, and nats to spell them."""

    tokens: int = 0
    characters: int = 0
    utf8_bytes: int = 0
    nats: float = 0.0


class Spelling:
    """Cost of each token in nats, given the characters of a vocabulary.

    A model gives an unknown token the probability of the unknown symbol. A code for the whole text
    must also say which token it is. Here the token is spelled: its characters, by their frequencies
    in the vocabulary (each vocabulary token counts once), and then an end symbol. A character that
    is not in the vocabulary is an escape symbol, followed by one of all code points. This makes
    bits per character comparable between vocabularies.
    """

    def __init__(self, vocab: Vocab) -> None:
        self.vocab = vocab

    @cached_property
    def _characters(self) -> NDArray[np.float64]:
        """Cost of each code point, and of the end at last: (code points + 1,)."""
        tokens = [token for token in self.vocab.idx_to_token if token != UNKNOWN]
        counts = np.bincount(_code_points(tokens), minlength=CODE_POINTS)
        total = int(counts.sum()) + len(tokens) + 2  # an end for each token and the spelled one
        costs = np.full(CODE_POINTS + 1, np.log(total) + np.log(CODE_POINTS))
        known = np.flatnonzero(counts)
        costs[known] = np.log(total / counts[known])
        costs[-1] = np.log(total / (len(tokens) + 1))
        return costs

    def costs(self, tokens: Sequence[str]) -> NDArray[np.float64]:
        """Cost of each token in nats, (tokens,)."""
        found = [
            self._costs(tokens[start : start + TOKENS_AT_ONCE])
            for start in range(0, len(tokens), TOKENS_AT_ONCE)
        ]
        return np.concatenate([np.empty(0), *found])

    def _costs(self, tokens: Sequence[str]) -> NDArray[np.float64]:
        lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
        values = np.append(self._characters[_code_points(tokens)], 0.0)
        starts = np.cumsum(lengths) - lengths
        costs: NDArray[np.float64] = np.add.reduceat(values, starts) * (lengths > 0)
        costs += self._characters[-1]
        return costs


def _code_points(tokens: Iterable[str]) -> NDArray[np.uint32]:
    return np.frombuffer("".join(tokens).encode("utf-32-le"), "<u4")
