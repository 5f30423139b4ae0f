"""Options of targets that a model of pairs writes: defaults, bounds and help, declared once.

The options of `elman translate` are derived from them. This module loads no arrays, so that the
command line shows its help at once.
"""

from dataclasses import dataclass

from elman.errors import ElmanError
from elman.inference.writing_options import MAX_BEAMS
from elman.setting_fields import check, number, whole

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
