"""Vocabulary: the mapping between tokens and ids."""

import operator
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.errors import ElmanError, require_at_least

UNKNOWN = "<unk>"
MAX_SHOWN_TOKENS = 8


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
