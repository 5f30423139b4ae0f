"""The source of `elman.api.options`: types of the options of a training, made from `Settings`.

python -m tests.api.typed_options > src/elman/api/options.py
"""

import inspect
import textwrap
from dataclasses import fields

from elman.api.signatures import help_of
from elman.runs.settings import CHOSEN, Settings

# What Python takes besides the words of the command line.
TYPES = {
    "init": "str | os.PathLike[str]",
    "val": "TextLike",
    "test": "TextLike",
    "split": "str | Sequence[float]",
}
HEAD = '''"""Types of the options of a training, for editors: made by `tests.api.typed_options`."""

import os
from collections.abc import Sequence
from typing import TypedDict

from elman.text.in_memory import TextLike


class TrainOptions(TypedDict, total=False):
    """The options of a training, each as in `elman train --help`; None is not given."""
'''


def source() -> str:
    """The text of the module."""
    lines = [HEAD]
    for each in fields(Settings):
        if each.name in ("text", "more_texts"):
            continue
        kind = TYPES.get(each.name, inspect.formatannotation(each.type)).removesuffix(" | None")
        text = help_of(each, each.name in CHOSEN).replace("\\", "\\\\")
        lines.append(f"    {each.name}: {kind} | None")
        lines.append(textwrap.indent(_docstring(text), "    "))
    return "\n".join(lines) + "\n"


def _docstring(text: str) -> str:
    if len(text) <= 90:
        return f'"""{text}"""'
    first, *others = textwrap.wrap(text, 90, break_on_hyphens=False)
    return "\n".join([f'"""{first}', *others, '"""'])


if __name__ == "__main__":
    print(source(), end="")
