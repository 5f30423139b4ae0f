"""Combinations of parameters of which a half is tested by default."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest


def half_of(*choices: Sequence[Any]) -> list[Any]:
    """All combinations of values, a parameter set each; every second one takes long.

    Among the others each value still meets each value of any other choice.
    """
    return [
        pytest.param(
            *(value for _, value in places),
            marks=pytest.mark.long if sum(number for number, _ in places) % 2 else (),
        )
        for places in itertools.product(*map(enumerate, choices))
    ]
