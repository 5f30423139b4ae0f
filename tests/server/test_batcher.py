"""Texts are written together, and each ends, is dropped or fails by itself."""

import json
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from threading import Event
from typing import Any

import numpy as np
import pytest

from elman import numba as engine
from elman.errors import ElmanError
from elman.server import batcher as module
from elman.server import completion_request
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


def choice(model: Any, tokens: int, prompt: str = "b", **more: Any) -> Choice:
    """A text that is not begun yet."""
    body = json.dumps({"model": "m", "prompt": "b", "max_tokens": tokens, **more})
    asked = completion_request.parse(body.encode(), Limits(max_tokens=10**6))
    return Choice(model, asked, ReadPrompt(model.codec, prompt, scored=False), 0)


class Batch:
    """A batcher, and what it delivers."""

    def __init__(self, model: Any) -> None:
        self.model, self._results = model, SimpleQueue[Any]()
        self.batcher = Batcher(model, Limits(max_waiting=3), self._put)
        self.submit, self.cancel = self.batcher.submit, self.batcher.cancel

    def _put(self, some: list[Any]) -> None:
        for each in some:
            self._results.put(each)

    def delivered(self, number: int) -> list[Any]:
        """The next texts with their parts."""
        return [self._results.get(timeout=60) for _ in range(number)]


@pytest.fixture
def batch() -> Iterator[Batch]:
    made = Batch(Model())
    yield made
    made.model.go_on.set()
    made.batcher.close()
    assert made.batcher.running == 0


def test_texts_join_those_that_are_being_written(batch: Batch) -> None:
    model = batch.model
    first, second = choice(model, 400), choice(model, 100)
    batch.submit([first])
    assert model.begun.get(timeout=60) == 1
    batch.submit([second])
    model.go_on.set()
    assert batch.delivered(2) == [
        (second, Part("a" * 100, [], "length")),
        (first, Part("a" * 400, [], "length")),
    ]
    assert [model.begun.get(timeout=60) for _ in range(2)] == [2, 1]


def test_a_text_that_nobody_waits_for_frees_its_place(batch: Batch) -> None:
    model = batch.model
    endless, short = choice(model, 10**6), choice(model, 5)
    batch.submit([endless])
    assert model.begun.get(timeout=60) == 1
    batch.cancel([endless])
    model.go_on.set()
    batch.submit([short])
    assert batch.delivered(1)[0][0] is short


def test_only_so_many_texts_wait(batch: Batch) -> None:
    model = batch.model
    batch.submit([choice(model, 5)])
    model.begun.get(timeout=60)  # it waits no more
    waiting = [choice(model, 5) for _ in range(3)]
    batch.submit(waiting)
    with pytest.raises(ApiError, match="3 texts wait already"):
        batch.submit([choice(model, 5)])
    batch.cancel(waiting[:1])
    batch.submit([choice(model, 5)])
    assert batch.batcher.waiting == 3
    batch.cancel(waiting)


def test_no_more_texts_are_written_together_than_there_are_places(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_TEXTS", 4)
    batch.model.go_on.set()
    choices = [choice(batch.model, 5) for _ in range(10)]
    batch.submit(choices)
    assert {found for found, _ in batch.delivered(10)} == {*choices}
    begun = batch.model.begun
    assert max(begun.get() for _ in range(begun.qsize())) == 4


def test_a_failure_of_the_model_ends_the_texts_that_were_being_written_alone(
    batch: Batch,
) -> None:
    model = batch.model
    model.broken = True
    model.go_on.set()
    lost, kept = choice(model, 5), choice(model, 5)
    batch.submit([lost])
    ((found, error),) = batch.delivered(1)
    assert found is lost
    assert str(error) == "the weights of this model are broken"
    model.broken = False
    batch.submit([kept])
    assert batch.delivered(1) == [(kept, Part("a" * 5, [], "length"))]


def test_a_failure_of_a_text_is_its_own(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(ids: Sequence[int], logits: Any) -> None:
        raise MemoryError("too large")

    batch.model.go_on.set()
    lost, kept = choice(batch.model, 5), choice(batch.model, 5)
    monkeypatch.setattr(lost, "take", fail)
    batch.submit([lost, kept])
    found = dict(batch.delivered(2))
    assert str(found[lost]) == "too large"
    assert found[kept] == Part("a" * 5, [], "length")


def test_a_stream_has_a_part_of_each_step_and_no_token_more_is_drawn(batch: Batch) -> None:
    batch.model.go_on.set()
    batch.submit([choice(batch.model, 300, stream=True)])
    assert [part for _, part in batch.delivered(3)] == [
        Part("a" * 128, [], None),
        Part("a" * 128, [], None),
        Part("a" * 44, [], "length"),
    ]
    assert batch.model.drawn == [128, 128, 44]


def test_prompts_that_are_read_together_have_few_places_padding_included(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROMPT_TOKENS_AT_ONCE", 40)
    batch.model.go_on.set()
    lengths = (1, 1, 1, 10, 30, 1, 1, 100, 1, 1)
    batch.submit([choice(batch.model, 5, prompt="b" * length) for length in lengths])
    batch.delivered(len(lengths))
    assert [each for each in batch.model.read if each] == [
        [1, 1, 1, 10],
        [30],
        [1, 1],
        [100],
        [1, 1],
    ]


def test_a_token_with_log_probabilities_costs_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Batch(model_of(engine))
    monkeypatch.setattr(batch.model, "step", None)  # draws alone read the text
    batch.submit([choice(batch.model, 40, logprobs=2)])
    ((_, part),) = batch.delivered(1)
    batch.batcher.close()
    assert len(part.tokens) == 40
    assert all(token.log_probability < 0 for token in part.tokens)
