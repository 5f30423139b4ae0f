"""Many short texts scored together, such as the lines of a file."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.inference import language_model
from elman.text.lines import Lines

Ids = NDArray[np.int64]
TEXTS_AT_ONCE = 128
STEP_MULTIPLE = 8  # number of steps is a multiple of it, so that many batches have the same shape
POSITIONS_AT_ONCE = 1 << 14  # texts times steps
MAX_LOGITS = 1 << 22  # that a framework computes at once
ALONE = 1 << 12  # a text with more tokens is read separately, in chunks


def score_texts(model: Any, texts: Sequence[NDArray[Any]]) -> list[NDArray[np.float64]]:
    """Losses in nats of each id except the first of each text, given the ids before it."""
    ids = [language_model.integers(text, 1) for text in texts]
    lengths = np.array([len(text) for text in ids], np.int64)
    ends = np.cumsum(lengths)
    joined = np.concatenate([np.empty(0, np.int64), *ids])
    losses = score_sequences(model, joined, ends - lengths, lengths)
    return np.split(losses, np.cumsum(np.maximum(lengths - 1, 0))[:-1]) if ids else []


def score_sequences(model: Any, ids: Ids, starts: Ids, lengths: Ids) -> NDArray[np.float64]:
    """Losses in nats of the sequences `ids[start : start + length]`, concatenated.

    A sequence has a loss for each id except its first, given the ids before it. Sequences of
    similar length are read together. Padding is at the end, so that it changes nothing.
    """
    language_model.check_model(model)
    language_model.check_ids(ids, model.vocab_size)
    numbers = np.maximum(lengths - 1, 0)  # losses of each sequence
    ends = np.cumsum(numbers)
    losses, places = np.empty(int(numbers.sum())), ends - numbers
    order = np.argsort(-numbers, kind="stable")
    for n in order[numbers[order] >= ALONE]:
        alone = ids[starts[n] : starts[n] + lengths[n]]
        losses[places[n] : ends[n]] = np.concatenate([*language_model.score(model, alone)])
    order = order[(numbers[order] > 0) & (numbers[order] < ALONE)]
    for rows in _batches(order, numbers):
        steps = -(-int(numbers[rows[0]]) // STEP_MULTIPLE) * STEP_MULTIPLE
        columns = np.arange(steps + 1)
        read = columns < lengths[rows][:, None]
        batch = np.zeros((_room(len(rows)), steps + 1), np.int64)
        batch[: len(rows)][read] = ids[(starts[rows][:, None] + columns)[read]]
        counted = columns[:-1] < numbers[rows][:, None]
        to = (places[rows][:, None] + columns[:-1])[counted]
        losses[to] = _row_losses(model, batch)[: len(rows)][counted]
    language_model.check_finite(losses)
    return losses


def _batches(order: Ids, numbers: Ids) -> Iterator[Ids]:
    """Yield the sequences of each batch, given in order of decreasing length."""
    start = 0
    while start < len(order):
        longest = int(numbers[order[start]])
        most = max(1, min(TEXTS_AT_ONCE, POSITIONS_AT_ONCE // longest))
        yield order[start : start + most]
        start += most


def _room(rows: int) -> int:
    """Rows of a batch, including padding: a power of two, so that there are few shapes."""
    return 1 << (rows - 1).bit_length()


def _row_losses(model: Any, ids: Ids) -> NDArray[Any]:
    """Losses in nats, (rows, steps), of all ids except the first in rows, (rows, steps + 1)."""
    if isinstance(model, language_model.CompiledModel):
        return model.row_losses(ids)
    state, losses, (rows, columns) = None, [], ids.shape
    lengths = language_model.CHUNK_LENGTHS
    chunk = next((n for n in lengths if n * rows * model.vocab_size <= MAX_LOGITS), lengths[-1])
    for start in range(0, columns - 1, chunk):
        logits, state = model.step(ids[:, start : min(start + chunk, columns - 1)], state)
        targets = ids[:, start + 1 : start + 1 + logits.shape[1]]
        flat = logits.reshape(-1, logits.shape[-1]).astype(np.float64)
        losses.append(language_model.cross_entropy(flat, targets.ravel()).reshape(rows, -1))
    return np.concatenate(losses, axis=1)


class ScoredLines(NamedTuple):
    """Lines and their costs under a model.

    - `log_probabilities`: of each line including its end, in nats; unknown tokens are one symbol.
    - `bits_per_character`: including spelling; NaN if nothing is predicted.
    - `losses`: in nats; `ends[n - 1]` to `ends[n]` are the predicted tokens of line n.
    """

    lines: Lines
    log_probabilities: NDArray[np.float64]
    bits_per_character: NDArray[np.float64]
    losses: NDArray[np.float64]
    ends: NDArray[np.int64]

    def tokens(self, n: int) -> Iterator[tuple[int, float]]:
        """Yield the id and the loss in nats of each predicted token of line `n`."""
        losses = self.losses[self.ends[n - 1] if n else 0 : self.ends[n]].tolist()
        first = int(self.lines.starts[n] + self.lines.lengths[n]) - len(losses)
        return zip(self.lines.ids[first : first + len(losses)].tolist(), losses, strict=True)


def score_lines(model: Any, lines: Lines) -> ScoredLines:
    """Score each line as a separate text, from the zero state."""
    losses = score_sequences(model, lines.ids, lines.starts, lines.lengths)
    ends = np.cumsum(np.maximum(lines.lengths - 1, 0))
    sums = np.concatenate([[0.0], np.cumsum(losses)])[np.concatenate([[0], ends])]
    nats = np.diff(sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        bits = (nats + lines.spelling) / math.log(2) / lines.predicted
    return ScoredLines(lines, 0 - nats, bits, losses, ends)
