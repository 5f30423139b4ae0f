"""Texts that a model writes: where they end, how often each comes, what is refused."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from elman import numpy as specification
from elman.errors import ElmanError
from elman.inference import writing
from elman.inference.sampling import Sampler
from elman.inference.writing import Writing, write
from elman.model.weights import Architecture, initial
from elman.text.codec import Codec
from elman.text.vocab import Vocab

CODEC = Codec(Vocab(list("ab.")), "char", clean=False)


def model_of(module: Any = specification, seed: int = 0) -> Any:
    arch = Architecture("gru", len(CODEC.vocab), 5)
    values = {name: 3 * value for name, value in initial(arch, seed).items()}
    model = module.build(arch, values)
    model.codec = CODEC
    return model


def written(model: Any, prefixes: list[str], **options: Any) -> list[str]:
    return ["".join(pieces) for pieces in write(model, prefixes, Writing(**options))]


def chances(model: Any, prefix: str, stop: str, tokens: int, **options: Any) -> dict[str, float]:
    """Probability of each text, token by token; a text ends before the stop text."""
    sampler = Sampler(1.0, excluded=(CODEC.vocab.unk,), **options)
    found: Counter[str] = Counter()

    def go_on(text: str, chance: float) -> None:
        added = text[len(prefix) :]
        if stop in added:
            found[prefix + added.partition(stop)[0]] += chance  # type: ignore[assignment]
        elif len(added) == tokens:
            found[text] += chance  # type: ignore[assignment]
        else:
            ids = CODEC.prefix_ids(text)
            seen = np.isin(np.arange(len(CODEC.vocab)), ids)
            logits = model.step(np.array([ids]))[0][0, -1]
            for token, share in enumerate(sampler.probabilities(logits, seen)):
                if share:
                    go_on(text + CODEC.text([token]), chance * share)

    go_on(prefix, 1.0)
    return dict(found)


@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.8}], ids=str)
def test_texts_with_a_stop_come_as_often_as_their_probabilities(options: dict[str, float]) -> None:
    number, model = 3000, model_of()
    expected = chances(model, "ba", "b.", 4, **options)
    assert sum(expected.values()) == pytest.approx(1)
    asked = {"tokens": 4, "stop": ("b.",), "n": number, "temperature": 1.0} | options
    counts = Counter(written(model, ["ba"], **asked))
    assert counts.keys() <= expected.keys()
    assert chi_square_is_likely(counts, expected)


def chi_square_is_likely(counts: Counter[str], expected: dict[str, float]) -> bool:
    """True unless chi-square is beyond its 99.99 % point, by Wilson and Hilferty's formula.

    Texts that are expected fewer than five times count together.
    """
    number = counts.total()
    many = [text for text, chance in expected.items() if chance * number >= 5]
    observed = np.array([*(counts[text] for text in many), 0.0])
    wanted = np.array([*(number * expected[text] for text in many), 0.0])
    observed[-1], wanted[-1] = number - observed.sum(), number - wanted.sum()
    assert len(many) > 3
    assert wanted[-1] >= 5
    degrees = len(many)
    bound = degrees * (1 - 2 / (9 * degrees) + 3.719 * (2 / (9 * degrees)) ** 0.5) ** 3
    return bool(((observed - wanted) ** 2 / wanted).sum() < bound)


def test_every_prefix_has_its_samples_with_seeds_one_after_the_other() -> None:
    model = model_of()
    found = written(model, ["a", "b"], n=3, tokens=9, seed=4)
    alone = [written(model, [prefix], tokens=9, seed=4 + k) for k, prefix in enumerate("aaabbb")]
    assert found == [text for texts in alone for text in texts]
    assert len(set(found)) > 3


def test_a_stop_text_is_looked_for_in_what_is_added_alone() -> None:
    model = model_of()
    (whole,) = written(model, ["ab.a"], tokens=50)
    assert whole.startswith("ab.a")
    added = whole[4:]
    stop = added[10:13]
    (cut,) = written(model, ["ab.a"], tokens=50, stop=("zz", stop))
    assert cut == "ab.a" + added.partition(stop)[0]


def test_the_best_of_a_beam_search_end_before_a_stop_text() -> None:
    model = model_of()
    texts = written(model, ["a", "b"], tokens=6, beams=4, n=2, stop=(".",))
    assert [text[0] for text in texts] == ["a", "a", "b", "b"]
    assert len(set(texts)) == 4
    assert not any("." in text for text in texts)


def test_the_unknown_symbol_is_written_only_where_it_is_allowed() -> None:
    model = model_of()
    model.parameters["linear.bias"] += 50 * np.eye(len(CODEC.vocab), dtype="f4")[CODEC.vocab.unk]
    for more in ({}, {"beams": 2}):
        assert "<unk>" not in written(model, ["a"], **more)[0]
        assert "<unk>" in written(model, ["a"], allow_unknown=True, **more)[0]


def test_groups_of_texts_are_written_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of()
    wanted = written(model, ["a"], n=5, tokens=9)
    monkeypatch.setattr(writing, "TEXTS_AT_ONCE", 2)
    assert written(model, ["a"], n=5, tokens=9) == wanted


REFUSED = [
    ({"tokens": -1}, "tokens must be 0 or more"),
    ({"seed": 2**32}, "seed must be 4294967295 or less"),
    ({"stop": 3}, "stop must be a text or a tuple of texts, got 3"),
    ({"beams": 0}, "beams must be 1 or more"),
    ({"beams": 257}, "beams must be 256 or less"),
    ({"beams": 2, "temperature": 0.5}, "temperature conflicts with beams, got 0.5"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_what_cannot_be_written_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ElmanError) as told:
        Writing(**options)
    assert message in str(told.value)
