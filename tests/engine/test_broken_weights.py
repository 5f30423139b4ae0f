"""Of weights that are too large the engine returns what the specification does, or refuses both."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman import numba as engine
from elman import numpy as specification
from elman.errors import ElmanError
from elman.inference import evaluation, language_model
from elman.inference.sampling import Sampler
from elman.inference.scoring import score_texts
from elman.model.cells import CELLS
from elman.model.weights import Architecture, initial
from elman.text.codec import Codec
from elman.text.vocab import Vocab

CODEC = Codec(Vocab(list("ab .\n")), "char", clean=False)
TEXT = "ab ba. a bb.\n" * 3  # long enough that relu's state grows beyond all numbers
REFUSED = "the logits contain NaN or infinity: the weights of this model are broken"
Reader = Callable[[Any], Any]

NUMBERS: dict[str, Reader] = {
    "score": lambda model: np.concatenate([*language_model.score(model, ids_of(TEXT))]),
    "texts": lambda model: np.concatenate(score_texts(model, [ids_of(TEXT), ids_of("ab")])),
    "evaluate": lambda model: evaluation.evaluate(model, TEXT, CODEC).loss,
    "lines": lambda model: model.score([TEXT[:30], "a"])[0].log_probability,
    "next": lambda model: [token.log_probability for token in model.next(TEXT)],
    "states": lambda model: model.hidden_states(TEXT),
}
WRITERS: dict[str, Reader] = {
    "greedy": lambda model: model.generate("ab", tokens=40, temperature=0),
    "penalized": lambda model: model.generate("ab", tokens=40, repetition_penalty=1.1),
    "sampled": lambda model: model.generate("ab", tokens=40, n=2),
    "beams": lambda model: model.generate("ab", tokens=40, beams=2),
    "predict": lambda model: model.predict("ab", 40),
    "many": lambda model: language_model.generate_all(model, [[1], [2, 3]], 40, Sampler(0)),
}
READERS = NUMBERS | WRITERS


def ids_of(text: str) -> np.ndarray:
    return np.array(CODEC.prefix_ids(text))


def models(cell: str, scale: float = 1, broken: float = 0) -> list[Any]:
    """Models of the specification and the engine, with weights times a number, one of them broken.

    The logit of the unknown symbol has the number `broken` added.
    """
    arch = Architecture(cell, len(CODEC.vocab), 7, 2, 4)
    with np.errstate(over="ignore"):
        values = {n: (value * scale).astype("f4") for n, value in initial(arch, 1).items()}
    made = [module.build(arch, dict(values)) for module in (specification, engine)]
    for model in made:
        model.codec = CODEC
        model.parameters["linear.bias"][CODEC.vocab.unk] += broken
    return made


def outcome(read: Reader, model: Any) -> Any:
    """What a reader returns, or the message of its error; a warning is an error of the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return read(model)
        except ElmanError as error:
            return str(error)


def is_refused(found: Any) -> bool:
    return isinstance(found, str) and found == REFUSED


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=20)
@given(cell=st.sampled_from(list(CELLS)), exponent=st.integers(0, 17))
def test_what_the_specification_refuses_the_engine_refuses(
    reader: str, cell: str, exponent: int
) -> None:
    one, other = (outcome(READERS[reader], model) for model in models(cell, 10.0**exponent))
    assert is_refused(one) == is_refused(other), (one, other)


@pytest.mark.parametrize("reader", NUMBERS)
@settings(max_examples=20)
@given(cell=st.sampled_from(list(CELLS)), exponent=st.integers(0, 38))
def test_no_number_that_is_returned_is_nan_or_infinite(
    reader: str, cell: str, exponent: int
) -> None:
    # Where products of weights overflow, a sum of them is infinite or NaN as it is added up: a
    # gate at infinity is closed, and one at NaN breaks the model.
    for model in models(cell, 10.0**exponent):
        found = outcome(NUMBERS[reader], model)
        assert is_refused(found) or np.isfinite(np.asarray(found, np.float64)).all()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_finite_is_refused(reader: str, broken: float) -> None:
    for model in models("gru", broken=broken):
        found = outcome(READERS[reader], model)
        if broken == -np.inf and reader in ("score", "texts", "evaluate", "lines"):
            assert not is_refused(found)  # that token cannot come, and does not in the text
        else:
            assert is_refused(found)
