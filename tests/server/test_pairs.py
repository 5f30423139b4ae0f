"""A model of pairs on a server: a completion is the target of its prompt."""

import json
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest
from starlette.testclient import TestClient

from elman import numba
from elman.server.access import Limits
from elman.server.completion_request import ApiError
from elman.server.translator import TargetChoice, Translator
from tests.copying import Copying, copying
from tests.server.conftest import client_of, model_of


class Pausing(Copying):
    """Copies when it is let go on."""

    def __init__(self, codec: Any) -> None:
        super().__init__(codec)
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def encoded(self, src: Any, lengths: Any) -> Any:
        self.begun.set()
        self.go_on.wait(60)
        return super().encoded(src, lengths)


@pytest.fixture
def client() -> Iterator[TestClient]:
    with client_of({"copy": copying(), "words": copying("word", "word")}) as found:
        yield found


@pytest.fixture
def pausing() -> Iterator[tuple[Pausing, Translator, SimpleQueue[Any]]]:
    """A model that is not let go on, and has a text to write; a place for one waits."""
    model, results = copying(kind=Pausing), SimpleQueue[Any]()
    model.model.go_on.clear()
    worker = Translator(model, Limits(max_waiting=1), results.put)
    yield model.model, worker, results
    model.model.go_on.set()
    worker.close()


def asked(client: TestClient, **fields: Any) -> Any:
    return client.post("/v1/completions", json={"model": "copy", **fields})


def texts(answer: Any) -> list[tuple[str, str]]:
    assert answer.status_code == 200, answer.text
    return [(each["text"], each["finish_reason"]) for each in answer.json()["choices"]]


def test_a_completion_is_the_target_of_its_prompt(client: TestClient) -> None:
    answer = asked(client, prompt="abc")
    assert texts(answer) == [("abc", "stop")]
    assert answer.json()["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 3,
        "total_tokens": 6,
    }
    assert texts(asked(client, prompt=["d", "abc", "d"], temperature=0, seed=1)) == [
        ("d", "stop"),
        ("abc", "stop"),
        ("d", "stop"),
    ]
    assert texts(asked(client, model="words", prompt="a  c")) == [("a c", "stop")]


def test_the_n_targets_are_the_best_of_n_beams(client: TestClient) -> None:
    (wanted,) = copying().translate(["abc"], beams=3, n=3)
    found = texts(asked(client, prompt="abc", n=3))
    assert found[: len(wanted)] == [(each.text, "stop") for each in wanted]


def test_a_target_is_whole_unless_the_request_bounds_it(client: TestClient) -> None:
    assert texts(asked(client, prompt="abcdefg")) == [("abcdefg", "stop")]
    assert texts(asked(client, prompt="abcdefg", max_tokens=2)) == [("ab", "length")]
    with client_of({"copy": copying()}, max_prompt=2) as bounded:
        assert texts(asked(bounded, prompt="ab")) == [("ab", "stop")]
        assert asked(bounded, prompt="abc").status_code == 400


def test_a_stream_sends_each_target_as_an_event(client: TestClient) -> None:
    body = {"prompt": ["ab", "c"], "stream": True, "stream_options": {"include_usage": True}}
    answer = asked(client, **body)
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert events[-1] == "[DONE]"
    parts = [json.loads(event) for event in events[:-1]]
    choices = [part["choices"][0] for part in parts[:-1]]
    assert sorted((each["index"], each["text"]) for each in choices) == [(0, "ab"), (1, "c")]
    assert parts[-1]["usage"]["completion_tokens"] == 3


def test_unknown_symbols_are_read_as_the_unknown_symbol_and_named(client: TestClient) -> None:
    answer = asked(client, prompt=["aßüß", "ab"])
    assert texts(answer)[0][0].startswith("a")
    assert [each["unknown"] for each in answer.json()["choices"]] == [["ß", "ü"], []]
    assert texts(asked(client, prompt="a\0"))[0][0].startswith("a")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        *((name, 0.5, "") for name in ("temperature", "top_p", "min_p")),
        *(("top_k", 2, ""), ("repetition_penalty", 2, ""), ("logprobs", 1, "")),
        *(("echo", True, ""), ("stop", "a", "")),
        ("prompt", "", "a text to translate must have a symbol or more, got ''"),
        ("prompt", "a\tb", "a text to translate must be one line without tabs, got 'a\\tb'"),
        ("prompt", [1, 2], "a prompt of a model of pairs must be a text, got token ids"),
        ("prompt", "a" * 8, "a prompt must have 7 tokens or fewer, got 8"),
    ],
)
def test_what_a_target_cannot_have_is_refused(
    client: TestClient, field: str, value: Any, message: str
) -> None:
    answer = asked(client, **{"prompt": "abc", field: value})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, field)
    message = message or f"{field} does not apply to a model of pairs, got "
    assert error["message"].startswith(message)


def choice_of(source: str, n: int = 1) -> TargetChoice:
    return TargetChoice(source, source, 0, n, 100)


def test_too_many_waiting_targets_are_refused(
    pausing: tuple[Pausing, Translator, SimpleQueue[Any]],
) -> None:
    model, worker, results = pausing
    worker.submit([choice_of("a")])
    assert model.begun.wait(60)
    worker.submit([choice_of("b"), choice_of("c")])
    with pytest.raises(ApiError):
        worker.submit([choice_of("d")])
    model.go_on.set()
    parts = [part for _ in range(2) for _, part in results.get(timeout=60)]
    assert [part.text for part in parts] == ["a", "b", "c"]


@pytest.mark.parametrize("beams", [1, 2])
def test_a_target_that_nobody_waits_for_is_not_written(
    pausing: tuple[Pausing, Translator, SimpleQueue[Any]], beams: int
) -> None:
    """Of beams each source is answered before the next one is read."""
    model, worker, results = pausing
    first, left, wanted = (choice_of(source, beams) for source in "abc")
    worker.submit([first, left, wanted] if beams > 1 else [first])
    assert model.begun.wait(60)
    if beams == 1:
        worker.submit([left, wanted])
    worker.cancel([left])
    model.go_on.set()
    found = [results.get(timeout=60) for _ in range(2)]
    assert [part.text for ((_, part),) in found] == ["a", "c"]


def test_a_failure_of_the_model_is_an_error_and_the_next_request_is_answered() -> None:
    model = copying()
    with client_of({"copy": model}) as client:
        model.model.broken = True
        answer = asked(client, prompt="a")
        assert answer.status_code == 500
        assert "the weights of this model are broken" in answer.json()["error"]["message"]
        model.model.broken = False
        assert texts(asked(client, prompt="a")) == [("a", "stop")]


def test_pairs_have_no_page_and_stand_beside_language_models() -> None:
    with client_of({"copy": copying()}) as client:
        front = client.get("/")
        assert (front.status_code, front.text) == (
            404,
            "models of pairs have no page: send prompts to /v1/completions\n",
        )
    with client_of({"copy": copying(), "letters": model_of(numba)}) as client:
        assert client.get("/pages/copy").status_code == 404
        names = [each["id"] for each in client.get("/v1/models").json()["data"]]
        assert names == ["copy", "letters"]
        assert texts(asked(client, prompt="ab")) == [("ab", "stop")]
        answer = asked(client, model="letters", prompt="abc", max_tokens=3)
        assert answer.status_code == 200
        assert "unknown" not in answer.json()["choices"][0]
