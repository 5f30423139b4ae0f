"""OpenAI's client is answered as `elman generate` and `elman score` answer."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import openai
import pytest
from openai.types import Completion

from elman import numba as engine
from elman import numpy as specification
from tests.server.conftest import LETTERS, Server, model_of

ENGINE = {"letters": model_of(engine), "names": model_of(engine, lines=True)}
SPECIFICATION = {"letters": model_of(specification), "names": model_of(specification, lines=True)}


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with server.client() as made:
        yield made


def texts(completion: Completion) -> list[str]:
    assert [choice.index for choice in completion.choices] == list(range(len(completion.choices)))
    return [choice.text for choice in completion.choices]


SAMPLING: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0.7},
    {"temperature": 1.3, "top_p": 0.8},
    {"temperature": 1.0, "top_k": 4, "min_p": 0.05, "repetition_penalty": 1.4},
]


def test_many_requests_at_once_have_the_texts_of_elman_generate(client: openai.OpenAI) -> None:
    """Each has its own prompt, seed, length, number and sampling, and both models are asked."""
    asked: list[dict[str, Any]] = [
        {"model": name, "prompt": LETTERS[seed % 9 + 2 :], "max_tokens": 5 + 7 * seed % 60,
         "n": 1 + seed % 3, "stop": ["e", "ab"] if seed % 5 else [], "seed": seed,
         **SAMPLING[seed % 4]}
        for seed in range(60)
        for name in ENGINE
    ]  # fmt: skip

    def complete(options: dict[str, Any]) -> list[str]:
        body = options | {"echo": True}
        return texts(client.post("/completions", body=body, cast_to=Completion))

    with ThreadPoolExecutor(len(asked)) as threads:
        found = list(threads.map(complete, asked))
    for options, written in zip(asked, found, strict=True):
        model, prompt = ENGINE[options.pop("model")], options.pop("prompt")
        assert written == model.generate(prompt, tokens=options.pop("max_tokens"), **options)


def test_several_prompts_have_their_texts_in_order(client: openai.OpenAI) -> None:
    prompts = ["a", "b c", "a jade. " * 3]
    more: dict[str, Any] = {"max_tokens": 30, "n": 2, "seed": 9}
    ids = ENGINE["letters"].codec.prefix_ids("a")
    alone = [
        ENGINE["letters"].generate(prompt, tokens=30, n=2, seed=9 + 2 * n, temperature=1.0)
        for n, prompt in enumerate(prompts)
    ]
    for sent in (prompts, [ids, *prompts[1:]]):
        found = client.completions.create(model="letters", prompt=sent, echo=True, **more)
        assert texts(found) == [text for pair in alone for text in pair]
        assert found.usage
        assert found.usage.prompt_tokens == sum(map(len, prompts))
        assert found.usage.completion_tokens == 6 * 30
    rest = texts(client.completions.create(model="letters", prompt=prompts, **more))
    assert [text[len("a") :] for text in alone[0]] == rest[:2]


@pytest.mark.parametrize(("stop", "logprobs"), [(None, 2), (["e", "ab"], None), ("\n", 1)])
def test_a_stream_brings_the_same_text_piece_by_piece(
    client: openai.OpenAI, stop: Any, logprobs: int | None
) -> None:
    options: dict[str, Any] = {
        "model": "letters", "prompt": ["a c", "b"], "max_tokens": 90, "n": 2, "seed": 3,
        "stop": stop, "echo": True, "logprobs": logprobs,
    }  # fmt: skip
    whole = client.completions.create(**options)
    pieces = list(
        client.completions.create(stream=True, stream_options={"include_usage": True}, **options)
    )
    assert pieces.pop().usage == whole.usage
    for choice in whole.choices:
        mine = [piece.choices[0] for piece in pieces if piece.choices[0].index == choice.index]
        assert "".join(piece.text for piece in mine) == choice.text
        reasons = [piece.finish_reason for piece in mine]
        assert reasons == [None] * (len(mine) - 1) + [choice.finish_reason]
        if choice.logprobs:
            for name in ("tokens", "text_offset"):
                parts = [getattr(piece.logprobs, name) for piece in mine]
                assert [*chain.from_iterable(parts)] == getattr(choice.logprobs, name)
            assert "".join(choice.logprobs.tokens or ()) == choice.text
            assert choice.logprobs.text_offset == list(range(len(choice.text)))


@pytest.mark.parametrize(
    ("more", "reason"),
    [({}, "length"), ({"stop": "a"}, "stop"), ({"model": "names"}, "stop")],  # at a line's end
)
def test_a_text_ends_for_a_reason(client: openai.OpenAI, more: dict[str, Any], reason: str) -> None:
    asked: dict[str, Any] = {"model": "letters", "prompt": "a", "seed": 0, "max_tokens": 400}
    found = client.completions.create(**asked | more)
    assert found.usage
    assert found.choices[0].finish_reason == reason
    assert (found.usage.completion_tokens == 400) == (reason == "length")


@pytest.mark.parametrize(("model", "frame"), [("letters", "\n{}\n"), ("names", "{}\n")])
@pytest.mark.parametrize("written", [0, 1])
def test_a_prompt_is_scored_as_by_elman_score(
    client: openai.OpenAI, model: str, frame: str, written: int
) -> None:
    """Unknown tokens too. lm-evaluation-harness has a token more written, and leaves it out."""
    lines = ["ab c.", "é", "jjj abc", "a%b"] + [""] * (not written)
    prompts = [frame.format(line) for line in lines]
    found = client.completions.create(
        model=model, prompt=prompts, max_tokens=written, echo=True, logprobs=3, seed=0
    )
    for choice, prompt, score in zip(
        found.choices, prompts, SPECIFICATION[model].score(lines), strict=True
    ):
        assert choice.text.startswith(prompt)
        assert choice.logprobs
        scored: list[Any] = (choice.logprobs.token_logprobs or [])[: len(prompt)]
        assert scored.count(None) == (model == "letters")
        wanted = [token.log_probability for token in score.tokens]
        assert scored[-len(wanted) :] == pytest.approx(wanted, abs=1e-5)
        tokens = [token if token in LETTERS else "<unk>" for token in prompt]
        assert (choice.logprobs.tokens or [])[: len(prompt)] == tokens
        if not written:
            assert (choice.text, choice.finish_reason) == (prompt, "length")
            assert choice.logprobs.text_offset == list(range(len(prompt)))


def test_the_likeliest_tokens_are_those_of_elman_next(client: openai.OpenAI) -> None:
    found = client.completions.create(
        model="letters", prompt="ab", max_tokens=1, logprobs=4, seed=2
    )
    (choice,) = found.choices
    assert choice.logprobs
    assert choice.logprobs.top_logprobs
    (top,) = choice.logprobs.top_logprobs
    wanted = {token.text: token.log_probability for token in SPECIFICATION["letters"].next("ab", 4)}
    assert {text: top[text] for text in wanted} == pytest.approx(wanted, abs=1e-5)
    assert top.keys() <= {*wanted, choice.text}


def test_models_are_listed_under_the_names_of_their_runs(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["letters", "names"]
    assert client.models.retrieve("names").id == "names"
    with pytest.raises(openai.NotFoundError, match="there is no model 'others'"):
        client.models.retrieve("others")


WRONG: list[tuple[str, Any, str]] = [
    ("model", "others", "there is no model 'others': GET /v1/models lists them"),
    ("prompt", "", "the prompt is empty: give at least one symbol to begin with"),
    ("prompt", "a%", "the model does not know '%' in the prefix; it knows"),
    ("prompt", [15], "ids must be from 0 to 14, got 15"),
    ("prompt", 5, "prompt must be a text, token ids, or a list of these, got a number"),
    ("prompt", "a" * 8193, "a prompt must have 8192 tokens or fewer, got 8193"),
    ("max_tokens", 4097, "max_tokens must be 4096 or less, got 4097"),
    ("top_p", 0, "top p must be above 0 and at most 1, got 0"),
    ("n", 129, "n must be 128 or less, got 129"),
    ("n", 65, "a request must have 128 texts or fewer, got 2 prompts with 65 each"),
    ("best_of", 2, "best_of must be n, 1, got 2"),
    ("logprobs", 21, "logprobs must be 20 or less, got 21"),
    ("stop", [""], "stop must be texts of 1 to 1000 characters"),
    ("stop", "a" * 1001, "stop must be texts of 1 to 1000 characters"),
    ("stop", ["a"] * 17, "stop must be 16 texts or fewer, got 17"),
    ("suffix", "x", "suffix is not supported: leave it out"),
    ("top_q", 1, "'top_q' is not a field of a request: leave it out"),
    ("stream_options", 1, "stream_options must be"),
]


@pytest.mark.parametrize(("field", "value", "message"), WRONG, ids=lambda value: str(value)[:20])
def test_what_is_wrong_is_said_in_the_apis_form(
    client: openai.OpenAI, field: str, value: Any, message: str
) -> None:
    asked = {"model": "letters", "prompt": ["a", "b"] if value == 65 else "a", field: value}
    for stream in (False, True):
        with pytest.raises(openai.APIStatusError) as caught:
            client.post("/completions", body=asked | {"stream": stream}, cast_to=Completion)
        assert caught.value.status_code == (404 if field == "model" else 400)
        error = caught.value.body
        assert isinstance(error, dict)
        assert error["message"].startswith(message)
        assert error["type"] == "invalid_request_error"
        assert error["param"] == field


def test_fields_that_ask_for_nothing_are_taken(client: openai.OpenAI) -> None:
    neutral: dict[str, Any] = {
        "frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "suffix": "",
        "user": "me", "best_of": 1, "stop": None, "logprobs": None,
    }  # fmt: skip
    asked: dict[str, Any] = {"model": "letters", "prompt": "a", "seed": 1}
    plain = client.completions.create(**asked)
    assert texts(client.completions.create(**asked, **neutral)) == texts(plain)
