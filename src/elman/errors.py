"""Exceptions and argument checks.

ElmanError is the root of all exceptions; its messages state the rule, the value received and the
cure. Options and commands in them are terms (`elman.terms`). `exit_code` is the exit code of the
command line.
"""

import math
import re
import reprlib
from collections.abc import Callable, Collection, Sequence
from numbers import Integral
from typing import Any, SupportsFloat
from unicodedata import category

from elman.terms import Message

MAX_MESSAGE_CHARS = 1000
CLOSE = 0.7  # ratio of difflib from which a word may be a misspelled option
TAIL_CHARS = 300  # of a shortened message; its end contains the cure
SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = 40  # characters of a value


class ElmanError(Message, Exception):
    """Invalid input; the message states the rule, the value received and the cure."""

    exit_code = 2

    def _render_traceback_(self) -> list[str]:
        """Traceback in IPython: the message, without the frames of the package."""
        return [f"{type(self).__name__}: {self}"]


class MachineError(ElmanError):
    """Failure of the machine on valid input: a disk, a permission, the network."""

    exit_code = 1


class DivergedError(ElmanError):
    """The loss became NaN or infinity."""

    exit_code = 1


class InterruptedWorkError(ElmanError):
    """The work was interrupted; the message says how to resume it."""

    exit_code = 130


def not_installed(
    extra: str, error: ModuleNotFoundError, cure: str = "choose another framework"
) -> ElmanError:
    """ElmanError for an import that failed because a package is missing.

    - `cure`: an alternative to installing it; "" for none.
    """
    needed = requirements(extra) or error.name
    other = f", or {cure}" if cure else ""
    return ElmanError(f"{error.name} is not installed: pip install {needed}{other}")


def requirements(extra: str) -> str:
    """Requirements of an extra of elman as arguments of pip, quoted for any shell; "" if unknown.

    Unlike the extra itself, they can be installed regardless of where elman came from.
    """
    from importlib import metadata  # slower to import than the rest of the package

    try:
        declared = metadata.requires("elman") or []
    except metadata.PackageNotFoundError:  # run from a source tree
        declared = []
    own = re.compile(rf"extra\s*==\s*['\"]{extra}['\"]")
    return " ".join(f'"{line.partition(";")[0].strip()}"' for line in declared if own.search(line))


def require_at_least(minimum: int, **values: int) -> None:
    """Raise an ElmanError for the first value that is not an integer of at least `minimum`."""
    for name, value in values.items():
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise ElmanError(f"{in_words(name)} must be a whole number, got {shortened(value)}")
        if value < minimum:
            raise ElmanError(f"{in_words(name)} must be {minimum} or more, got {value}")


def require_at_most(maximum: int, **values: int) -> None:
    """Raise an ElmanError for the first value above `maximum`."""
    for name, value in values.items():
        if value > maximum:
            raise ElmanError(f"{in_words(name)} must be {maximum} or less, got {value}")


def require_one_of(options: Sequence[str], **values: Any) -> None:
    """Raise an ElmanError for the first of `values` that is not one of the options."""
    for name, value in values.items():
        if not is_one_of(value, options):
            raise ElmanError(
                f"{in_words(name)} must be {alternatives(options)}, got {shortened(value)}"
                f"{did_you_mean(value, options)}"
            )


def did_you_mean(value: Any, options: Sequence[str]) -> str:
    """End of a message that suggests the option closest to a value; "" if none is close."""
    found = closest(value, options)
    return f": did you mean {found}?" if found else ""


def require_keywords(function: str, given: Collection[str], known: Sequence[str]) -> None:
    """Raise Python's TypeError for the first keyword that a function does not accept."""
    for name in given:
        if name not in known:
            found = closest(name, known)
            hint = f". Did you mean {found!r}?" if found else ""
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}{hint}")


def closest(value: Any, options: Sequence[str]) -> str | None:
    """The option that a value may be a misspelling of; None if none is close."""
    import difflib  # slower to import than the rest of this module

    word = value.lower() if isinstance(value, str) else ""
    return next(iter(difflib.get_close_matches(word, options, n=1, cutoff=CLOSE)), None)


def alternatives(options: Sequence[str]) -> str:
    """Words in a sentence: "a, b or c"."""
    return " or ".join([", ".join(options[:-1]), options[-1]] if options[1:] else options)


def require_number(rule: str, fits: Callable[[float], bool], **values: Any) -> None:
    """Raise an ElmanError, "NAME must be RULE", for the first value that does not fit.

    A value fits if it is a real number and `fits(value)` is true.
    """
    for name, value in values.items():
        if not (is_number(value) and fits(value)):
            raise ElmanError(f"{in_words(name)} must be {rule}, got {shortened(value)}")


def is_number(value: Any) -> bool:
    """True for a real number, infinity and NaN included; false for a bool, string or array."""
    scalar = not isinstance(value, bool) and getattr(value, "shape", ()) == ()
    return scalar and isinstance(value, SupportsFloat)


def shortened(value: Any) -> str:
    """A value in a message: a long string is shortened, other long values are named by type."""
    text = SHORT.repr(value)
    is_whole = "..." not in text and "\n" not in text
    return text if is_whole or isinstance(value, str) else f"a {type(value).__name__}"


def shape_or_value(value: Any) -> Any:
    """Shape of an array, for a message; anything else unchanged."""
    return getattr(value, "shape", value)


def is_finite_number(value: Any) -> bool:
    """True for a finite real number within the range of a float."""
    try:
        return is_number(value) and math.isfinite(value)
    except OverflowError:
        return False


def is_one_of(value: Any, options: Collection[str]) -> bool:
    """True for a string among `options`; false for any value that is not a string."""
    return isinstance(value, str) and value in options


def in_words(name: str) -> str:
    """Name of a parameter in messages: "batch size", for `batch_size=8` and `--batch-size 8`."""
    return name.replace("_", " ")


def counted(number: float, noun: str) -> str:
    """A number of things, in words."""
    return f"{number:.10g} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """A message on one line of bounded length, without control characters."""
    if len(text) > MAX_MESSAGE_CHARS:  # keep the rule at the start and the cure at the end
        text = f"{text[: MAX_MESSAGE_CHARS - TAIL_CHARS]} ... {text[-TAIL_CHARS:]}"
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.splitlines()))


def escaped(text: str) -> str:
    """Escape control characters other than line ends and tabs as in Python's strings."""
    return "".join(
        ascii(c)[1:-1] if category(c) in ("Cc", "Cs") and c not in "\n\t" else c for c in text
    )
