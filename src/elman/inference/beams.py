"""Beam search: the likeliest continuation of a text, by its length-normalized log-probability."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.inference import language_model
from elman.inference.sampling import Sampler


class Hypothesis(NamedTuple):
    """Tokens that may follow a prefix, and the sum of their log-probabilities in nats."""

    ids: tuple[int, ...]
    log_probability: float
    length_penalty: float = 1.0

    @property
    def score(self) -> float:
        """Log-probability over the length to the power of the penalty: by default, of a token."""
        length: float = max(1, len(self.ids)) ** self.length_penalty
        return self.log_probability / length


class _Beam(NamedTuple):
    hypothesis: Hypothesis
    state: Any
    seen: NDArray[np.bool_]


def beam_search(
    model: Any,
    prefix: Sequence[int],
    tokens: int,
    beams: int,
    sampler: Sampler,
    ended: Callable[[Sequence[int]], bool] = lambda ids: False,
    length_penalty: float = 1.0,
) -> list[Hypothesis]:
    """Find the best continuations of the ids `prefix`: at most `beams`, best first.

    Among all continuations of the texts kept so far, the likeliest `beams` are kept; those that
    have `ended`, or have `tokens` tokens, are set aside. The latter are compared by their
    log-probability divided by their length to the power of `length_penalty` (0 or more). At 1 this
    is the mean for each token (like Hugging Face's `length_penalty`; compare Wu et al. 2016,
    section 7). The search ends when no kept text can surpass the worst of them. The exclusions and
    the repetition penalty of the `sampler` apply; its other options do not.
    """
    if not tokens:
        return [Hypothesis((), 0.0, length_penalty)]
    logits, state = model.step(np.asarray([prefix]), None)
    seen = np.zeros(logits.shape[-1], np.bool_)
    seen[list(prefix)] = True
    live, done = [_Beam(Hypothesis((), 0.0, length_penalty), state, seen)], list[Hypothesis]()
    rows = logits[:, -1]  # (beams, vocab)
    for length in range(1, tokens + 1):
        chosen, finished = _extend(live, _log_probabilities(rows, live, sampler), beams, ended)
        done = _best([*done, *finished], beams)
        reachable = _reachable(chosen[0][1], tokens) if chosen else -np.inf
        if not chosen or (len(done) == beams and done[-1].score >= reachable):
            return done
        if length < tokens:
            rows, live = _read(model, live, chosen)
    return _best([*done, *(hypothesis for _, hypothesis in chosen)], beams)


def _reachable(hypothesis: Hypothesis, tokens: int) -> float:
    """The best score of what may follow, which is no likelier and has at most `tokens` tokens."""
    length: float = tokens**hypothesis.length_penalty
    return hypothesis.log_probability / length


def _log_probabilities(
    rows: NDArray[Any], live: Sequence[_Beam], sampler: Sampler
) -> NDArray[np.float64]:
    """Log-probabilities of the next token of each beam, (beams, vocab)."""
    language_model.check_finite(rows)
    allowed = sampler.allowed(rows, np.stack([beam.seen for beam in live]))
    return language_model.log_probabilities(allowed)


def _best(hypotheses: Sequence[Hypothesis], number: int) -> list[Hypothesis]:
    return sorted(hypotheses, key=lambda each: -each.score)[:number]


def _extend(
    live: Sequence[_Beam],
    gains: NDArray[np.float64],
    beams: int,
    ended: Callable[[Sequence[int]], bool],
) -> tuple[list[tuple[int, Hypothesis]], list[Hypothesis]]:
    """The likeliest hypotheses that continue, each with the index of its beam, and those that end.

    Twice as many as needed are considered, since some may end.
    """
    sums = np.array([[beam.hypothesis.log_probability] for beam in live]) + gains
    flat = sums.ravel()
    number = min(2 * beams, int(np.isfinite(flat).sum()))
    order = np.argpartition(-flat, number - 1)[:number]
    going, ending = list[tuple[int, Hypothesis]](), list[Hypothesis]()
    for place in order[np.lexsort((order, -flat[order]))].tolist():
        row, token = divmod(place, gains.shape[1])
        before = live[row].hypothesis
        ids = (*before.ids, token)
        longer = before._replace(ids=ids, log_probability=float(flat[place]))
        if ended(ids):
            ending.append(longer)
        elif len(going) < beams:
            going.append((row, longer))
    return going, ending


def _read(
    model: Any, live: Sequence[_Beam], chosen: Sequence[tuple[int, Hypothesis]]
) -> tuple[NDArray[Any], list[_Beam]]:
    """Logits after the last token of each hypothesis, (beams, vocab), and the new beams."""
    ids = np.array([[hypothesis.ids[-1]] for _, hypothesis in chosen])
    logits, states = _steps(model, ids, [live[row].state for row, _ in chosen])
    beams = []
    for (row, hypothesis), state in zip(chosen, states, strict=True):
        seen = live[row].seen.copy()
        seen[hypothesis.ids[-1]] = True
        beams.append(_Beam(hypothesis, state, seen))
    return logits, beams


def _steps(
    model: Any, ids: NDArray[np.int64], states: Sequence[Any]
) -> tuple[NDArray[Any], list[Any]]:
    """Take a step for each text, (texts, 1): logits, (texts, vocab), and the states after it.

    States in NumPy arrays are read as one batch. A framework's states differ in shape and are read
    one by one.
    """
    if all(isinstance(part, np.ndarray) for part in _parts(states[0])):
        joined = [np.concatenate(parts, axis=1) for parts in zip(*map(_parts, states), strict=True)]
        logits, state = model.step(ids, _like(states[0], joined))
        each = [
            _like(state, [part[:, n : n + 1] for part in _parts(state)]) for n in range(len(ids))
        ]
        return logits[:, -1], each
    results = [model.step(row[None], state) for row, state in zip(ids, states, strict=True)]
    return np.concatenate([logits[:, -1] for logits, _ in results]), [each for _, each in results]


def _parts(state: Any) -> Sequence[Any]:
    return state if isinstance(state, tuple) else (state,)


def _like(state: Any, parts: Sequence[Any]) -> Any:
    return tuple(parts) if isinstance(state, tuple) else parts[0]
