"""Precision of matrix products; everything else is computed in single precision."""

import logging

from elman.core.errors import ElmanError, require_one_of
from elman.core.valid_values import PRECISIONS

BF16_FRAMEWORKS = ("numba", "numpy")
SINGLE = PRECISIONS[0]

log = logging.getLogger("elman")


def check_precision(precision: str, framework: str = BF16_FRAMEWORKS[0]) -> None:
    """Raise an ElmanError unless products of a framework can have this precision."""
    require_one_of(PRECISIONS, precision=precision)
    if precision != SINGLE and framework not in BF16_FRAMEWORKS:
        raise ElmanError(
            f"only {' and '.join(BF16_FRAMEWORKS)} multiply in {precision}, got {framework}: use "
            f"one of them, or the precision {SINGLE}"
        )


def fastest_precision() -> str:
    """Precision of products that is the fastest: single, unless a framework has its own answer."""
    return SINGLE


def precision_in(framework: str, recorded: str) -> str:
    """Precision of a framework's products with a model of this one; a notice if it differs."""
    if recorded == SINGLE or framework in BF16_FRAMEWORKS:
        return recorded
    log.info(
        "%s multiplies in single precision what was trained in %s: numbers differ a little",
        *(framework, recorded),
    )
    return SINGLE
