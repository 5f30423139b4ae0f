"""Texts that are continued together are those that each would be alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman import numba as engine
from elman import numpy as specification
from elman.inference.language_model import generate, generate_all
from elman.inference.sampling import Sampler
from elman.model.weights import Architecture
from tests.engine.batches import weights_of

ARCH = Architecture("lstm", 13, 9, 2, 4)
MODEL, SPECIFICATION = (module.build(ARCH, weights_of(ARCH)) for module in (engine, specification))
PREFIXES = st.lists(st.integers(0, 12), min_size=1, max_size=9)
SAMPLERS = st.builds(
    Sampler,
    temperature=st.sampled_from([0, 0.7, 1.0]),
    top_k=st.sampled_from([None, 4]),
    top_p=st.sampled_from([None, 0.8]),
    excluded=st.sampled_from([(), (3,), (0, 5, 7)]),
    repetition_penalty=st.sampled_from([1.0, 1.5]),
)
TEXTS = st.lists(st.tuples(PREFIXES, SAMPLERS, st.integers(0, 99)), max_size=6)


@settings(max_examples=40)
@given(st.lists(st.tuples(TEXTS, st.integers(0, 5), st.sets(st.integers(0, 11))), max_size=5))
def test_a_text_is_its_own_whoever_comes_and_goes(
    rounds: list[tuple[list[tuple[list[int], Sampler, int]], int, set[int]]],
) -> None:
    texts, present, written = MODEL.continuations(), [], []
    for come, tokens, leave in rounds:
        for text in come:
            present.append(len(written))
            written.append((text, []))
        texts.add(*map(list, zip(*come, strict=True)) if come else ([], [], []))
        assert len(texts) == len(present)
        for n, ids in zip(present, texts.draw(tokens)[0], strict=True):
            written[n][1].extend(ids.tolist())
        kept = [place for place in range(len(present)) if place not in leave]
        texts.keep(kept)
        present = [present[place] for place in kept]
    for (prefix, sampler, seed), ids in written:
        assert ids == list(generate(SPECIFICATION, prefix, len(ids), sampler, seed))


def test_nothing_is_drawn_where_there_is_no_text() -> None:
    assert np.shape(MODEL.continuations().draw(3)[0]) == (0, 3)


@pytest.mark.parametrize("precision", ["single", "bf16"])
def test_a_text_has_the_same_bits_alone_and_among_others(precision: str) -> None:
    arch = Architecture("gru", 60, 256, 1, 64)
    model = engine.build(arch, weights_of(arch), precision=precision)
    texts = [[n % 60] for n in range(20)]
    together = generate_all(model, texts, 1000, Sampler(), seed=3)
    for n in (0, 13):
        (alone,) = generate_all(model, texts[n : n + 1], 1000, Sampler(), seed=3 + n)
        np.testing.assert_array_equal(together[n], alone)


@pytest.mark.parametrize("texts", [1, 20])
@pytest.mark.parametrize("precision", ["single", "bf16"])
def test_logits_of_a_draw_are_those_of_a_step(precision: str, texts: int) -> None:
    arch = Architecture("gru", 60, 256, 1, 64)
    model = engine.build(arch, weights_of(arch), precision=precision)
    together = model.continuations()
    sampler = Sampler(excluded=(3,), repetition_penalty=1.5)  # neither changes the logits
    together.add([[n] for n in range(texts)], [sampler] * texts, range(texts))
    ids, logits = together.draw(30, with_logits=True)
    for n in range(texts):
        wanted, _ = model.step(np.array([[n, *ids[n, :-1]]]), None)
        np.testing.assert_array_equal(logits[n], wanted[0])
