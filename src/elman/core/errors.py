"""One root exception: what a user can get wrong is an ElmanError whose message has the cure."""

from numbers import Integral


class ElmanError(Exception):
    """The input breaks a rule; the message states the rule, what was received and the cure."""


class DivergedError(ElmanError):
    """The training loss is no longer a finite number."""


def not_installed(framework: str) -> ElmanError:
    """The error for a framework that cannot be imported."""
    return ElmanError(
        f"{framework} is not installed: pip install 'elman[{framework}]', or choose another"
    )


def require_at_least(least: int, **values: int) -> None:
    """Raise an ElmanError for the first of `values` that is no whole number, or below `least`."""
    for name, value in values.items():
        if not isinstance(value, Integral):
            raise ElmanError(f"{name} must be a whole number, got {value!r}")
        if value < least:
            raise ElmanError(f"{name} must be {least} or more, got {value}")
