"""Signatures and docstrings of functions whose keywords are the fields of a settings dataclass."""

import inspect
import textwrap
from collections.abc import Callable, Collection
from dataclasses import Field
from functools import wraps
from typing import Any, ParamSpec, TypeVar, get_type_hints

from elman.errors import require_keywords
from elman.setting_fields import ordered

P = ParamSpec("P")
R = TypeVar("R")


def with_options(
    kind: type, types: type | None = None, chosen: Collection[str] = ()
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Show the fields of `kind` as keywords of a function that takes `**options`, and check them.

    Editors read the types from `types`, a `TypedDict` of some of the fields; help() and notebooks
    read this signature and docstring. The default of a `chosen` field is None: it depends on the
    text.
    """
    hints = get_type_hints(types or kind)
    shown = [each for each in ordered(kind) if each.name in hints]

    def show(function: Callable[P, R]) -> Callable[P, R]:
        *own, _ = inspect.signature(function).parameters.values()
        parameters = {each.name: each for each in own} | {
            each.name: inspect.Parameter(
                each.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None if each.name in chosen else each.default,
                annotation=hints[each.name],
            )
            for each in shown
        }

        @wraps(function)
        def checked(*arguments: P.args, **keywords: P.kwargs) -> R:
            require_keywords(function.__name__, keywords, [*parameters])
            return function(*arguments, **keywords)

        signature = inspect.signature(function).replace(parameters=[*parameters.values()])
        checked.__signature__ = signature  # type: ignore[attr-defined]
        lines = [
            textwrap.fill(
                f"- `{each.name}`: {help_of(each, each.name in chosen)}",
                100,
                subsequent_indent="  ",
                break_on_hyphens=False,
            )
            for each in shown
        ]
        checked.__doc__ = "\n".join([f"{inspect.cleandoc(function.__doc__ or '')}\n", *lines])
        return checked

    return show


def help_of(field: "Field[Any]", is_chosen: bool) -> str:
    """Description of a field and its default; for a chosen field, the book recipe's default."""
    text: str = field.metadata["help"]
    default = field.default
    if "[default: " not in text and (is_chosen or default not in (None, False)):
        text += f" [default: {default!r}]"
    if is_chosen:
        text = text.replace("[default: ", "[default: chosen for the text; the book's is ")
    return text
