"""What a model does with texts is in every module what the specification does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman import numpy as specification
from elman.errors import ElmanError
from elman.inference import evaluation, language_model
from elman.model.cells import CELLS
from elman.model.weights import Architecture, initial
from elman.text.codec import Codec
from elman.text.vocab import Vocab
from tests.frameworks.layers import layers_of

CODEC = Codec(Vocab(list("ab .\n")), "char", clean=False)


def pair(module: Any, cell: str, layers: int = 2, **sizes: int) -> tuple[Any, Any]:
    """A model of the specification, and the module's with the same weights."""
    arch = Architecture(cell, len(CODEC.vocab), 7, layers, **sizes)
    values = {name: 3 * value for name, value in initial(arch, 1).items()}
    models = specification.build(arch, dict(values)), module.build(arch, values)
    for model in models:
        model.codec = CODEC
    return models


@pytest.mark.parametrize("cell", CELLS)
def test_texts_have_the_specifications_scores_and_next_tokens(module: Any, cell: str) -> None:
    wanted, found = pair(module, cell, embedding=4)
    texts = ["ab a.", "", "b" * 40, "a", "zb"]
    for one, other in zip(wanted.score(texts), found.score(texts), strict=True):
        assert other.log_probability == pytest.approx(one.log_probability, rel=1e-5)
        assert other.bits_per_character == pytest.approx(one.bits_per_character, rel=1e-5)
        assert [token.text for token in other.tokens] == [token.text for token in one.tokens]
        total = sum(token.log_probability for token in other.tokens)
        assert total == pytest.approx(other.log_probability)
    one, other = wanted.next("ab ", top=3), found.next("ab ", top=3)
    assert [token.id for token in other] == [token.id for token in one]
    for a, b in zip(one, other, strict=True):
        assert b.log_probability == pytest.approx(a.log_probability, abs=1e-5)


def test_texts_are_those_that_the_specification_writes(module: Any) -> None:
    for cell in ("rnn", "lstm"):
        wanted, found = pair(module, cell)
        for options in (
            {"n": 3, "temperature": 1.0, "stop": (".", "aa"), "seed": 2},
            {"n": 2, "top_p": 0.9, "repetition_penalty": 1.4},
            {"temperature": 0, "repetition_penalty": 1.4},
            {"beams": 3, "n": 2, "stop": (".",)},
        ):
            asked: dict[str, Any] = {"tokens": 25} | options
            assert found.generate("ab", **asked) == wanted.generate("ab", **asked)


@pytest.mark.parametrize("cell", CELLS)
def test_hidden_states_are_the_specifications(module: Any, cell: str) -> None:
    for layers in (1, 2):
        wanted, found = pair(module, cell, layers)
        states = found.hidden_states("ab. a")
        assert states.shape == (layers, 5, 7)
        assert isinstance(states, np.ndarray)
        np.testing.assert_allclose(states, wanted.hidden_states("ab. a"), atol=1e-5)
        outputs, _ = wanted.rnn(np.array([CODEC.prefix_ids("ab. a")]).T)
        np.testing.assert_allclose(states[-1], outputs[:, 0], atol=1e-5)


def test_a_model_that_was_trained_here_measures_texts(module: Any) -> None:
    data = module.TimeMachine(64, 8, num_train=128, num_val=64)
    model = module.RNNLM(layers_of(module, "RNN", 28, 8), 28, lr=1)
    trainer = module.Trainer(max_epochs=1, show_progress=False)
    trainer.fit(model, data)
    assert f"last validation perplexity {trainer.history[0].val_ppl:.2f}" in repr(model)
    text = "it has been so\nthe time traveller was so"
    found, wanted = model.evaluate(text), evaluation.evaluate(model, text, model.codec)
    assert found.tokens == len(text) - 1
    assert found.bits_per_character == wanted.bits_per_character


def test_a_keyword_that_there_is_not_is_refused_in_pythons_words(module: Any, story: Path) -> None:
    model = pair(module, "gru")[1]
    calls: dict[str, Callable[[], Any]] = {
        "max_tokens": lambda: model.generate("ab", max_tokens=5),
        "num_layer": lambda: module.GRU(5, 8, num_layer=2),
        "droput": lambda: module.RNNLM(model.rnn, 5, droput=0.1),
        "tokeniser": lambda: module.TextFile(str(story), 4, 4, tokeniser="word"),
        "max_epoch": lambda: module.Trainer(max_epoch=1),
    }
    for name, call in calls.items():
        with pytest.raises(TypeError, match=f"got an unexpected keyword argument '{name}'"):
            call()


def test_a_state_that_grows_without_bound_is_an_error_for_all_that_read_it(module: Any) -> None:
    arch = Architecture("rnn-relu", len(CODEC.vocab), 7)
    values = {name: 100 * value for name, value in initial(arch, 1).items()}
    model, text = module.build(arch, values), "ab ba. a bb" * 4
    model.codec = CODEC
    for read in (
        lambda: model.score([text]),
        lambda: list(language_model.score(model, np.array(CODEC.prefix_ids(text)))),
        lambda: evaluation.evaluate(model, text, CODEC),
        lambda: model.next(text),
        lambda: model.hidden_states(text),
        lambda: model.generate("ab", tokens=60, temperature=0),  # some of which are finite
        lambda: model.generate("ab", tokens=60),
        lambda: model.generate("ab", tokens=60, beams=2),
        lambda: model.predict("ab", 60),
    ):
        with pytest.raises(ElmanError, match="the logits contain NaN or infinity"):
            read()
