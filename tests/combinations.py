"""Combinations of parameters of which half are enough for most purposes."""

import itertools
from collections.abc import Collection
from typing import Any

import pytest


def combinations(mark: pytest.MarkDecorator, *choices: Collection[Any]) -> list[Any]:
    """All combinations of the choices, half of them with a mark, as in a checkerboard.

    With three choices or more, of two values or more each, the others have every pair of values.
    """
    found = []
    for numbered in itertools.product(*map(enumerate, choices)):
        places, values = zip(*numbered, strict=True)
        marks = mark if sum(places) % 2 else ()
        found.append(pytest.param(*values, marks=marks, id="-".join(map(str, values))))
    return found
