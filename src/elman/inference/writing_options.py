"""Options of texts and of targets that a model writes: defaults, bounds and help, declared once.

The sampler, the options of `elman generate` and `translate` and the fields of the server's requests
are derived from them. This module loads no arrays, so that the command line shows its help at once.
"""

from dataclasses import dataclass

from elman.errors import ElmanError, in_words, is_finite_number
from elman.setting_fields import check, flag, make_tuple, number, texts, whole
from elman.valid_values import MAX_SEED

MAX_PENALTY = 100.0
MAX_TOKENS = 10**7  # a text with this many takes less than a gigabyte
MAX_SAMPLES, MAX_BEAMS = 10**6, 256
TEMPERATURE = 0.8  # default


@dataclass(frozen=True)
class SamplerOptions:
    """Options of a sampler, explained in `Sampler`. None means that an option has no effect."""

    temperature: float | None = number(
        None,
        f"Temperature; 0 takes the likeliest token. [default: {TEMPERATURE}]",
        "0 or a finite number above",
        lambda value: is_finite_number(value) and value >= 0,
    )
    top_k: int | None = whole(None, "Sample from the N likeliest tokens.", at_least=1)
    top_p: float | None = number(
        None,
        "Sample from the fewest tokens with probability X.",
        "above 0 and at most 1",
        lambda share: 0 < share <= 1,
    )
    min_p: float | None = number(
        None,
        "Exclude tokens below X times the top probability.",
        "above 0 and at most 1",
        lambda share: 0 < share <= 1,
    )
    repetition_penalty: float = number(
        1.0,
        "Penalize tokens already used; 1 is neutral.",
        f"from {1 / MAX_PENALTY} to {MAX_PENALTY}",
        lambda value: 1 / MAX_PENALTY <= value <= MAX_PENALTY,
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, kw_only=True)
class Writing(SamplerOptions):
    """A text to write after a prefix.

    - `tokens`: maximum number of tokens to add.
    - `n`: number of texts for each prefix; with `beams`, the best ones.
    - `stop`: texts that end the text when one of them occurs (it is omitted); or one text.
    - `beams`: beam width of a beam search; None to sample.
    - `temperature`, `top_k`, `top_p`, `min_p`: options of a Sampler, only for samples.
    - `repetition_penalty`: option of a Sampler.
    - `allow_unknown`: allow the unknown symbol.
    - `seed`: seed of the first text; each further text adds 1.
    """

    tokens: int = whole(200, "Most tokens to add.", at_least=0, at_most=MAX_TOKENS)
    n: int = whole(1, "Texts for each prefix.", at_least=1, at_most=MAX_SAMPLES)
    stop: tuple[str, ...] = texts("End the text before this string; may be repeated.")
    beams: int | None = whole(
        None,
        "Beam search of this width; disables sampling.",
        at_least=1,
        at_most=MAX_BEAMS,
    )
    allow_unknown: bool = flag("Allow <unk> in the text.")
    seed: int = whole(
        0,
        "Seed of the first text; the next add 1 each.",
        at_least=0,
        at_most=MAX_SEED,
    )

    def __post_init__(self) -> None:
        make_tuple(self, "stop")
        super().__post_init__()
        if self.beams is not None:
            self._check_beams(self.beams)

    def _check_beams(self, beams: int) -> None:
        if self.n > beams:
            raise ElmanError(
                f"n must not exceed beams, got n {self.n} and {beams} beams: use more beams"
            )
        drawn = {
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
        }
        for name, value in drawn.items():
            if value is not None:
                raise ElmanError(
                    f"{in_words(name)} conflicts with beams, got {value}: leave one of them out"
                )


MAX_LENGTH_PENALTY = 10


@dataclass(frozen=True, kw_only=True)
class Translating:
    """Targets to write for a source.

    - `beams`: beam width; with 1 each token is the likeliest.
    - `n`: number of targets for each source, the best ones of the beams.
    - `length_penalty`: targets are compared by their log-probability over their length to this
      power.
    """

    beams: int = whole(1, "Beam width; 1 is greedy.", at_least=1, at_most=MAX_BEAMS)
    n: int = whole(1, "Targets for each text.", at_least=1, at_most=MAX_BEAMS)
    length_penalty: float = number(
        1.0,
        "Power of the length that divides log-probabilities.",
        f"a number from 0 to {MAX_LENGTH_PENALTY}",
        lambda power: 0 <= power <= MAX_LENGTH_PENALTY,
    )

    def __post_init__(self) -> None:
        check(self)
        if self.n > self.beams:
            raise ElmanError(
                f"n must not exceed beams, got n {self.n} and {self.beams} beams: use more beams"
            )
