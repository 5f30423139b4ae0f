"""Sampling of the next token from logits: repetition penalty, temperature, top-k, top-p, min-p."""

from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from elman.errors import ElmanError, require_at_least
from elman.inference.writing_options import TEMPERATURE, SamplerOptions
from elman.setting_fields import redefined, values_of


def _check_ids(name: str, ids: Any) -> None:
    if not (isinstance(ids, tuple) and all(isinstance(token, Integral) for token in ids)):
        raise ElmanError(f"{name} must be a tuple of ids, got {ids!r}")
    for token in ids:
        require_at_least(0, **{name: token})


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Probabilities along the last axis."""
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: NDArray[Any] = weights / weights.sum(axis=-1, keepdims=True)
    return probabilities


@dataclass(frozen=True)
class Sampler(SamplerOptions):
    """Choice of a token: the likeliest at temperature 0, otherwise a random one of those kept.

    `top_k` keeps the k likeliest tokens, `top_p` the fewest whose probabilities reach p (Holtzman
    et al. 2020), `min_p` those at least min_p times as likely as the likeliest (Nguyen et al.
    2024). They apply in this order, after the temperature; each applies to the rescaled
    probabilities that the previous one left. The ids in `excluded` are never drawn.

    `repetition_penalty` divides the logits of tokens that are already in the text, including its
    prefix, or multiplies them if they are negative: the rule of CTRL (Keskar et al. 2019), as in
    Hugging Face's `RepetitionPenaltyLogitsProcessor`. It applies before the temperature.
    """

    temperature: float = redefined(SamplerOptions, "temperature", 1.0)
    excluded: tuple[int, ...] = field(default=(), metadata={"check": _check_ids})

    @classmethod
    def of(cls, options: SamplerOptions) -> Self:
        """Make the sampler for these options, with the default temperature if they have none."""
        values = values_of(options, SamplerOptions)
        if options.temperature is None:
            values["temperature"] = TEMPERATURE
        return cls(**values)

    def __call__(
        self,
        logits: NDArray[Any],
        rng: np.random.Generator,
        seen: NDArray[np.bool_] | None = None,
    ) -> int:
        """Id drawn from `logits`, (vocab,); `seen`, (vocab,), is true for tokens of the text."""
        if self.temperature == 0:
            return int(np.argmax(self.allowed(logits, seen)))
        probabilities = self.probabilities(logits, seen)
        return int(rng.choice(len(probabilities), p=probabilities))

    def allowed(self, logits: NDArray[Any], seen: NDArray[np.bool_] | None = None) -> NDArray[Any]:
        """Logits, (..., vocab), with the penalty for tokens in `seen`, and with the mask."""
        masked: NDArray[Any] = logits + self.mask(logits.shape[-1])
        if seen is None or self.repetition_penalty == 1:
            return masked
        penalty = float(self.repetition_penalty)  # a Python float keeps single precision
        penalized = np.where(masked < 0, masked * penalty, masked / penalty)
        found: NDArray[Any] = np.where(seen, penalized, masked)
        return found

    def probabilities(
        self, logits: NDArray[Any], seen: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """Probability of each token, (vocab,), at a temperature above 0."""
        logits = self.allowed(logits, seen)
        order = np.argsort(-logits, kind="stable")  # among equals, lower ids first, as in argmax
        with np.errstate(over="ignore"):  # minus infinity intentionally gets probability 0
            ranked = (logits[order].astype(np.float64) - logits.max()) / self.temperature
        kept: NDArray[np.float64] = softmax(ranked)  # from the likeliest token down
        if self.top_k is not None:
            kept = _only(kept, np.arange(len(kept)) < self.top_k)
        if self.top_p is not None:
            kept = _only(kept, np.cumsum(kept) - kept < self.top_p)
        if self.min_p is not None:
            kept = _only(kept, kept >= self.min_p * kept[0])
        probabilities = np.empty_like(kept)
        probabilities[order] = kept
        return probabilities

    def mask(self, vocab: int) -> NDArray[np.float32]:
        """Values to add to logits, (vocab,): minus infinity for excluded ids, 0 elsewhere.

        Raises an ElmanError unless the ids are in the vocabulary and leave a token to draw.
        """
        excluded = set(self.excluded)
        if not all(token < vocab for token in excluded):
            raise ElmanError(f"excluded ids must be from 0 to {vocab - 1}, got {self.excluded}")
        if len(excluded) == vocab:
            raise ElmanError(
                f"one token must be allowed, got {vocab} of {vocab} excluded: allow one or more"
            )
        mask = np.zeros(vocab, np.float32)
        mask[list(excluded)] = -np.inf
        return mask


def _only(probabilities: NDArray[np.float64], keep: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Keep `probabilities` where `keep` is true, rescaled to sum to 1; zero elsewhere."""
    kept: NDArray[np.float64] = np.where(keep, probabilities, 0)
    kept /= kept.sum()
    return kept
