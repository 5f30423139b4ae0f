"""Prediction, generation and scoring, over any model with a method `step`."""

import math
import re
import time
from collections.abc import Callable, Iterator, Sequence, Sized
from itertools import chain, islice
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from elman.core.errors import ElmanError, require_at_least
from elman.core.files.mapped import check_whole, drop_pages
from elman.core.model.sampling import Sampler
from elman.core.text.codec import Codec
from elman.core.text.vocab import Vocab, tokens_of

CHUNK = 1024  # steps scored at a time; it bounds memory and changes no result
GREEDY_TOKENS = 32  # tokens that one call of `greedy_decode` returns
GENERATED_TOKENS = 1024  # of each text that a call of a compiled model generates
CHUNK_LENGTHS = (CHUNK, 32, 1)  # in steps; frameworks compile `step` for these alone


@runtime_checkable
class Steps(Protocol):
    """Model that reads ids and carries a state from call to call."""

    def step(self, ids: NDArray[np.int64], state: Any) -> tuple[NDArray[Any], Any]:
        """Read ids, (batch, steps), from a state (None at the start).

        Returns the logits, (batch, steps, vocab), as a NumPy array, and the final state.
        """


@runtime_checkable
class Greedy(Protocol):
    """Model that takes the likeliest token several times in one call."""

    def greedy_decode(self, token: int, state: Any, mask: NDArray[Any]) -> tuple[list[int], Any]:
        """GREEDY_TOKENS ids that follow a token, one after the other, and the final state."""


class CompiledModel:
    """Model that reads and writes texts as a whole, as the engine does by its kernels."""

    def score_ids(self, ids: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
        """Yield the loss in nats of each id but the first, given all before it, in chunks."""
        raise NotImplementedError

    def row_losses(self, ids: NDArray[Any]) -> NDArray[Any]:
        """Losses in nats, (rows, steps), of each id but the first of rows, (rows, steps + 1)."""
        raise NotImplementedError

    def generate_ids(
        self,
        prefixes: Sequence[Sequence[int]],
        tokens: int,
        sampler: Sampler,
        seed: int,
        at_once: int = GENERATED_TOKENS,
    ) -> Iterator[NDArray[Any]]:
        """Yield the ids that follow each prefix, (texts, some), until each text has `tokens`.

        Text n is drawn with the seed `seed` + n; `at_once` tokens of each come together.
        """
        raise NotImplementedError


def integers(ids: Any, dimensions: int) -> NDArray[Any]:
    """Array of ids, of any integer type; an ElmanError for anything else."""
    try:
        given = np.asarray(ids)
    except ValueError as error:  # rows of different lengths
        raise ElmanError(f"ids are integers in {dimensions} dimensions: {error}") from error
    if given.ndim != dimensions or given.dtype.kind not in "iu":
        raise ElmanError(
            f"ids are integers in {dimensions} dimensions, got {given.dtype} in {given.ndim}"
        )
    return given


def check_ids(ids: NDArray[Any], vocab: int) -> None:
    """Raise an ElmanError unless each id is from 0 to below `vocab`."""
    wide = ids.astype(np.int64, copy=False).view(np.uint64)  # an id below 0 is a large number
    if ids.size and np.max(wide) >= vocab:
        raise ElmanError(f"ids must be from 0 to {vocab - 1}, got {np.min(ids)} to {np.max(ids)}")


def ids_of(ids: Any, vocab: int) -> NDArray[Any]:
    """Ids as an array (batch, steps); an ElmanError unless each is from 0 to below `vocab`."""
    given = integers(ids, 2)
    check_ids(given, vocab)
    return given


def generate(
    model: Steps, prefix: Sequence[int], tokens: int, sampler: Sampler, seed: int = 0
) -> Iterator[int]:
    """Yield the ids of `tokens` tokens that follow the ids `prefix`."""
    check_request(model, [prefix], tokens, sampler, seed)
    if isinstance(model, CompiledModel):
        chunks = model.generate_ids([prefix], tokens, sampler, seed)
        return chain.from_iterable(chunk[0].tolist() for chunk in chunks)
    plain = sampler.temperature == 0 and sampler.repetition_penalty == 1
    if plain and isinstance(model, Greedy):
        return islice(_greedy(model, prefix, sampler), tokens)
    return islice(_one_by_one(model, prefix, sampler, seed), tokens)


def generate_all(
    model: Steps, prefixes: Sequence[Sequence[int]], tokens: int, sampler: Sampler, seed: int = 0
) -> list[NDArray[np.int64]]:
    """Ids of `tokens` tokens that follow each of the prefixes, (tokens,) each.

    Text n is drawn with `seed` + n, as by `generate`.
    """
    check_request(model, prefixes, tokens, sampler, seed)
    if isinstance(model, CompiledModel) and tokens and len(prefixes):
        return list(np.concatenate([*model.generate_ids(prefixes, tokens, sampler, seed)], axis=1))
    return [
        np.fromiter(generate(model, prefix, tokens, sampler, seed + n), np.int64)
        for n, prefix in enumerate(prefixes)
    ]


def check_request(model: Any, prefixes: Any, tokens: int, sampler: Any, seed: int) -> None:
    """Raise an ElmanError unless a model can continue lists of ids in this way."""
    check_model(model)
    require_at_least(0, tokens=tokens, seed=seed)
    if not isinstance(sampler, Sampler):
        raise ElmanError(f"the sampler is a Sampler, got {sampler!r}")
    if not isinstance(prefixes, Sequence | np.ndarray):
        raise ElmanError(f"prefixes are lists of ids, got {prefixes!r}")
    for prefix in prefixes:
        if isinstance(prefix, Sized) and not len(prefix):
            raise ElmanError("the prefix is empty: give at least one symbol to begin with")
        integers(prefix, 1)


def check_model(model: Any) -> None:
    """Raise an ElmanError unless a model has `step`, or is compiled."""
    if not isinstance(model, Steps | CompiledModel):
        raise ElmanError(f"a language model has a method step(ids, state), got {model!r}")


def _one_by_one(model: Steps, prefix: Sequence[int], sampler: Sampler, seed: int) -> Iterator[int]:
    rng = np.random.default_rng(seed)
    ids, state, seen = list(prefix), None, None
    while True:
        logits, state = model.step(np.asarray([ids]), state)
        check_finite(logits[0, -1])
        if seen is None:
            seen = np.zeros(logits.shape[-1], np.bool_)
        seen[ids] = True
        ids = [sampler(logits[0, -1], rng, seen)]
        yield ids[0]


def _greedy(model: Any, prefix: Sequence[int], sampler: Sampler) -> Iterator[int]:
    logits, state = model.step(np.asarray([prefix]), None)
    check_finite(logits[0, -1])
    mask = sampler.mask(logits.shape[-1])
    ids = [int((logits[0, -1] + mask).argmax())]
    while True:
        for index in ids:
            check_drawn(index)
            yield index
        ids, state = model.greedy_decode(ids[-1], state, mask)


def check_finite(values: Any) -> None:
    """Raise an ElmanError unless all logits, or losses, are finite numbers of single precision."""
    with np.errstate(over="ignore"):
        single = np.asarray(values, np.float32)
    _check(bool(np.isfinite(single).all()))


def check_drawn(ids: Any) -> None:
    """Raise an ElmanError if an id is -1, drawn from logits that are not all finite."""
    _check(bool(np.min(ids) >= 0))


def _check(are_finite: bool) -> None:
    if not are_finite:
        raise ElmanError("the logits contain NaN or infinity: the weights of this model are broken")


def score(model: Steps, ids: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    """Yield the losses, in nats, of every id but the first, given all before it, in chunks.

    Raises an ElmanError if a loss is NaN or more than single precision holds.
    """
    check_model(model)
    ids = integers(ids, 1)
    check_whole(ids)
    for losses in model.score_ids(ids) if isinstance(model, CompiledModel) else _score(model, ids):
        check_finite(losses)
        yield losses
        drop_pages(ids)
        check_whole(ids)


def _score(model: Steps, ids: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    state = None
    for start in range(0, len(ids) - 1, CHUNK):
        chunk = ids[start : start + 1 + CHUNK].astype(np.int64)
        logits, state = model.step(chunk[None, :-1], state)
        check_ids(chunk, logits.shape[-1])  # not every framework asks
        yield cross_entropy(logits[0].astype(np.float64), chunk[1:])


def in_chunks(
    step: Callable[[NDArray[np.int64], Any], tuple[NDArray[Any], Any]],
    ids: NDArray[np.int64],
    state: Any,
) -> tuple[NDArray[Any], Any]:
    """Call `step` on chunks of the ids, of CHUNK_LENGTHS only.

    A framework that compiles `step` for each shape so compiles it at most three times.
    """
    logits, start = [], 0
    while start < ids.shape[1]:
        length = next(most for most in CHUNK_LENGTHS if most <= ids.shape[1] - start)
        chunk, state = step(ids[:, start : start + length], state)
        logits.append(chunk)
        start += length
    return np.concatenate(logits, axis=1) if len(logits) > 1 else logits[0], state


def cross_entropy(logits: NDArray[Any], targets: NDArray[np.int64]) -> NDArray[Any]:
    """Loss in nats of each target, (tokens,), under logits (tokens, vocab).

    It is NaN or infinite where the logits are.
    """
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        shifted = logits - logits.max(axis=-1, keepdims=True)
        picked = shifted[np.arange(len(targets)), targets]
        losses: NDArray[Any] = np.log(np.exp(shifted).sum(axis=-1)) - picked
    return losses


def log_probabilities(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Log-probability in nats of each token, (..., vocab), under logits of the same shape."""
    exact = logits.astype(np.float64)
    shifted = exact - exact.max(axis=-1, keepdims=True)
    found: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


def total_nll(
    model: Steps,
    ids: NDArray[Any],
    seconds: float = math.inf,
    advance: Callable[[int], None] = lambda tokens: None,
) -> tuple[float, int]:
    """Negative log-likelihood, in nats, of every id but the first, given all before it.

    Returns the sum and the number of ids it is over; after `seconds` no more are added.
    `advance` is called with the number so far.
    """
    total, tokens, until = 0.0, 0, time.perf_counter() + seconds
    for losses in score(model, ids):
        total += float(losses.sum())
        tokens += len(losses)
        advance(tokens)
        if time.perf_counter() >= until:
            break
    return total, tokens


def predict(model: Any, prefix: str, num_preds: int, vocab: Vocab | None) -> str:
    """`prefix` and the `num_preds` likeliest tokens after it, one after the other.

    The model has `step`, `codec` and `vocab_size`. Its codec converts the text, or the characters
    of `vocab` if it has no codec. As in the book, a character that a given `vocab` lacks is the
    unknown symbol; without one it raises an ElmanError. The unknown symbol is never generated. A
    model of lines ends with its line.
    """
    if not isinstance(prefix, str):
        raise ElmanError(f"the prefix is a text, got {prefix!r}")
    require_at_least(0, num_preds=num_preds)
    used = _codec(model, vocab)
    as_in_the_book = vocab is not None and used.tokenizer.name == "char" and not used.lines
    ids = used.vocab[list(prefix)] if as_in_the_book else used.prefix_ids(prefix)
    sampler = Sampler(temperature=0, excluded=(used.vocab.unk,))
    all_ids = [*ids, *generate(model, ids, num_preds, sampler)]
    return used.line(all_ids) if used.lines else used.text(all_ids)


def _codec(model: Any, vocab: Vocab | None) -> Codec:
    """Codec of a model, or of a vocabulary; an ElmanError if they contradict each other."""
    known: Codec | None = model.codec
    if vocab is None:
        if known is None:
            raise ElmanError("a model that was neither trained nor loaded needs a vocab: give one")
        return known
    if tokens_of(vocab) is None:
        raise ElmanError(f"vocab is a Vocab, got {vocab!r}")
    if len(vocab) != model.vocab_size:
        raise ElmanError(
            f"the vocab has {len(vocab)} tokens, and the model {model.vocab_size}: give that of "
            "its training data"
        )
    if known is not None:
        if known.vocab.idx_to_token != vocab.idx_to_token:
            raise ElmanError(
                "the vocab is not the one that the model was trained with: leave it out, or give "
                "model.codec.vocab"
            )
        return known
    tokens = (token for token in vocab.idx_to_token if not re.fullmatch("<.+>", token))
    if word := next((token for token in tokens if len(token) > 1), None):
        raise ElmanError(
            f"without a codec predict reads characters, and the vocab has {word!r}: train the "
            "model on a TextFile, which has one"
        )
    return Codec(vocab, "char", clean=False)
