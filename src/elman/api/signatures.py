"""Signatures and docstrings of functions whose keywords are the fields of a settings dataclass."""

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Any, ParamSpec, TypeVar, get_type_hints

P = ParamSpec("P")
R = TypeVar("R")


def with_options(kind: type, types: type | None = None) -> Callable[..., Any]:
    """Show the fields of `kind` as keywords of a function that takes `**options`.

    Editors read the types of `types`, a `TypedDict` of some of the fields; help() and notebooks
    this signature and docstring.
    """
    annotations = {each.name: each.type for each in fields(kind)}
    if types is not None:
        annotations = get_type_hints(types)
    shown = [each for each in fields(kind) if each.name in annotations]

    def show(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        taken = {each.name for each in own}
        options = [
            _parameter(each, annotations[each.name]) for each in shown if each.name not in taken
        ]
        function.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*own, *options]
        )
        lines = [_line(each) for each in shown if each.name not in taken]
        function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n" + "\n".join(lines)
        return function

    return show


def _parameter(field: "Field[Any]", annotation: Any) -> inspect.Parameter:
    default = [] if field.default is MISSING else field.default
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _line(field: "Field[Any]") -> str:
    text = f"- `{field.name}`: {field.metadata['help']}"
    if field.default not in (None, MISSING, False) and "[default" not in text:
        text += f" [default: {field.default!r}]"
    return textwrap.fill(text, 100, subsequent_indent="  ", break_on_hyphens=False)
