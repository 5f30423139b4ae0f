"""Quality of a model: cross-entropy by token, perplexity, bits per character and per byte."""

import math
from dataclasses import dataclass


def perplexity(loss: float) -> float:
    """exp(loss), for a loss in nats per token; infinite where that overflows."""
    return math.inf if loss > 709 else math.exp(loss)  # exp(710) exceeds a double


class Mean:
    """A running mean in which every batch counts by its number of tokens."""

    def __init__(self) -> None:
        self.total = 0.0
        self.weight = 0

    def add(self, value: float, weight: int) -> None:
        """Count `value`, the mean over `weight` tokens."""
        self.total += value * weight
        self.weight += weight

    @property
    def value(self) -> float:
        """The mean of everything added, or NaN where nothing was."""
        return self.total / self.weight if self.weight else math.nan


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of a text, over every token but the first, which nothing precedes.

    `nats` is the sum of their losses; `tokens`, `characters` and `utf8_bytes` are how many were
    predicted; `unknown` counts the tokens of the whole text that the vocabulary lacks.
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
        """Bits per Unicode character of the text."""
        return self.nats / math.log(2) / self.characters

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of the text in UTF-8."""
        return self.nats / math.log(2) / self.utf8_bytes
