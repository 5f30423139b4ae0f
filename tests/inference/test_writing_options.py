"""Options of texts that are written have one declaration, wherever they are given."""

import math
from dataclasses import fields
from typing import Any

import pytest
import typer

from elman.cli import app
from elman.errors import ElmanError
from elman.inference.sampling import Sampler
from elman.inference.writing_options import SamplerOptions, Writing
from elman.server.completion_request import Options

NAMES = {field.name for field in fields(SamplerOptions)}


def test_the_command_the_server_and_the_sampler_have_all_options_of_a_sampler() -> None:
    generate = typer.main.get_command(app).commands["generate"]  # type: ignore[attr-defined]
    assert {each.name for each in generate.params} >= {each.name for each in fields(Writing)}
    for kind in (Sampler, Options):
        assert {field.name for field in fields(kind)} >= NAMES


@pytest.mark.parametrize("kind", [Sampler, Writing, Options])
@pytest.mark.parametrize(
    ("name", "values", "rule"),
    [
        ("temperature", [-1, math.nan, math.inf], "0 or a finite number above"),
        ("top_k", [0], "1 or more"),
        ("top_k", [2**31 + 1], "2147483648 or less"),
        ("top_p", [0, 1.5], "above 0 and at most 1"),
        ("min_p", [-0.1, 1.5], "above 0 and at most 1"),
        ("repetition_penalty", [0.009, 100.1, math.nan], "from 0.01 to 100.0"),
    ],
)
def test_a_value_out_of_bounds_has_the_same_message_everywhere(
    kind: Any, name: str, values: list[float], rule: str
) -> None:
    for value in values:
        with pytest.raises(ElmanError) as told:
            kind(**{name: value})
        assert str(told.value).startswith(f"{name.replace('_', ' ')} must be {rule}, got {value}")


def test_a_text_is_sampled_at_the_usual_temperature_unless_one_is_given() -> None:
    assert Sampler.of(Writing()).temperature == 0.8
    assert Sampler.of(Writing(temperature=0, top_k=3)) == Sampler(0, 3)
