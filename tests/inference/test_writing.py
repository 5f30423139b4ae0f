"""Texts that a model writes: where they end, how often each comes, what is refused."""

import math
from collections import Counter
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import typer

from elman import numpy as specification
from elman.cli import app
from elman.errors import ElmanError
from elman.inference import writing
from elman.inference.sampling import Sampler
from elman.inference.writing import Writing, write
from elman.inference.writing_options import SamplerOptions
from elman.model.weights import Architecture, initial
from elman.server.completion_request import Options
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
    observed[-1], wanted[-1] = number - observed.sum(), max(number - wanted.sum(), 1e-9)
    if wanted[-1] < 5:
        observed[-2:], wanted[-2:] = observed[-2:].sum(), wanted[-2:].sum()
        observed, wanted = observed[:-1], wanted[:-1]
    assert len(many) > 3
    degrees = len(observed) - 1
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


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"tokens": -1}, "tokens must be 0 or more"),
        ({"seed": 2**32}, "seed must be 4294967295 or less"),
        ({"stop": 3}, "stop must be a text or a tuple of texts, got 3"),
        ({"beams": 0}, "beams must be 1 or more"),
        ({"beams": 257}, "beams must be 256 or less"),
        ({"beams": 2, "temperature": 0.5}, "temperature conflicts with beams, got 0.5"),
    ],
)
def test_what_cannot_be_written_is_refused(options: dict[str, Any], fragment: str) -> None:
    with pytest.raises(ElmanError) as told:
        Writing(**options)
    assert fragment in str(told.value)


SAMPLING = {field.name for field in fields(SamplerOptions)}


def test_the_command_the_server_and_the_sampler_have_all_options_of_a_sampler() -> None:
    generate = typer.main.get_command(app).commands["generate"]  # type: ignore[attr-defined]
    assert {each.name for each in generate.params} >= {each.name for each in fields(Writing)}
    for kind in (Sampler, Options):
        assert {field.name for field in fields(kind)} >= SAMPLING


@pytest.mark.parametrize("kind", [Sampler, Writing, Options])
@pytest.mark.parametrize(
    ("name", "values", "rule"),
    [
        ("temperature", [-1, math.nan, math.inf], "0 or a finite number above"),
        ("top_k", [0], "1 or more"),
        ("top_k", [2**31 + 1], "2147483648 or less"),
        ("top_p", [0, 1.5], "above 0 and at most 1"),
        ("min_p", [-0.1, 1.5], "above 0 and at most 1"),
        ("repetition_penalty", [0.009, 100.1, math.nan], "from 0.01 to 100.0"),
    ],
)
def test_a_value_out_of_bounds_has_the_same_message_everywhere(
    kind: Any, name: str, values: list[float], rule: str
) -> None:
    for value in values:
        with pytest.raises(ElmanError) as told:
            kind(**{name: value})
        assert str(told.value).startswith(f"{name.replace('_', ' ')} must be {rule}, got {value}")


def test_a_text_is_sampled_at_the_usual_temperature_unless_one_is_given() -> None:
    assert Sampler.of(Writing()).temperature == 0.8
    assert Sampler.of(Writing(temperature=0, top_k=3)) == Sampler(0, 3)
