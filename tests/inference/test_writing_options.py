"""Options of texts that are written have one declaration, wherever they are given."""

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


@pytest.mark.parametrize(
    "given", [{"temperature": -1}, {"top_k": 0}, {"top_p": 2}, {"repetition_penalty": 0}], ids=str
)
def test_a_value_out_of_bounds_has_the_same_message_everywhere(given: dict[str, Any]) -> None:
    messages = set()
    for kind in (Sampler, Writing, Options):
        with pytest.raises(ElmanError) as error:
            kind(**given)
        messages.add(str(error.value))
    assert len(messages) == 1


def test_a_text_is_sampled_at_the_usual_temperature_unless_one_is_given() -> None:
    assert Sampler.of(Writing()).temperature == 0.8
    assert Sampler.of(Writing(temperature=0, top_k=3)) == Sampler(0, 3)
