"""Framework modules, found by name and imported on demand."""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from elman.errors import ElmanError, alternatives, require_one_of, requirements
from elman.terms import Option
from elman.valid_values import DIFFERENTIATING, FRAMEWORKS, TRANSLATING

if TYPE_CHECKING:
    from elman.model.weights import Weights

SINGLE_BYTES = 4  # of a number in single precision


def check_framework(name: str) -> None:
    """Raise an ElmanError unless this is the name of a framework."""
    require_one_of(FRAMEWORKS, framework=name)


def framework_module(name: str) -> Any:
    """Import the module `elman.NAME`; an ElmanError explains how to install its dependencies."""
    check_framework(name)
    try:
        return import_module(f"elman.{name}")
    except ElmanError:
        raise
    except Exception as error:  # incompatible versions raise anything
        raise ElmanError(f"{name} is installed, but does not load: {error}") from error


def installed_frameworks(names: tuple[str, ...] = FRAMEWORKS) -> list[str]:
    """Installed frameworks among some names, in order."""
    return [name for name in names if find_spec(name)]


def default_for_pairs() -> str:
    """The first installed framework with an encoder-decoder; an ElmanError if there is none."""
    found = installed_frameworks(TRANSLATING)
    if not found:
        raise ElmanError(
            f"the engine has no encoder-decoder for pairs, and {alternatives(TRANSLATING)} is not "
            f"installed: pip install {requirements(TRANSLATING[0]) or TRANSLATING[0]}"
        )
    return found[0]


def check_has_pairs(framework: str) -> None:
    """Raise an ElmanError unless a framework has an encoder-decoder."""
    check_framework(framework)
    if framework not in TRANSLATING:
        raise ElmanError(
            f"{framework} has no encoder-decoder for pairs: choose ",
            Option("framework", TRANSLATING[0]),
            f", {alternatives(TRANSLATING[1:])}",
        )


def with_gpu() -> str | None:
    """Name of the first installed framework that can use a GPU here; None if none can."""
    for name in installed_frameworks():
        if name in DIFFERENTIATING and _can_use_gpu(name):
            return name
    return None


def _can_use_gpu(name: str) -> bool:
    try:
        return len(framework_module(name).devices()) > 1
    except ElmanError:  # it is installed, but does not load
        return False


def count_gpus(device: str, framework: Any) -> int:
    """Number of GPUs to train on, 0 or 1; an ElmanError if a GPU is requested and unavailable."""
    if device == "gpu" and len(framework.devices()) == 1:
        other = with_gpu()
        cure = (", or choose ", Option("framework", other)) if other else ()
        name = framework.__name__.removeprefix("elman.")
        rule = f"{name} can use no GPU here: leave "
        raise ElmanError(rule, Option("device"), " out", *cure)
    return int(device != "cpu")


def fastest_framework(cell: str, values: "Weights") -> str:
    """numba if its engine supports a model with this cell and these weights, otherwise numpy.

    The engine computes in single precision, with compiled code, and supports built-in cells.
    """
    import logging  # importing it doubles the import time of elman

    from elman.model.cells import CELLS

    if cell not in CELLS:
        logging.getLogger("elman").info("the cell %s has no kernels in numba: using numpy", cell)
        return "numpy"
    if any(value.dtype.itemsize > SINGLE_BYTES for value in values.values()):
        return "numpy"
    try:
        framework_module("numba")
    except ElmanError:  # Numba is disabled or incompatible
        return "numpy"
    return "numba"


def module_of(model: Any) -> Any:
    """Module of a model's framework."""
    for name in FRAMEWORKS:
        module = sys.modules.get(f"elman.{name}")
        if module and isinstance(model, module.Module):
            return module
    raise ElmanError(f"save takes a model of one of {', '.join(FRAMEWORKS)}, got {type(model)}")
