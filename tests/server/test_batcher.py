"""Texts are written together, and each ends, is dropped or fails by itself."""

from collections.abc import Sequence
from functools import partial
from queue import SimpleQueue
from threading import Event
from typing import Any

import numpy as np
import pytest

from elman import numba as engine
from elman.errors import ElmanError
from elman.server import batcher, completion_request
from elman.server.access import Limits
from elman.server.batcher import Batcher
from elman.server.choice import Choice, Part, ReadPrompt
from elman.server.completion_request import ApiError
from elman.text.codec import Codec
from elman.text.vocab import Vocab
from tests.server.conftest import model_of

CODEC = Codec(Vocab(list("ab")), "char", clean=False)


class Model:
    """A model that writes "a" when it is let go on, and tells which texts were present."""

    def __init__(self) -> None:
        self.codec, self.present = CODEC, 0
        self.begun, self.go_on, self.broken = SimpleQueue[int](), Event(), False
        self.read: list[list[int]] = []  # lengths of prefixes that are read together
        self.drawn: list[int] = []  # tokens

    def continuations(self) -> "Model":
        self.present = 0
        return self

    def add(self, prefixes: Sequence[Any], samplers: Sequence[Any], seeds: Sequence[int]) -> None:
        self.present += len(prefixes)
        self.read.append(list(map(len, prefixes)))

    def draw(self, tokens: int, with_logits: bool = False) -> Any:
        self.begun.put(self.present)
        self.drawn.append(tokens)
        self.go_on.wait(60)
        if self.broken:
            raise ElmanError("the weights of this model are broken")
        ids = np.full((self.present, tokens), CODEC.vocab["a"])
        return ids, np.empty((self.present, tokens, 0))

    def keep(self, texts: Sequence[int]) -> None:
        self.present = len(texts)


def choice(model: Model, tokens: int, stream: bool = False, prompt: str = "b") -> Choice:
    body = (
        f'{{"model": "m", "prompt": "b", "max_tokens": {tokens}, "stream": {str(stream).lower()}}}'
    )
    asked = completion_request.parse(body.encode(), Limits(max_tokens=10**6))
    return Choice(model, asked, ReadPrompt(CODEC, prompt, scored=False), 0)


def put(results: SimpleQueue[Any], some: list[Any]) -> None:
    for each in some:
        results.put(each)


def started(max_waiting: int = 100) -> tuple[Model, Batcher, SimpleQueue[Any]]:
    model, results = Model(), SimpleQueue[Any]()
    made = Batcher(
        model, Limits(max_waiting=max_waiting), lambda some: [results.put(each) for each in some]
    )  # type: ignore[func-returns-value]
    return model, made, results


def test_texts_join_those_that_are_being_written() -> None:
    model, made, results = started()
    first, second = choice(model, 400), choice(model, 100)
    made.submit([first])
    assert model.begun.get(timeout=60) == 1
    made.submit([second])
    model.go_on.set()
    finished = [results.get(timeout=60) for _ in range(2)]
    assert finished == [
        (second, Part("a" * 100, [], "length")),
        (first, Part("a" * 400, [], "length")),
    ]
    assert model.begun.get(timeout=60) == 2
    assert model.begun.get(timeout=60) == 1
    made.close()


def test_a_text_that_nobody_waits_for_frees_its_place() -> None:
    model, made, results = started()
    endless, short = choice(model, 10**6), choice(model, 5)
    made.submit([endless])
    assert model.begun.get(timeout=60) == 1
    made.cancel([endless])
    model.go_on.set()
    made.submit([short])
    assert results.get(timeout=60)[0] is short
    made.close()
    assert made.running == 0


def test_only_so_many_texts_wait() -> None:
    model, made, _ = started(max_waiting=3)
    made.submit([choice(model, 5)])
    model.begun.get(timeout=60)  # it waits no more
    waiting = [choice(model, 5) for _ in range(3)]
    made.submit(waiting)
    with pytest.raises(ApiError, match="3 texts wait already"):
        made.submit([choice(model, 5)])
    made.cancel(waiting[:1])
    made.submit([choice(model, 5)])
    assert made.waiting == 3
    model.go_on.set()
    made.close()


def test_no_more_texts_are_written_together_than_there_are_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batcher, "MAX_TEXTS", 4)
    model, made, results = started()
    model.go_on.set()
    choices = [choice(model, 5) for _ in range(10)]
    made.submit(choices)
    assert {results.get(timeout=60)[0] for _ in choices} == {*choices}
    made.close()
    together = [model.begun.get() for _ in range(model.begun.qsize())]
    assert max(together) == 4


def test_a_failure_of_the_model_ends_the_texts_that_were_being_written_alone() -> None:
    model, made, results = started()
    model.broken = True
    model.go_on.set()
    lost, kept = choice(model, 5), choice(model, 5)
    made.submit([lost])
    found, error = results.get(timeout=60)
    assert found is lost
    assert str(error) == "the weights of this model are broken"
    model.broken = False
    made.submit([kept])
    assert results.get(timeout=60) == (kept, Part("a" * 5, [], "length"))
    made.close()


def test_a_stream_has_a_part_of_each_step() -> None:
    model, made, results = started()
    model.go_on.set()
    made.submit([choice(model, 300, stream=True)])
    parts = [results.get(timeout=60)[1] for _ in range(3)]
    assert parts == [
        Part("a" * 128, [], None),
        Part("a" * 128, [], None),
        Part("a" * 44, [], "length"),
    ]
    made.close()


def test_a_failure_of_a_text_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model, made, results = started()
    model.go_on.set()
    lost, kept = choice(model, 5), choice(model, 5)

    def fail(ids: Sequence[int], logits: Any) -> None:
        raise MemoryError("too large")

    monkeypatch.setattr(lost, "take", fail)
    made.submit([lost, kept])
    found = dict(results.get(timeout=60) for _ in range(2))
    assert str(found[lost]) == "too large"
    assert found[kept] == Part("a" * 5, [], "length")
    made.close()
    assert made.running == 0


def test_prompts_that_are_read_together_have_few_places_padding_included(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batcher, "PROMPT_TOKENS_AT_ONCE", 40)
    model, made, results = started()
    model.go_on.set()
    lengths = (1, 1, 1, 30, 1, 1, 100, 1, 1)
    choices = [choice(model, 5, prompt="b" * length) for length in lengths]
    made.submit(choices)
    assert {results.get(timeout=60)[0] for _ in choices} == {*choices}
    made.close()
    assert [length for together in model.read for length in together] == [*lengths]
    for together in model.read:
        assert len(together) == 1 or len(together) * max(together) <= 40


def test_no_more_tokens_are_drawn_than_any_text_needs() -> None:
    model, made, results = started()
    model.go_on.set()
    made.submit([choice(model, 3)])
    results.get(timeout=60)
    made.close()
    assert model.drawn == [3]


def test_a_token_with_log_probabilities_costs_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    model, results = model_of(engine), SimpleQueue[Any]()
    monkeypatch.setattr(model, "step", None)  # draws alone read the text
    body = b'{"model": "m", "prompt": "b", "max_tokens": 40, "logprobs": 2}'
    asked = completion_request.parse(body, Limits(max_tokens=100))
    written = Choice(model, asked, ReadPrompt(model.codec, "b", scored=False), 0)
    made = Batcher(model, Limits(), partial(put, results))
    made.submit([written])
    _, part = results.get(timeout=60)
    made.close()
    assert len(part.tokens) == 40
    assert all(token.log_probability < 0 for token in part.tokens)
