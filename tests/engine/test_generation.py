"""The engine reads, scores and generates text as the specification does."""

from collections import Counter
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numba import njit

from elman import numba as engine
from elman import numpy as specification
from elman.errors import ElmanError
from elman.inference.language_model import generate, generate_all, score
from elman.inference.sampling import Sampler
from elman.inference.scoring import score_texts
from elman.kernels.codegen.tile_types import TileShape
from elman.kernels.host import engine as kernels
from elman.kernels.host import threads
from elman.kernels.host.arrays import DropoutMasks
from elman.kernels.host.engine import Engine
from elman.kernels.rnn import sampling
from elman.kernels.rnn.sampling import sampler_buffers, sampler_settings
from elman.model.cells import CELLS
from elman.model.weights import Architecture, initial
from tests.engine.batches import weights_of
from tests.engine.tiles import TILES
from tests.inference.test_writing import chances, chi_square_is_likely, model_of, written

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


@pytest.mark.parametrize(
    ("cell", "closed"), [("lstm", {"i": -20, "f": 20}), ("gru", {"z": 20}), ("mingru", {"z": -20})]
)
def test_closed_gates_keep_a_state_to_the_bit(cell: str, closed: dict[str, float]) -> None:
    arch = Architecture(cell, 29, 19, 2)
    weights = weights_of(arch)
    for n, gate in enumerate(CELLS[cell].gates):
        for name, value in weights.items():
            if name.startswith("rnn.") and gate in closed:
                value[n * 19 : n * 19 + 19] = closed[gate] if "bias_ih" in name else 0
    state = np.random.default_rng(0).uniform(-1, 1, (2, 1, 19)).astype(np.float32)
    made, ids = Engine(arch), np.random.default_rng(1).integers(0, 29, 100_000)
    made.load(weights)
    _, final_state = made.losses(ids[:-1], ids[1:], (state,) * (1 + (cell == "lstm")))
    np.testing.assert_array_equal(final_state[-1], state)
    batch, states = ids[:300].reshape(1, -1).repeat(40, axis=0), state.repeat(40, axis=1)
    _, final_state = made.loss(
        batch, batch, (states,) * (1 + (cell == "lstm")), DropoutMasks(), training=True
    )
    np.testing.assert_array_equal(final_state[-1], states)


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
    for sampler in (*plain, Sampler(0, excluded=(7,)), Sampler(0.8, 5, excluded=(7, 0))):
        for prefix in ([3], [1, 2, 3, 4]):
            wanted, found = (list(generate(model, prefix, 300, sampler, 5)) for model in models)
            assert found == wanted
    wanted, found = (list(generate(model, [1], 3000, Sampler(), 5)) for model in models)
    assert found == wanted  # goes on where a piece ends


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_repetition_penalty_is_the_specifications(cell: str) -> None:
    arch = Architecture(cell, 29, 19, 2, 4)
    models = [module.build(arch, weights_of(arch)) for module in (specification, engine)]
    prefixes = [[n % 29 for n in range(1 + 7 * text % 12)] for text in range(20)]
    for sampler in (
        Sampler(0, repetition_penalty=1.3),
        Sampler(repetition_penalty=1.3, excluded=(7,)),
        Sampler(0.8, 9, repetition_penalty=0.8),
    ):
        wanted, found = (list(generate(model, [1, 2], 1100, sampler, 5)) for model in models)
        assert found == wanted  # what was seen is known in the next piece
        wanted, found = (generate_all(model, prefixes, 30, sampler, 5) for model in models)
        np.testing.assert_array_equal(found, wanted)
        free = replace(sampler, repetition_penalty=1.0)
        assert not np.array_equal(generate_all(models[1], prefixes, 30, free, 5), found)


def test_a_text_is_the_same_in_pieces_of_any_size() -> None:
    arch = Architecture("gru", 29, 19)
    model, sampler = engine.build(arch, weights_of(arch)), Sampler(0.8, repetition_penalty=1.2)
    pieces = [
        np.concatenate([*model.generate_ids([[1], [2, 3]], 70, sampler, 5, at_once)], axis=1)
        for at_once in (1, 32, 1024)
    ]
    np.testing.assert_array_equal(pieces[0], pieces[1])
    np.testing.assert_array_equal(pieces[0], pieces[2])


@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.8}], ids=str)
def test_texts_written_in_batches_come_as_often_as_their_probabilities(
    options: dict[str, float],
) -> None:
    expected = chances(model_of(), "a", "b.", 4, **options)
    asked = {"tokens": 4, "stop": ("b.",), "n": 20_000, "temperature": 1.0} | options
    counts = Counter(written(model_of(engine), ["a"], **asked))
    assert counts.keys() <= expected.keys()
    assert chi_square_is_likely(counts, expected)
    assert written(model_of(engine), ["a", "b"], n=40, tokens=300, stop=("ab",)) == written(
        model_of(), ["a", "b"], n=40, tokens=300, stop=("ab",)
    )


def test_an_excluded_token_is_not_generated_even_if_it_is_the_likeliest() -> None:
    arch = Architecture("rnn", 11, 7)
    values = weights_of(arch) | {"linear.bias": 50 * np.eye(11, dtype="f4")[5]}
    model = engine.build(arch, values)
    for temperature in (0, 1):
        allowed, free = Sampler(temperature, excluded=(5,)), Sampler(temperature)
        for texts in ([[1]], [[1], [2, 3]]):
            assert 5 not in np.ravel(generate_all(model, texts, 40, allowed))
            assert set(np.ravel(generate_all(model, texts, 40, free))) == {5}
    with pytest.raises(ElmanError, match="excluded ids must be from 0 to 10, got"):
        generate_all(model, [[1]], 1, Sampler(excluded=(11,)))
    with pytest.raises(ElmanError, match="one token must be allowed"):
        generate_all(model, [[1]], 1, Sampler(excluded=tuple(range(11))))


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_texts_generated_together_are_the_specifications(
    cell: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads.config, "NUMBA_NUM_THREADS", number)
    arch = Architecture(cell, 29, 19, 2, 4)
    prefixes = [[n % 29 for n in range(1 + 7 * text % 12)] for text in range(40)]
    models = [module.build(arch, weights_of(arch)) for module in (specification, engine)]
    for sampler in (Sampler(0), Sampler(0.8, 5)):
        wanted, found = (generate_all(model, prefixes, 30, sampler, 5) for model in models)
        np.testing.assert_array_equal(found, wanted)
    assert np.shape(generate_all(models[1], prefixes, 0, Sampler())) == (len(prefixes), 0)
    assert generate_all(models[1], [], 30, Sampler()) == []


def test_texts_generated_together_continue_across_chunks() -> None:
    arch = Architecture("gru", 29, 19)
    models = [module.build(arch, weights_of(arch)) for module in (specification, engine)]
    wanted, found = (generate_all(model, [[1], [2, 3]], 1100, Sampler(), 5) for model in models)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("shape", TILES[1:], ids=str)
def test_narrower_vectors_read_score_and_generate_the_same(
    shape: TileShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = Architecture("lstm", 29, 19, 2, 4)
    ids = np.random.default_rng(0).integers(0, 29, 50)
    results = []
    for host in (kernels.host_shape(), shape):
        monkeypatch.setattr(kernels, "host_shape", lambda host=host: host)
        model = engine.build(arch, weights_of(arch))
        texts = generate_all(model, [[1], [2, 3], [4]], 40, Sampler(0.8, 5), 5)
        results.append((model.step(ids[None])[0], next(score(model, ids)), texts))
    np.testing.assert_allclose(results[1][0], results[0][0], atol=1e-5)
    np.testing.assert_allclose(results[1][1], results[0][1], atol=1e-5)
    np.testing.assert_array_equal(results[1][2], results[0][2])


def test_a_model_with_nan_logits_generates_nothing() -> None:
    arch = Architecture("gru", 11, 7)
    model = engine.build(arch, initial(arch))
    model.parameters["linear.bias"][3] = np.nan
    for sampler in (Sampler(0), Sampler(), Sampler(1, 3)):
        with pytest.raises(ElmanError, match="the logits contain NaN or infinity"):
            next(model.generate_ids([[1, 2]], 5, sampler, 0))
        with pytest.raises(ElmanError, match="the logits contain NaN or infinity"):
            next(model.generate_ids([[1, 2], [3]], 5, sampler, 0))


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
