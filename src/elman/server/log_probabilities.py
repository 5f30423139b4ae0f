"""Log-probabilities of the tokens of a text, and of the likeliest tokens in their places."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.inference import language_model

AT_ONCE = 1 << 20  # logits


class TokenChances(NamedTuple):
    """A token of a text: its id, its log-probability in nats, and the likeliest alternatives.

    Nothing predicts the first token of a text, so it has no log-probabilities.
    """

    id: int
    log_probability: float | None
    likeliest: dict[int, float]


class LogProbabilities:
    """Reads a text as it grows."""

    def __init__(self, model: Any, top: int) -> None:
        self._model, self._top = model, top
        self._state: Any = None
        self._predicted: NDArray[Any] | None = None  # logits of the next token, (vocab,)

    def read(self, ids: Sequence[int]) -> list[TokenChances]:
        """Log-probabilities of the next ids of the text."""
        return [token for part in self._parts(ids) for token in self._chances(part)]

    def skip(self, ids: Sequence[int]) -> None:
        """Read the next ids of the text without computing log-probabilities."""
        for part in self._parts(ids):
            self._step(part)

    def _parts(self, ids: Sequence[int]) -> Iterator[list[int]]:
        most = max(1, AT_ONCE // self._model.vocab_size)
        for start in range(0, len(ids), most):
            yield list(ids[start : start + most])

    def _step(self, ids: list[int]) -> NDArray[Any]:
        """Logits after each of some ids, (ids, vocab)."""
        logits, self._state = self._model.step(np.array([ids]), self._state)
        language_model.check_finite(logits)
        self._predicted = logits[0, -1]
        found: NDArray[Any] = logits[0]
        return found

    def _chances(self, ids: list[int]) -> list[TokenChances]:
        before, logits = self._predicted, self._step(ids)
        unpredicted = [] if before is not None else [TokenChances(ids[0], None, {})]
        rows = logits[:-1] if before is None else np.vstack([before, logits[:-1]])
        values = language_model.log_probabilities(rows)  # (predicted, vocab)
        top = np.argsort(-values, axis=1, kind="stable")[:, : self._top]
        return unpredicted + [
            TokenChances(token, float(row[token]), {int(n): float(row[n]) for n in best})
            for token, row, best in zip(ids[len(unpredicted) :], values, top, strict=True)
        ]
