"""Precision of matrix products. All other operations use single precision."""

import logging

from elman.errors import ElmanError, require_one_of
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
