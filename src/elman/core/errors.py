"""One root exception: what a user can get wrong is an ElmanError whose message has the cure."""

from numbers import Integral


class ElmanError(Exception):
    """The input breaks a rule; the message states the rule, what was received and the cure."""


class DivergedError(ElmanError):
    """The training loss is no longer a finite number."""


class InterruptedTrainingError(ElmanError):
    """A training was asked to end; the message says how to go on with it."""


def not_installed(framework: str, error: ModuleNotFoundError) -> ElmanError:
    """The error for a framework that cannot be imported, since it or what it needs is not there."""
    return ElmanError(
        f"{error.name} is not installed: pip install 'elman[{framework}]', or choose another "
        "framework"
    )


def require_at_least(least: int, **values: int) -> None:
    """Raise an ElmanError for the first of `values` that is no whole number, or below `least`."""
    for name, value in values.items():
        if not isinstance(value, Integral):
            raise ElmanError(f"{name} must be a whole number, got {value!r}")
        if value < least:
            raise ElmanError(f"{name} must be {least} or more, got {value}")
