"""One root exception: what a user can get wrong is an ElmanError whose message has the cure.

Each class has the exit code with which the command line ends.
"""

import math
import re
from collections.abc import Callable, Collection
from numbers import Integral
from typing import Any
from unicodedata import category

MOST_SHOWN, CURE = 1000, 300  # characters of a message, and of its end


class ElmanError(Exception):
    """The input breaks a rule; the message states the rule, what was received and the cure."""

    exit_code = 2


class MachineError(ElmanError):
    """The input is good, and the machine failed: a disk, a permission, a network."""

    exit_code = 1


class DivergedError(ElmanError):
    """The training loss is no longer a finite number."""

    exit_code = 1


class InterruptedWorkError(ElmanError):
    """The work was asked to end; the message says how to go on with it."""

    exit_code = 130


def not_installed(extra: str, error: ModuleNotFoundError, kind: str = "framework") -> ElmanError:
    """The error for what cannot be imported, since it or what it needs is not there."""
    needed = requirements(extra) or error.name
    return ElmanError(
        f"{error.name} is not installed: pip install {needed}, or choose another {kind}"
    )


def requirements(extra: str) -> str:
    """The packages of an extra of elman's, as words for pip in any shell; empty if unknown.

    They can be installed wherever elman came from, as the extra itself could not.
    """
    from importlib import metadata  # which takes longer than all else that the package imports

    try:
        declared = metadata.requires("elman") or []
    except metadata.PackageNotFoundError:  # run from its source
        declared = []
    own = re.compile(rf"extra\s*==\s*['\"]{extra}['\"]")
    return " ".join(f'"{line.partition(";")[0].strip()}"' for line in declared if own.search(line))


def require_at_least(least: int, **values: int) -> None:
    """Raise an ElmanError for the first of `values` that is no whole number, or below `least`."""
    for name, value in values.items():
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise ElmanError(f"{in_words(name)} must be a whole number, got {value!r}")
        if value < least:
            raise ElmanError(f"{in_words(name)} must be {least} or more, got {value}")


def require_at_most(most: int, **values: int) -> None:
    """Raise an ElmanError for the first of `values` that is above `most`."""
    for name, value in values.items():
        if value > most:
            raise ElmanError(f"{in_words(name)} must be {most} or less, got {value}")


def require_number(rule: str, fits: Callable[[float], bool], **values: Any) -> None:
    """Raise an ElmanError for the first of `values` that is no real number, or does not fit."""
    for name, value in values.items():
        if not (is_number(value) and fits(value)):
            raise ElmanError(f"{in_words(name)} must be {rule}, got {value!r}")


def is_number(value: Any) -> bool:
    """True for a real number, be it infinite or nan, and for no truth value, text or array."""
    one = not isinstance(value, bool) and getattr(value, "shape", ()) == ()
    return one and hasattr(value, "__float__")


def is_finite(value: Any) -> bool:
    """True for a real number that a float can hold."""
    try:
        return is_number(value) and math.isfinite(value)
    except OverflowError:
        return False


def is_one_of(value: Any, options: Collection[str]) -> bool:
    """True for a text among these, and for a value of another kind never."""
    return isinstance(value, str) and value in options


def in_words(name: str) -> str:
    """A parameter as both who wrote `batch_size=8` and who wrote `--batch-size 8` know it."""
    return name.replace("_", " ")


def printable(text: str) -> str:
    """A text on one line of bounded length, without what would make a terminal do anything else."""
    if len(text) > MOST_SHOWN:  # what the user gave is cut; the rule before it and the cure stay
        text = f"{text[: MOST_SHOWN - CURE]} ... {text[-CURE:]}"
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.splitlines()))


def escaped(text: str) -> str:
    """A text whose lines and tabs stay, with other control characters as in Python's strings."""
    return "".join(
        ascii(c)[1:-1] if category(c) in ("Cc", "Cs") and c not in "\n\t" else c for c in text
    )
