"""Quality of a model: cross-entropy by token, perplexity, bits per character and per byte."""

import math
from dataclasses import dataclass


def perplexity(loss: float) -> float:
    """exp(loss), for a loss in nats per token; infinite where that overflows."""
    return math.inf if loss > 709 else math.exp(loss)  # exp(710) exceeds a double


def bits_per(loss: float, tokens: int, number: int) -> float:
    """Bits for each of `number` characters or bytes, which have so many tokens.

    `loss` is in nats per token. Infinite if there are no characters.
    """
    return loss * tokens / math.log(2) / number if number else math.inf


class Mean:
    """Running mean, weighted by number of tokens."""

    def __init__(self) -> None:
        self.total = 0.0
        self.weight = 0

    def add(self, value: float, weight: int) -> None:
        """Add `value`, a mean over `weight` tokens."""
        self.total += value * weight
        self.weight += weight

    @property
    def value(self) -> float:
        """Mean of all values added; NaN if there are none."""
        return self.total / self.weight if self.weight else math.nan


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of a text, over every token but the first, which nothing precedes.

    `nats` is the sum of their losses; `tokens`, `characters` and `utf8_bytes` are the numbers
    predicted; `unknown` is the number of tokens of the whole text that the vocabulary lacks.
    """

    nats: float
    tokens: int
    characters: int
    utf8_bytes: int
    unknown: int

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return perplexity(self.loss)

    @property
    def bits_per_character(self) -> float:
        """Bits per Unicode character of the text; infinite if no character begins in it."""
        return bits_per(self.loss, self.tokens, self.characters)

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of the text in UTF-8."""
        return bits_per(self.loss, self.tokens, self.utf8_bytes)

    def fields(self) -> dict[str, float | int | bool]:
        """All metrics by name, for JSON; `lower_bound` is about the bits."""
        return {
            "loss": self.loss,
            "perplexity": self.perplexity,
            "bits_per_character": self.bits_per_character,
            "bits_per_byte": self.bits_per_byte,
            "lower_bound": self.unknown > 0,
            "tokens": self.tokens,
            "characters": self.characters,
            "utf8_bytes": self.utf8_bytes,
            "unknown": self.unknown,
            "unknown_share": self.unknown_share,
        }

    @property
    def unknown_share(self) -> float:
        """Share of unknown tokens in the whole text, from 0 to 1.

        If it is above 0, the bits are a lower bound: spelling unknown tokens costs nothing.
        """
        return self.unknown / (self.tokens + 1)
