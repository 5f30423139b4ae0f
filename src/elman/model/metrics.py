"""Quality of a model: cross-entropy by token, perplexity, bits per character and per byte."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from elman import html_tables
from elman.data.sizes import Size


def perplexity(loss: float) -> float:
    """exp(loss) for a loss in nats per token; infinite on overflow."""
    return math.inf if loss > 709 else math.exp(loss)  # exp(710) exceeds a double


def in_digits(perplexity: float) -> str:
    """A perplexity with two decimals, or with three digits if it is a million or more."""
    return f"{perplexity:.2f}" if perplexity < 1e6 else f"{perplexity:.3g}"


def bits_per(nats: float, number: int) -> float:
    """Bits for each of `number` characters or bytes; infinite if there are none."""
    return nats / math.log(2) / number if number else math.inf


def bits_per_character(loss: float, size: Size) -> float:
    """Bits per character for a loss in nats per token, on tokens of this size."""
    return Evaluation.of(loss * size.tokens, size).bits_per_character


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
class Adaptation:
    """Speed at which a model adapts to the text that it reads. A rate of 0 means no adaptation.

    - `rate`: size of a step for a gradient of the usual size.
    - `decay`: fraction of the way back to the trained weights, for a usual weight.
    """

    rate: float
    decay: float = 0.0

    def __str__(self) -> str:
        return f"rate {self.rate:g}, decay {self.decay:g}"


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of a text, over every token except the first: nothing precedes it.

    `nats` is the sum of the losses. `dynamic` describes how the model adapted to the text; None if
    it did not. The other fields come from a `Size`.
    """

    nats: float
    tokens: int
    characters: int
    utf8_bytes: int
    unknown: int = 0
    spelling: float = 0.0
    dynamic: Adaptation | None = None

    @classmethod
    def of(cls, nats: float, size: Size) -> "Evaluation":
        """Evaluation of tokens of this size."""
        return cls(nats, **vars(size))

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
        """Bits per Unicode character, including the spelling of unknown tokens.

        Infinite if no character begins in the text.
        """
        return bits_per(self.nats + self.spelling, self.characters)

    @property
    def bits_per_byte(self) -> float:
        """Bits per UTF-8 byte of the text, including the spelling of unknown tokens."""
        return bits_per(self.nats + self.spelling, self.utf8_bytes)

    @property
    def unknown_share(self) -> float:
        """Share of unknown tokens, from 0 to 1."""
        return self.unknown / self.tokens

    def in_lines(self) -> dict[str, str]:
        """Names of the metrics, with their values and units."""
        mark = {} if self.dynamic is None else {"dynamic evaluation": f"{self.dynamic}"}
        return mark | {
            "bits per character": f"{self.bits_per_character:.4f}",
            "bits per byte": f"{self.bits_per_byte:.4f}",
            "loss": f"{self.loss:.4f} nats per token",
            "perplexity": f"{self.perplexity:.3f}",
            "tokens": f"{self.tokens}",
            "unknown tokens": self._unknown(),
        }

    def _unknown(self) -> str:
        """Number of unknown tokens, and the cost of spelling them."""
        if not self.unknown:
            return "0"
        bits = bits_per(self.spelling, self.characters)
        spelling = f"spelling them takes {bits:.4f} of the bits per character"
        return f"{self.unknown}  ({self.unknown_share:.2%}; {spelling})"

    def __repr__(self) -> str:
        bits = f"{self.bits_per_character:.4f} bits per character"
        words = f"perplexity {self.perplexity:.3f}, {bits}, {self.tokens:,} tokens"
        unknown = f", {self.unknown_share:.2%} of them unknown" if self.unknown else ""
        dynamic = "" if self.dynamic is None else f", dynamic evaluation: {self.dynamic}"
        return f"Evaluation(loss {self.loss:.4f}, {words}{unknown}{dynamic})"

    def _repr_html_(self) -> str:
        """The metrics as a table of a notebook."""
        return html_tables.of_facts(self.in_lines().items())

    def fields(self) -> dict[str, Any]:
        """All metrics by name, for JSON; `spelling` is in nats."""
        dynamic = {} if self.dynamic is None else {"dynamic": asdict(self.dynamic)}
        return dynamic | {
            "loss": self.loss,
            "perplexity": self.perplexity,
            "bits_per_character": self.bits_per_character,
            "bits_per_byte": self.bits_per_byte,
            "tokens": self.tokens,
            "characters": self.characters,
            "utf8_bytes": self.utf8_bytes,
            "unknown": self.unknown,
            "spelling": self.spelling,
            "unknown_share": self.unknown_share,
        }
