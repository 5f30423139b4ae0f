"""The engine reads, scores and generates text as the specification does."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numba import njit

from elman import numba as engine
from elman import numpy as specification
from elman.inference.language_model import generate, generate_all, score
from elman.inference.sampling import Sampler
from elman.inference.scoring import score_texts
from elman.kernels.host import threads
from elman.kernels.rnn import sampling
from elman.kernels.rnn.sampling import sampler_buffers, sampler_settings
from elman.model.cells import CELLS
from elman.model.weights import Architecture
from tests.engine.batches import weights_of

draw, inverse_cdf = njit(sampling.draw.py_func), njit(sampling.inverse_cdf.py_func)


@pytest.mark.parametrize("cell", CELLS)
def test_a_text_of_any_length_is_scored_as_by_the_specification(cell: str) -> None:
    arch = Architecture(cell, 29, 19, 2, 4)
    wanted, found = (module.build(arch, weights_of(arch)) for module in (specification, engine))
    for length in (2, 3, 1500, 3000):
        ids = np.random.default_rng(length).integers(0, 29, length)
        losses = np.concatenate(list(score(found, ids)))
        assert losses.shape == (length - 1,)
        np.testing.assert_allclose(losses, np.concatenate(list(score(wanted, ids))), atol=2e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_logits_do_not_depend_on_how_a_text_is_split(cell: str) -> None:
    arch = Architecture(cell, 29, 19, 2)
    model = engine.build(arch, weights_of(arch))
    ids = np.random.default_rng(0).integers(0, 29, (3, 700))
    whole, _ = model.step(ids)
    first, state = model.step(ids[:, :333])
    rest, _ = model.step(ids[:, 333:], state)
    np.testing.assert_array_equal(np.concatenate([first, rest], axis=1), whole)
    logits = specification.build(arch, weights_of(arch)).step(ids)[0]
    np.testing.assert_allclose(whole, logits, atol=2e-5)


SAMPLERS = st.builds(
    Sampler,
    temperature=st.floats(0.1, 5),
    top_k=st.none() | st.integers(1, 40),
    top_p=st.none() | st.floats(0.01, 1),
    min_p=st.none() | st.floats(0.01, 1),
)


LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=30)


@given(SAMPLERS, LOGITS, st.integers(0, 2**32), st.sets(st.integers(0, 28)))
@example(Sampler(top_p=0.25), [-(2.0**-126), 0.0], 0, ())  # other logits, the same chances
def test_tokens_are_drawn_as_the_sampler_draws_them(
    sampler: Sampler, logits: list[float], seed: int, excluded: Collection[int]
) -> None:
    array = np.array(logits, np.float32)
    sampler = replace(sampler, excluded=tuple(n for n in excluded if n < len(array) - 1))
    settings, buffers = sampler_settings([sampler], len(array)), sampler_buffers(len(array))
    found = draw(array.copy(), settings, 0, np.random.default_rng(seed).random(), buffers)
    assert found not in sampler.excluded
    wanted = sampler(array, np.random.default_rng(seed))
    if (
        found != wanted
    ):  # where rounding decides: a chance, or a bound, that is hit to the last digit
        chances = sampler.probabilities(array)
        uniform = np.random.default_rng(seed).random()
        edges = np.abs(np.cumsum(chances) - uniform).min()
        assert edges < 1e-12 or close_to_a_bound(sampler, array)


def close_to_a_bound(sampler: Sampler, logits: np.ndarray) -> bool:
    """True if a token is left out, or not, by less than rounding."""
    for factor in (1 - 1e-12, 1 + 1e-12):
        bounds = {
            name: min(1.0, getattr(sampler, name) * factor)
            for name in ("top_p", "min_p")
            if getattr(sampler, name) is not None
        }
        moved = replace(sampler, **bounds)
        if ((moved.probabilities(logits) > 0) != (sampler.probabilities(logits) > 0)).any():
            return True
    return False


@given(LOGITS)
def test_the_likeliest_token_is_the_first_of_the_largest_logits(logits: list[float]) -> None:
    array = np.array(logits, np.float32)
    chosen = sampler_settings([Sampler(temperature=0)], len(array))
    assert draw(array, chosen, 0, 0.5, sampler_buffers(len(array))) == array.argmax()


def test_a_token_without_a_chance_is_never_drawn() -> None:
    chances = np.array([0, 1, 0, 2, 0], float)
    drawn = {inverse_cdf(uniform, chances) for uniform in np.linspace(0, np.nextafter(1, 0), 1001)}
    assert drawn == {1, 3}


@pytest.mark.parametrize("cell", CELLS)
def test_a_generated_text_is_the_specifications(cell: str) -> None:
    arch = Architecture(cell, 29, 19, 2, 4)
    models = [module.build(arch, weights_of(arch)) for module in (specification, engine)]
    plain = (Sampler(0), Sampler(), Sampler(0.8, 5), Sampler(1.1, None, 0.8, 0.05))
    penalized = (Sampler(0, repetition_penalty=1.3), Sampler(0.8, 9, repetition_penalty=0.8))
    for sampler in (
        *plain,
        *penalized,
        Sampler(0, excluded=(7,)),
        Sampler(0.8, 5, excluded=(7, 0)),
    ):
        for prefix in ([3], [1, 2, 3, 4]):
            wanted, found = (list(generate(model, prefix, 300, sampler, 5)) for model in models)
            assert found == wanted
    for sampler in (Sampler(), Sampler(repetition_penalty=1.3, excluded=(7,))):
        wanted, found = (list(generate(model, [1], 2100, sampler, 5)) for model in models)
        assert found == wanted  # goes on where a piece ends, and knows what was seen


def test_a_text_is_the_same_in_pieces_of_any_size() -> None:
    arch = Architecture("gru", 29, 19)
    model, sampler = engine.build(arch, weights_of(arch)), Sampler(0.8, repetition_penalty=1.2)
    pieces = [
        np.concatenate([*model.generate_ids([[1], [2, 3]], 70, sampler, 5, at_once)], axis=1)
        for at_once in (1, 32, 1024)
    ]
    np.testing.assert_array_equal(pieces[0], pieces[1])
    np.testing.assert_array_equal(pieces[0], pieces[2])


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_texts_generated_together_are_the_specifications(
    cell: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads.config, "NUMBA_NUM_THREADS", number)
    arch = Architecture(cell, 29, 19, 2, 4)
    prefixes = [[n % 29 for n in range(1 + 7 * text % 12)] for text in range(40)]
    models = [module.build(arch, weights_of(arch)) for module in (specification, engine)]
    for sampler in (Sampler(0), Sampler(0.8, 5), Sampler(0.8, repetition_penalty=1.3)):
        wanted, found = (generate_all(model, prefixes, 30, sampler, 5) for model in models)
        np.testing.assert_array_equal(found, wanted)
    assert np.shape(generate_all(models[1], prefixes, 0, Sampler())) == (len(prefixes), 0)
    assert generate_all(models[1], [], 30, Sampler()) == []


@pytest.mark.parametrize(("cell", "hidden"), [("lstm", 33), ("gru", 70)])
def test_texts_scored_together_have_the_losses_of_each_alone(cell: str, hidden: int) -> None:
    arch, rng = Architecture(cell, 31, hidden, 2, 7), np.random.default_rng(0)
    wanted, model = (module.build(arch, weights_of(arch)) for module in (specification, engine))
    lengths = (5, 0, 1, 2, 40, 9, 9, 130, *range(3, 150), 5000)
    texts = [rng.integers(0, 31, length) for length in lengths]
    by_specification = score_texts(wanted, texts)
    for text, losses, other in zip(texts, score_texts(model, texts), by_specification, strict=True):
        alone = np.concatenate([np.empty(0), *model.score_ids(text)])
        np.testing.assert_allclose(losses, alone, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(losses.sum(), other.sum(), rtol=1e-5)
