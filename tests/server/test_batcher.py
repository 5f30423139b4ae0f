"""Texts are written together, and each ends, is dropped or fails by itself."""

from collections.abc import Sequence
from queue import SimpleQueue
from threading import Event
from typing import Any

import numpy as np
import pytest

from elman.core.errors import ElmanError
from elman.core.text.codec import Codec
from elman.core.text.vocab import Vocab
from elman.server import batcher, completion_request
from elman.server.batcher import Batcher, FullError
from elman.server.choice import Choice, Part
from elman.server.limits import Limits

CODEC = Codec(Vocab(list("ab")), "char", clean=False)


class Model:
    """A model that writes "a" when it is let go on, and tells which texts were present."""

    def __init__(self) -> None:
        self.codec, self.present = CODEC, 0
        self.begun, self.go_on, self.broken = SimpleQueue[int](), Event(), False

    def continuations(self) -> "Model":
        self.present = 0
        return self

    def add(self, prefixes: Sequence[Any], samplers: Sequence[Any], seeds: Sequence[int]) -> None:
        self.present += len(prefixes)

    def draw(self, tokens: int) -> Any:
        self.begun.put(self.present)
        self.go_on.wait(60)
        if self.broken:
            raise ElmanError("the weights of this model are broken")
        return np.full((self.present, tokens), CODEC.vocab["a"])

    def keep(self, texts: Sequence[int]) -> None:
        self.present = len(texts)


def choice(model: Model, tokens: int, stream: bool = False) -> Choice:
    body = (
        f'{{"model": "m", "prompt": "b", "max_tokens": {tokens}, "stream": {str(stream).lower()}}}'
    )
    asked = completion_request.parse(body.encode(), Limits(max_tokens=10**6))
    return Choice(model, asked, CODEC.prefix_ids("b"), 0)


def started(max_waiting: int = 100) -> tuple[Model, Batcher, SimpleQueue[Any]]:
    model, results = Model(), SimpleQueue[Any]()
    made = Batcher(model, max_waiting, lambda some: [results.put(each) for each in some])  # type: ignore[func-returns-value]
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
    assert made.present == 0


def test_only_so_many_texts_wait() -> None:
    model, made, _ = started(max_waiting=3)
    made.submit([choice(model, 5)])
    model.begun.get(timeout=60)  # it waits no more
    waiting = [choice(model, 5) for _ in range(3)]
    made.submit(waiting)
    with pytest.raises(FullError):
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


def test_a_failure_ends_the_texts_that_it_concerns_alone() -> None:
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
