"""OpenAI's client is answered as `elman generate` and `elman score` answer."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import numpy as np
import openai
import pytest
from openai.types import Completion

from elman import numba as engine
from elman import numpy as specification
from elman.inference.language_model import log_probabilities
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


@pytest.mark.parametrize("model", ENGINE)
@pytest.mark.parametrize("options", SAMPLING, ids=str)
def test_texts_are_those_of_elman_generate(
    client: openai.OpenAI, model: str, options: dict[str, Any]
) -> None:
    more = {name: options[name] for name in options if name not in ("temperature", "top_p")}
    usual = {name: options[name] for name in options if name not in more}
    for n, stop in ((1, ()), (3, ("e", "ab"))):
        found = client.completions.create(
            model=model, prompt="a c", max_tokens=70, n=n, stop=list(stop), seed=5, echo=True,
            extra_body=more, **usual,
        )  # fmt: skip
        assert texts(found) == ENGINE[model].generate(
            "a c", tokens=70, n=n, stop=stop, seed=5, **options
        )


def test_many_requests_at_once_have_the_texts_of_elman_generate(client: openai.OpenAI) -> None:
    """Each has its own prompt, seed, length and temperature, and both models are asked."""
    asked = [
        (name, LETTERS[seed % 9 + 2 :], 5 + 7 * seed % 60, seed, 0.5 + seed % 3 / 2)
        for seed in range(60)
        for name in ENGINE
    ]

    def complete(each: tuple[str, str, int, int, float]) -> str:
        model, prompt, tokens, seed, temperature = each
        (choice,) = client.completions.create(
            model=model, prompt=prompt, max_tokens=tokens, seed=seed, temperature=temperature,
            echo=True,
        ).choices  # fmt: skip
        return choice.text

    with ThreadPoolExecutor(len(asked)) as threads:
        found = list(threads.map(complete, asked))
    for (model, prompt, tokens, seed, temperature), text in zip(asked, found, strict=True):
        own = ENGINE[model].generate(prompt, tokens=tokens, seed=seed, temperature=temperature)
        assert [text] == own


def test_several_prompts_have_their_texts_in_order(client: openai.OpenAI) -> None:
    prompts = ["a", "b c", "a long prompt. " .replace("l", "a").replace("o", "b")
               .replace("n", "c").replace("g", "d").replace("p", "e").replace("r", "f")
               .replace("m", "h").replace("t", "i")]  # fmt: skip
    found = client.completions.create(
        model="letters", prompt=prompts, max_tokens=30, n=2, seed=9, echo=True
    )
    alone = [
        ENGINE["letters"].generate(prompt, tokens=30, n=2, seed=9 + 2 * n, temperature=1.0)
        for n, prompt in enumerate(prompts)
    ]
    assert texts(found) == [text for pair in alone for text in pair]
    assert found.usage
    assert found.usage.prompt_tokens == sum(map(len, prompts))
    assert found.usage.completion_tokens == 6 * 30


def test_without_echo_a_text_begins_after_its_prompt(client: openai.OpenAI) -> None:
    options = {"model": "letters", "prompt": "ab", "max_tokens": 20, "seed": 1}
    (whole,), (rest,) = (
        texts(client.completions.create(echo=echo, **options))  # type: ignore[call-overload]
        for echo in (True, False)
    )
    assert whole == "ab" + rest


def test_ids_are_read_as_the_text_that_they_are(client: openai.OpenAI) -> None:
    ids = ENGINE["letters"].codec.prefix_ids("bad")
    for prompt in (ids, [ids, ids]):
        found = client.completions.create(model="letters", prompt=prompt, temperature=0, echo=True)
        assert set(texts(found)) == {*ENGINE["letters"].generate("bad", tokens=16, temperature=0)}


@pytest.mark.parametrize("logprobs", [None, 2])
@pytest.mark.parametrize("stop", [None, ["e", "ab"], "\n"])
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
        assert [piece.finish_reason for piece in mine if piece.finish_reason] == [
            choice.finish_reason
        ]
        assert mine[-1].finish_reason
        if choice.logprobs:
            for name in ("tokens", "text_offset"):
                parts = [getattr(piece.logprobs, name) for piece in mine]
                assert [*chain.from_iterable(parts)] == getattr(choice.logprobs, name)


@pytest.mark.parametrize("stop", [["e"], ["c.", "ab"]])
def test_tokens_with_logprobs_are_those_of_the_text(client: openai.OpenAI, stop: Any) -> None:
    for seed in range(5):
        found = client.completions.create(
            model="letters", prompt="é", max_tokens=60, seed=seed, stop=stop, logprobs=1
        )
        (choice,) = found.choices
        assert choice.logprobs
        assert choice.logprobs.tokens is not None
        assert "".join(choice.logprobs.tokens) == choice.text
        assert choice.logprobs.text_offset == list(range(len(choice.text)))


def test_a_text_ends_for_a_reason(client: openai.OpenAI) -> None:
    def reason(**options: Any) -> str:
        asked = {"model": "letters", "prompt": "a", "seed": 0, "max_tokens": 400} | options
        found = client.completions.create(**asked)
        assert found.usage
        assert (found.usage.completion_tokens == 400) == (
            found.choices[0].finish_reason == "length"
        )
        return found.choices[0].finish_reason

    assert reason() == "length"
    assert reason(stop="a") == "stop"
    assert reason(model="names") == "stop"  # at the end of a line


def test_no_token_scores_a_prompt_as_elman_score_does(client: openai.OpenAI) -> None:
    lines = ["ab c.", "é", "jjj abc", ""]
    for model, frame in (("letters", "\n{}\n"), ("names", "{}\n")):
        scores = SPECIFICATION[model].score(lines)
        prompts = [frame.format(line) for line in lines]
        found = client.completions.create(
            model=model, prompt=prompts, max_tokens=0, echo=True, logprobs=3
        )
        assert texts(found) == prompts
        for choice, score in zip(found.choices, scores, strict=True):
            assert choice.finish_reason == "length"
            assert choice.logprobs
            assert choice.logprobs.token_logprobs
            known = [value for value in choice.logprobs.token_logprobs if value is not None]
            assert len(choice.logprobs.token_logprobs) - len(known) == (model == "letters")
            wanted = [token.log_probability for token in score.tokens]
            assert known == pytest.approx(wanted, abs=1e-5)
            assert sum(known) == pytest.approx(score.log_probability, abs=1e-4)


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


def test_a_prompt_that_is_scored_may_have_unknown_tokens(client: openai.OpenAI) -> None:
    found = client.completions.create(
        model="letters", prompt="a%b", max_tokens=0, echo=True, logprobs=0
    )
    (choice,) = found.choices
    assert choice.text == "a%b"
    assert choice.logprobs
    assert choice.logprobs.tokens == ["a", "<unk>", "b"]
    assert choice.logprobs.text_offset == [0, 1, 2]
    assert choice.logprobs.token_logprobs
    model = SPECIFICATION["letters"]
    ids = [model.codec.vocab["a"], model.codec.vocab.unk, model.codec.vocab["b"]]
    logits, _ = model.step(np.array([ids]))
    wanted = log_probabilities(logits[0, :-1])[[0, 1], ids[1:]]
    assert choice.logprobs.token_logprobs == pytest.approx([None, *wanted.tolist()], abs=1e-5)


@pytest.mark.parametrize(("model", "frame"), [("letters", "\n{}\n"), ("names", "{}\n")])
def test_an_evaluation_harness_reads_the_scores_of_elman(
    client: openai.OpenAI, model: str, frame: str
) -> None:
    """As lm-evaluation-harness asks: one more token is written, and left out."""
    for line in ("ab c", "é.", "d", "a%"):
        context = 1 + (model == "letters")
        found = client.completions.create(
            model=model, prompt=frame.format(line), max_tokens=1, echo=True, logprobs=1, seed=0
        )
        (choice,) = found.choices
        assert choice.logprobs
        assert choice.logprobs.token_logprobs
        scored = choice.logprobs.token_logprobs[context:-1]
        wanted = [token.log_probability for token in SPECIFICATION[model].score([line])[0].tokens]
        assert scored == pytest.approx(wanted[1:], abs=1e-5)


def test_models_are_listed_under_the_names_of_their_runs(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["letters", "names"]
    assert client.models.retrieve("names").id == "names"
    with pytest.raises(openai.NotFoundError, match="there is no model 'others'"):
        client.models.retrieve("others")


WRONG: list[tuple[dict[str, Any], int, str, str]] = [
    ({"model": "others"}, 404, "model", "there is no model 'others': GET /v1/models lists them"),
    ({"prompt": ""}, 400, "prompt", "the prompt is empty: give at least one symbol to begin with"),
    ({"prompt": "a%"}, 400, "prompt", "the model does not know '%' in the prefix; it knows"),
    ({"prompt": [99]}, 400, "prompt", "ids must be from 0 to 14, got 99"),
    ({"prompt": 5}, 400, "prompt", "prompt must be a text, token ids, or a list of these, got"),
    ({"prompt": "a" * 9000}, 400, "prompt", "a prompt must have 8192 tokens or fewer, got 9000"),
    ({"max_tokens": 5000}, 400, "max_tokens", "max_tokens must be 4096 or less, got 5000"),
    ({"max_tokens": -1}, 400, "max_tokens", "max tokens must be 0 or more, got -1"),
    ({"max_tokens": 1.5}, 400, "max_tokens", "max tokens must be a whole number, got 1.5"),
    ({"temperature": -1}, 400, "temperature", "temperature must be 0 or a finite number above"),
    ({"temperature": "hot"}, 400, "temperature", "temperature must be 0 or a finite number above"),
    ({"top_p": 0}, 400, "top_p", "top p must be above 0 and at most 1, got 0"),
    ({"top_p": 1.5}, 400, "top_p", "top p must be above 0 and at most 1, got 1.5"),
    ({"n": 0}, 400, "n", "n must be 1 or more, got 0"),
    (
        {"n": 100, "prompt": ["a", "b"]},
        400,
        "n",
        "a request must have 128 texts or fewer, got 2 prompts",
    ),
    ({"best_of": 2}, 400, "best_of", "best_of must be n, 1, got 2"),
    ({"seed": -1}, 400, "seed", "seed must be 0 or more, got -1"),
    ({"logprobs": 21}, 400, "logprobs", "logprobs must be 20 or less, got 21"),
    ({"echo": "yes"}, 400, "echo", "echo must be true or false, got 'yes'"),
    ({"stop": [""]}, 400, "stop", "stop must be texts of 1 to 1000 characters"),
    ({"stop": ["a"] * 17}, 400, "stop", "stop must be 16 texts or fewer, got 17"),
    ({"suffix": "x"}, 400, "suffix", "suffix is not supported: leave it out"),
    ({"logit_bias": {"1": 5}}, 400, "logit_bias", "logit_bias is not supported: leave it out"),
    ({"top_q": 1}, 400, "top_q", "'top_q' is not a field of a request: leave it out"),
    ({"stream_options": 1}, 400, "stream_options", "stream_options must be"),
]


@pytest.mark.parametrize(("wrong", "status", "param", "message"), WRONG, ids=str)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_wrong_is_said_in_the_apis_form(
    client: openai.OpenAI,
    wrong: dict[str, Any],
    status: int,
    param: str,
    message: str,
    stream: bool,
) -> None:
    asked = {"model": "letters", "prompt": "a", "stream": stream} | wrong
    with pytest.raises(openai.APIStatusError) as caught:
        client.post("/completions", body=asked, cast_to=Completion)
    assert caught.value.status_code == status
    error = caught.value.body
    assert isinstance(error, dict)
    assert error["message"].startswith(message)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param


def test_fields_that_ask_for_nothing_are_taken(client: openai.OpenAI) -> None:
    neutral = {
        "frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "suffix": "",
        "user": "me", "best_of": 1, "stop": None, "logprobs": None,
    }  # fmt: skip
    asked = {"model": "letters", "prompt": "a", "seed": 1}
    plain = client.completions.create(**asked)
    assert texts(client.completions.create(**asked, **neutral)) == texts(plain)
