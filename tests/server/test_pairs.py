"""A model of pairs on a server: a completion is the target of its prompt."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from starlette.testclient import TestClient

from elman import numba
from elman.server.access import Access, Hosts, Limits
from elman.server.app import App, Served
from elman.server.completion_request import ApiError
from elman.server.translator import TargetChoice, Translator
from tests.copying import Copying, copying
from tests.server.conftest import model_of


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


def client_of(models: dict[str, Any], **limits: Any) -> TestClient:
    access = Access(None, None, Hosts(["testserver"]))
    served = {name: Served(model, Path(name)) for name, model in models.items()}
    app = App(served, Limits(**limits), access, access.hosts_at("127.0.0.1"))
    return TestClient(app.starlette)


@pytest.fixture
def client() -> Iterator[TestClient]:
    with client_of({"copy": copying(), "words": copying("word", "word")}) as found:
        yield found


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
    ("fields", "param"),
    [
        ({"temperature": 0.5}, "temperature"),
        ({"top_p": 0.5}, "top_p"),
        ({"top_k": 2}, "top_k"),
        ({"min_p": 0.5}, "min_p"),
        ({"repetition_penalty": 2}, "repetition_penalty"),
        ({"logprobs": 1}, "logprobs"),
        ({"echo": True}, "echo"),
        ({"stop": "a"}, "stop"),
    ],
)
def test_options_that_a_target_cannot_have_are_refused(
    client: TestClient, fields: dict[str, Any], param: str
) -> None:
    answer = asked(client, prompt="abc", **fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert "does not apply to a model of pairs" in error["message"]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "a text to translate must have a symbol or more, got ''"),
        ("a\tb", "a text to translate must be one line without tabs, got 'a\\tb'"),
        ("a\nb", "a text to translate must be one line without tabs, got 'a\\nb'"),
        ([1, 2], "a prompt of a model of pairs must be a text, got token ids"),
        ("a" * 9, "a prompt must have 7 tokens or fewer, got 9"),
        ("a" * 1_000_000, "a prompt must have 7 tokens or fewer, got 1000000"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_prompts_that_cannot_be_read_are_refused(
    client: TestClient, prompt: Any, message: str
) -> None:
    answer = asked(client, prompt=prompt)
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, message)


def test_the_limit_of_prompts_holds_for_pairs() -> None:
    with client_of({"copy": copying()}, max_prompt=2) as client:
        assert texts(asked(client, prompt="ab")) == [("ab", "stop")]
        assert asked(client, prompt="abc").status_code == 400


def choice_of(source: str) -> TargetChoice:
    return TargetChoice(source, source, 0, 1, 100)


def test_too_many_waiting_targets_are_refused() -> None:
    model, results = copying(kind=Pausing), SimpleQueue[Any]()
    model.model.go_on.clear()
    worker = Translator(model, Limits(max_waiting=1), results.put)
    worker.submit([choice_of("a")])
    assert model.model.begun.wait(60)
    worker.submit([choice_of("b"), choice_of("c")])
    with pytest.raises(ApiError):
        worker.submit([choice_of("d")])
    model.model.go_on.set()
    parts = [part for _ in range(2) for _, part in results.get(timeout=60)]
    assert [part.text for part in parts] == ["a", "b", "c"]
    worker.close()


def test_a_target_that_nobody_waits_for_is_not_written() -> None:
    model, results = copying(kind=Pausing), SimpleQueue[Any]()
    model.model.go_on.clear()
    worker = Translator(model, Limits(), results.put)
    worker.submit([choice_of("a")])
    assert model.model.begun.wait(60)
    left, wanted = choice_of("b"), choice_of("c")
    worker.submit([left, wanted])
    worker.cancel([left])
    model.model.go_on.set()
    parts = [part for _ in range(2) for _, part in results.get(timeout=60)]
    assert [part.text for part in parts] == ["a", "c"]
    worker.close()


def test_of_beams_each_source_is_answered_before_the_next_is_read() -> None:
    model, results = copying(kind=Pausing), SimpleQueue[Any]()
    model.model.go_on.clear()
    worker = Translator(model, Limits(), results.put)
    choices = [TargetChoice(source, source, 0, 2, 100) for source in "abc"]
    worker.submit(choices)
    assert model.model.begun.wait(60)
    worker.cancel([choices[1]])
    model.model.go_on.set()
    found = [results.get(timeout=60) for _ in range(2)]
    assert [part.text for ((_, part),) in found] == ["a", "c"]
    worker.close()


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
