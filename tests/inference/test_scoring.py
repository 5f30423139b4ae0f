"""Texts that are scored together have the losses of each alone."""

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman import numpy as specification
from elman.errors import ElmanError
from elman.inference import scoring
from elman.inference.language_model import CompiledModel, score, total_nll
from elman.inference.scoring import score_lines, score_texts
from elman.model.weights import Architecture, initial
from elman.text.codec import Codec
from elman.text.lines import LineReader
from elman.text.vocab import Vocab

ARCH = Architecture("gru", 7, 5, 2)


def model() -> Any:
    return specification.build(ARCH, initial(ARCH, 3))


@given(st.lists(st.integers(0, 40), max_size=20))
def test_a_text_has_the_losses_of_the_text_alone(lengths: list[int]) -> None:
    rng, known = np.random.default_rng(0), model()
    texts = [rng.integers(0, 7, length) for length in lengths]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "ALONE", 30)
        patch.setattr(scoring, "POSITIONS_AT_ONCE", 64)
        patch.setattr(scoring, "MAX_LOGITS", 32 * 7 * 4)  # some batches in chunks of 1, some of 32
        found = score_texts(known, texts)
    assert len(found) == len(texts)
    for text, losses in zip(texts, found, strict=True):
        alone = np.concatenate([np.empty(0), *score(known, text)])
        np.testing.assert_allclose(losses, alone, rtol=1e-5, atol=1e-6)


def test_batches_have_few_shapes_and_a_bounded_size() -> None:
    shapes, rng = [], np.random.default_rng(0)

    class Recording(CompiledModel):
        vocab_size = 7

        def row_losses(self, ids: Any) -> Any:
            shapes.append((ids.shape[0], ids.shape[1] - 1))
            return np.zeros(shapes[-1])

    score_texts(Recording(), [rng.integers(0, 7, n) for n in rng.integers(2, 900, 3000)])
    assert all(rows * steps <= 2 * scoring.POSITIONS_AT_ONCE for rows, steps in shapes)
    assert all(rows & (rows - 1) == 0 and steps % 8 == 0 for rows, steps in shapes)


LINES = Codec(Vocab(list("ab\n")), "char", clean=False)


def of_lines() -> Any:
    arch = Architecture("lstm", 4, 5)
    return specification.build(arch, initial(arch))


def test_a_line_is_the_sum_of_its_tokens() -> None:
    texts = ("ab", "", "bbbb")
    scored = score_lines(of_lines(), LineReader(LINES).lines(texts))
    for n, text in enumerate(texts):
        ids, losses = zip(*scored.tokens(n), strict=True)
        assert LINES.text(ids) == text + "\n"
        assert -sum(losses) == pytest.approx(scored.log_probabilities[n])
        bits = sum(losses) / np.log(2) / (len(text) + 1)
        assert bits == pytest.approx(scored.bits_per_character[n])


def test_a_score_ends_where_its_time_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)

    class Model(CompiledModel):
        def score_ids(self, ids: Any) -> Any:
            nonlocal now
            for _ in range(100):
                now += 3
                yield np.full(5, 2.0)

    assert total_nll(Model(), np.zeros(501, int), seconds=10) == (40, 20)
    assert total_nll(Model(), np.zeros(501, int)) == (1000, 500)


@pytest.mark.parametrize(
    ("ids", "fragment"),
    [
        (np.array([0, 7]), "ids must be from 0 to 6, got"),
        ("ab", "ids must be integers in 1 dimensions"),
        (np.array([0, 3]), "the logits contain NaN or infinity"),
    ],
)
def test_what_cannot_be_scored_is_refused(ids: Any, fragment: str) -> None:
    broken = model()
    broken.parameters["linear.bias"][3] = np.nan
    with pytest.raises(ElmanError, match=fragment):
        score_texts(broken, [ids])
