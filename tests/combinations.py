"""Combinations of parameters of which half are enough for most purposes."""

import itertools
from collections.abc import Collection
from typing import Any

import pytest


def combinations(mark: pytest.MarkDecorator, *choices: Collection[Any]) -> list[Any]:
    """All combinations of the choices, every other one with a mark.

    Of three choices or more, those without it have every pair of two.
    """
    found = []
    for numbered in itertools.product(*map(enumerate, choices)):
        places, values = zip(*numbered, strict=True)
        found.append(pytest.param(*values, marks=mark if sum(places) % 2 else ()))
    return found
