"""sherpa-onnx itself loads both graphs of every cell, and hears what they prefer."""

from pathlib import Path
from typing import Any

import pytest

from elman.formats import onnx
from elman.model.cells import CELLS
from tests.export.models import model_of, saved
from tests.export.transducer import Transducer

Heard = tuple[Any, Path, Transducer]


@pytest.fixture(scope="module", params=CELLS)
def heard(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Heard:
    """A language model, the folder of its graphs, and a recognizer with its symbols."""
    folder = tmp_path_factory.mktemp("sherpa")
    model = model_of(request.param, layers=2, embedding=8, tied=True, lines=True)
    onnx.write(saved(folder, model), folder / "lm")
    return model, folder / "lm", Transducer(folder, folder / "lm" / "tokens.txt")


def test_each_symbol_that_is_heard_has_elmans_score(heard: Heard) -> None:
    model, folder, transducer = heard
    for scale in (0.1, 0.5):
        text, found = transducer.stream(folder / "with-state.onnx", scale)
        assert len(text) == len(found) > 5
        *tokens, _ = model.score([text])[0].tokens
        assert found == pytest.approx([token.log_probability for token in tokens], abs=1e-4)


def test_of_all_hypotheses_the_likeliest_is_chosen(heard: Heard) -> None:
    model, folder, transducer = heard

    def goodness(text: str) -> float:  # divided by the symbols, with the two blanks before all
        return float(model.score([text])[0].log_probability) / (2 + len(text))

    heard_alone = transducer.sentence()
    chosen = transducer.sentence(lm=str(folder / "no-state.onnx"), lm_scale=1000.0)
    assert goodness(chosen) > goodness(heard_alone)
