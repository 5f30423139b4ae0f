"""Options of texts that a model writes: their defaults, bounds and help, declared once.

The sampler, the options of `elman generate` and the fields of the server's requests follow from
them. No arrays are loaded here, so that the command line shows its help at once.
"""

from dataclasses import dataclass

from elman.core.errors import ElmanError, in_words, is_finite_number
from elman.core.setting_fields import check, flag, number, texts, whole
from elman.core.valid_values import MAX_SEED

MAX_PENALTY = 100.0
MAX_TOKENS = 10**7  # a text of these takes under a gigabyte
MAX_SAMPLES, MAX_BEAMS = 10**6, 256
TEMPERATURE = 0.8  # if none is given


@dataclass(frozen=True)
class SamplerOptions:
    """Options of a sampler, as `Sampler` explains them; None for those that do nothing."""

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

    - `tokens`: number of tokens to add at most.
    - `n`: number of texts for each prefix; with `beams` the best ones.
    - `stop`: texts of which the first to come ends the text, and is left out; or one text.
    - `beams`: texts that a beam search keeps; None to sample.
    - `temperature`, `top_k`, `top_p`, `min_p`: options of a Sampler, for samples only.
    - `repetition_penalty`: option of a Sampler.
    - `allow_unknown`: allow the unknown symbol.
    - `seed`: seed of the first text; the next ones add 1 each.
    """

    tokens: int = whole(200, "Most tokens to add.", at_least=0, at_most=MAX_TOKENS)
    n: int = whole(1, "Texts for each prefix.", at_least=1, at_most=MAX_SAMPLES)
    stop: tuple[str, ...] = texts("End a text before this one; may be repeated.")
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
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        elif isinstance(self.stop, list):
            object.__setattr__(self, "stop", tuple(self.stop))
        super().__post_init__()
        if self.beams is not None:
            self._check_beams(self.beams)

    def _check_beams(self, beams: int) -> None:
        if self.n > beams:
            raise ElmanError(
                f"a beam search finds as many texts as it has beams, got n {self.n} and {beams} "
                "beams: use more beams"
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
                    f"a beam search draws nothing, got {in_words(name)} {value} with beams: leave "
                    "one of them out"
                )
