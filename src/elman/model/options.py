"""Options of a model besides its architecture: how it is trained and multiplied, not what it is.

An option is declared here, and read where it takes effect: by the layers, the loss or the products.
The options of the command line, their checks, and the arguments of every `build` are derived.
"""

import logging
from dataclasses import dataclass

from elman.errors import ElmanError, require_one_of
from elman.setting_fields import SHARE, check, choice, real
from elman.terms import Option
from elman.valid_values import PRECISIONS

BF16_FRAMEWORKS = ("numba", "numpy")
SINGLE = PRECISIONS[0]

log = logging.getLogger("elman")


def check_precision(precision: str, framework: str = BF16_FRAMEWORKS[0]) -> None:
    """Raise an ElmanError unless a framework supports this precision of products."""
    require_one_of(PRECISIONS, precision=precision)
    if precision != SINGLE and framework not in BF16_FRAMEWORKS:
        raise ElmanError(
            f"{precision} requires {' or '.join(BF16_FRAMEWORKS)}, got {framework}: use one of "
            "them, or ",
            Option("precision", SINGLE),
        )


def fastest_precision() -> str:
    """Fastest precision of products: single, unless a framework defines its own."""
    return SINGLE


def precision_in(framework: str, recorded: str) -> str:
    """Precision of a framework's products with a recorded model; a notice if it differs."""
    if recorded == SINGLE or framework in BF16_FRAMEWORKS:
        return recorded
    log.info(
        "%s uses single precision for a model trained in %s: numbers differ slightly",
        *(framework, recorded),
    )
    return SINGLE


@dataclass(frozen=True)
class ModelOptions:
    """Options of a model. An ElmanError names an invalid value."""

    dropout: float = real(0.0, "Share of outputs dropped between layers.", SHARE)
    input_dropout: float = real(
        0.0,
        "Share of embedding features dropped.",
        SHARE,
        pairs=None,
    )
    output_dropout: float = real(
        0.0,
        "Share of the last outputs dropped.",
        SHARE,
        pairs=None,
    )
    precision: str = choice(
        "single",
        "{choices} (only numba, numpy).",
        PRECISIONS,
        pairs="single",
    )

    def __post_init__(self) -> None:
        check(self)

    @property
    def dropped(self) -> dict[str, float]:
        """Arguments of recurrent layers: the dropout shares."""
        return {
            "dropout": self.dropout,
            "input_dropout": self.input_dropout,
            "output_dropout": self.output_dropout,
        }
