"""Signatures and docstrings of functions whose keywords are the fields of a settings dataclass."""

import inspect
import textwrap
from collections.abc import Callable, Collection
from dataclasses import MISSING, Field, fields
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def with_options(kind: type, besides: Collection[str] = ()) -> Callable[..., Any]:
    """Show the fields of `kind`, `besides` some, as keywords of a function that takes `**options`.

    Editors read the types of a `TypedDict`; help() and notebooks this signature and docstring.
    """
    shown = [each for each in fields(kind) if each.name not in besides]

    def show(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        taken = {each.name for each in own}
        options = [_parameter(each) for each in shown if each.name not in taken]
        function.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*own, *options]
        )
        lines = [_line(each) for each in shown if each.name not in taken]
        function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n" + "\n".join(lines)
        return function

    return show


def _parameter(field: "Field[Any]") -> inspect.Parameter:
    default = [] if field.default is MISSING else field.default
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=field.type
    )


def _line(field: "Field[Any]") -> str:
    text = f"- `{field.name}`: {field.metadata['help']}"
    if field.default not in (None, MISSING, False) and "[default" not in text:
        text += f" [default: {field.default!r}]"
    return textwrap.fill(text, 100, subsequent_indent="  ", break_on_hyphens=False)
