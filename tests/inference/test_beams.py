"""Beam search finds what an exhaustive search finds, where it keeps enough texts."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from elman import numpy as specification
from elman.inference.beams import beam_search
from elman.inference.language_model import generate
from elman.inference.sampling import Sampler
from elman.model.weights import Architecture, initial

VOCAB, TOKENS = 4, 4
PREFIX = [1, 2]


def model_of(cell: str, seed: int) -> specification.RNNLM:
    arch = Architecture(cell, VOCAB, 6, 2)
    values = {name: 4 * value for name, value in initial(arch, seed).items()}
    return specification.build(arch, values)


def log_probability(model: specification.RNNLM, ids: Sequence[int], sampler: Sampler) -> float:
    """Sum over the tokens after the prefix, one by one, by the definition."""
    logits, _ = model.step(np.array([[*PREFIX, *ids]]))
    total = 0.0
    for n, token in enumerate(ids):
        seen = np.isin(np.arange(VOCAB), [*PREFIX, *ids[:n]])
        row = sampler.allowed(logits[0, len(PREFIX) - 1 + n].astype(np.float64), seen)
        total += row[token] - np.log(np.exp(row).sum())
    return total


def exhaustive(
    model: specification.RNNLM, sampler: Sampler, stop: int | None, length_penalty: float = 1
) -> list[tuple[float, tuple[int, ...]]]:
    """Scores of all texts that end with the stop token or have all tokens, the best first."""
    texts = set()
    for ids in product(set(range(VOCAB)) - set(sampler.excluded), repeat=TOKENS):
        texts.add(ids[: ids.index(stop) + 1] if stop in ids else ids)
    scored = [
        (log_probability(model, ids, sampler) / len(ids) ** length_penalty, ids) for ids in texts
    ]
    return sorted(scored, reverse=True)


@pytest.mark.parametrize(
    ("cell", "stop", "sampler", "length_penalty"),
    [
        ("rnn", None, Sampler(), 1),
        ("lstm", 3, Sampler(), 1),
        ("rnn", 3, Sampler(excluded=(0,)), 1),
        ("lstm", None, Sampler(repetition_penalty=1.7), 1),
        *(("lstm", 3, Sampler(), penalty) for penalty in (0, 0.75, 2)),
    ],
)
def test_with_enough_beams_the_best_texts_of_all_are_found(
    cell: str, stop: int | None, sampler: Sampler, length_penalty: float
) -> None:
    for seed in range(5):
        model = model_of(cell, seed)
        wanted = exhaustive(model, sampler, stop, length_penalty)[:10]
        found = beam_search(
            *(model, PREFIX, TOKENS, VOCAB**TOKENS, sampler),
            *(lambda ids: ids[-1] == stop, length_penalty),
        )[:10]
        assert [each.ids for each in found] == [ids for _, ids in wanted]
        assert [each.score for each in found] == pytest.approx([score for score, _ in wanted])


def test_few_beams_find_good_texts_and_count_them_right() -> None:
    better = 0
    for seed in range(20):
        model, scores = model_of("lstm", seed), []
        for beams in (1, 3):
            found = beam_search(model, PREFIX, TOKENS, beams, Sampler(), lambda ids: ids[-1] == 3)
            assert len(found) <= beams
            for each in found:
                told = log_probability(model, each.ids, Sampler())
                assert each.log_probability == pytest.approx(told, abs=1e-6)
            scores.append(found[0].score)
        better += scores[1] > scores[0] + 1e-6
    assert better


def test_one_beam_is_greedy_and_nothing_to_add_is_one_text_of_nothing() -> None:
    model = model_of("gru", 1)
    (found,) = beam_search(model, PREFIX, 30, 1, Sampler())
    assert list(found.ids) == list(generate(model, PREFIX, 30, Sampler(temperature=0)))
    assert [each.ids for each in beam_search(model, PREFIX, 0, 3, Sampler())] == [()]


def test_states_that_are_no_arrays_of_numpy_give_the_same_texts() -> None:
    model = model_of("lstm", 2)

    class Wrapped:
        """A model of a framework, whose states only it can read."""

        def step(self, ids: np.ndarray, state: object) -> tuple[np.ndarray, object]:
            logits, after = model.step(ids, None if state is None else state[0])  # type: ignore[index]
            return logits, [after]

    wanted = beam_search(model, PREFIX, 9, 3, Sampler())
    assert [e.ids for e in beam_search(Wrapped(), PREFIX, 9, 3, Sampler())] == [
        e.ids for e in wanted
    ]
