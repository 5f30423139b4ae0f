"""Signatures and docstrings of functions whose keywords are the fields of a settings dataclass."""

import inspect
import textwrap
from collections.abc import Callable, Collection
from dataclasses import MISSING, Field, fields
from typing import Any, ParamSpec, TypeVar, get_type_hints

from elman.setting_fields import ordered

P = ParamSpec("P")
R = TypeVar("R")


def with_options(
    kind: type, types: type | None = None, chosen: Collection[str] = ()
) -> Callable[..., Any]:
    """Show the fields of `kind` as keywords of a function that takes `**options`.

    Editors read the types from `types`, a `TypedDict` of some of the fields; help() and notebooks
    read this signature and docstring. The default of a `chosen` field is None: it depends on the
    text.
    """
    annotations = {each.name: each.type for each in fields(kind)}
    if types is not None:
        annotations = get_type_hints(types)
    shown = [each for each in ordered(kind) if each.name in annotations]

    def show(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        taken = {each.name for each in own}
        shown_here = [each for each in shown if each.name not in taken]
        options = [
            _parameter(each, annotations[each.name], each.name in chosen) for each in shown_here
        ]
        function.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*own, *options]
        )
        lines = [
            textwrap.fill(
                f"- `{each.name}`: {help_of(each, each.name in chosen)}",
                100,
                subsequent_indent="  ",
                break_on_hyphens=False,
            )
            for each in shown_here
        ]
        function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n" + "\n".join(lines)
        return function

    return show


def _parameter(field: "Field[Any]", annotation: Any, is_chosen: bool) -> inspect.Parameter:
    default = [] if field.default is MISSING else field.default
    default = None if is_chosen else default
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def help_of(field: "Field[Any]", is_chosen: bool) -> str:
    """Description of a field and its default; for a chosen field, the book recipe's default."""
    text: str = field.metadata["help"]
    default = field.default
    if "[default: " not in text and (is_chosen or default not in (None, MISSING, False)):
        text += f" [default: {default!r}]"
    if is_chosen:
        text = text.replace("[default: ", "[default: chosen for the text; the book's is ")
    return text
