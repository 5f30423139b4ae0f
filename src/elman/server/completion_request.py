"""Requests of OpenAI's completions API, validated, and their refusals."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from elman import setting_fields
from elman.errors import ElmanError, printable
from elman.files import json_files
from elman.inference.sampling import Sampler
from elman.inference.writing_options import SamplerOptions
from elman.server.access import Limits
from elman.setting_fields import flag, redefined, whole
from elman.valid_values import MAX_SEED

MAX_TEXTS = 128  # in a request: prompts times n
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 1000
MAX_LOGPROBS = 20
MAX_JSON_VALUES = 1 << 17  # including ids of prompts
Prompt = str | list[int]

# Fields of the API that have no effect with these values, and are refused with others.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "suffix": ("",),
}
UNUSED = ("user",)


class ApiError(Exception):
    """A refused request.

    - `status`: the HTTP status code.
    - `code`: a word for programs.
    - `param`: the invalid field of the request.
    - `headers`: additional headers of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param
        self.headers = dict(headers or {})

    def content(self) -> dict[str, Any]:
        """Body of the response."""
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": printable(str(self)),
                "type": kinds.get(self.status, kind),
                "param": self.param,
                "code": self.code,
            }
        }


def refusal(param: str | None, message: str, code: str = "invalid_value") -> ApiError:
    """ApiError for an invalid field of a request."""
    return ApiError(400, message, code, param)


@dataclass(frozen=True, kw_only=True)
class Options(SamplerOptions):
    """Numeric and boolean options of a request, with the API's defaults."""

    max_tokens: int = whole(16, "Maximum tokens of a text.", at_least=0)
    temperature: float = redefined(SamplerOptions, "temperature", 1.0)
    top_p: float = redefined(SamplerOptions, "top_p", 1.0)
    n: int = whole(1, "Texts for each prompt.", at_least=1, at_most=MAX_TEXTS)
    best_of: int | None = whole(None, "The same as n.", at_least=1, at_most=MAX_TEXTS)
    seed: int | None = whole(None, "Seed of the first text.", at_least=0, at_most=MAX_SEED)
    logprobs: int | None = whole(None, "Likeliest tokens.", at_least=0, at_most=MAX_LOGPROBS)
    echo: bool = flag("Begin with the prompt.")
    stream: bool = flag("Send the text as it is written.")


@dataclass(frozen=True)
class CompletionRequest:
    """A request for continuations of each of its prompts.

    - `sampler`: sampler of all texts; it does not exclude the unknown symbol yet.
    - `seed`: seed of the first text; each further text adds 1.
    - `include_usage`: end a stream with the numbers of tokens.
    - `given`: names of the options that the request has.
    """

    model: str
    prompts: list[Prompt]
    options: Options
    sampler: Sampler
    stop: tuple[str, ...]
    seed: int
    include_usage: bool
    given: frozenset[str]


def parse(body: bytes, limits: Limits) -> CompletionRequest:
    """Parse the body of a request; an ApiError names the first invalid field."""
    try:
        given = json_files.parse(body, "the body", max_values=MAX_JSON_VALUES)
    except ElmanError as error:
        raise refusal(None, str(error), "invalid_json") from error
    if not isinstance(given, dict):
        raise refusal(None, f"the body must be a JSON object, got {_kind(given)}")
    given = {name: value for name, value in given.items() if value is not None}
    model, prompts = given.pop("model", None), _prompts(given.pop("prompt", ""))
    if not isinstance(model, str):
        raise refusal("model", "model must be the name of a model: GET /v1/models lists them")
    stop, usage = _stop(given.pop("stop", ())), _include_usage(given.pop("stream_options", {}))
    options = _options(given)
    _check_limits(options, len(prompts), limits)
    seed = secrets.randbelow(1 << 31) if options.seed is None else options.seed
    sampler, names = _sampler(options), frozenset(given)
    return CompletionRequest(model, prompts, options, sampler, stop, seed, usage, names)


def _prompts(value: Any) -> list[Prompt]:
    """One or many prompts, each a text or a list of ids."""
    if isinstance(value, str) or _is_ids(value):
        return _prompts([value])
    whole = isinstance(value, list) and value
    if whole and all(isinstance(each, str) or _is_ids(each) for each in value):
        _check_text("".join(each for each in value if isinstance(each, str)))
        return list(value)
    raise refusal(
        "prompt", f"prompt must be a text, token ids, or a list of these, got {_kind(value)}"
    )


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start]
        raise refusal(
            "prompt", f"a prompt must be text in UTF-8, got {half!a}: leave it out"
        ) from error


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_id, value))


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _stop(value: Any) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else tuple(value) if value else ()
    if not isinstance(value, str | list | tuple) or not all(
        isinstance(text, str) and 0 < len(text) <= MAX_STOP_CHARACTERS for text in texts
    ):
        raise refusal("stop", f"stop must be texts of 1 to {MAX_STOP_CHARACTERS} characters")
    if len(texts) > MAX_STOPS:
        raise refusal("stop", f"stop must be {MAX_STOPS} texts or fewer, got {len(texts)}")
    return texts


def _include_usage(value: Any) -> bool:
    known = value.keys() <= {"include_usage"} if isinstance(value, dict) else False
    if not (known and isinstance(value.get("include_usage", False), bool)):
        raise refusal("stream_options", 'stream_options must be {"include_usage": true or false}')
    return bool(value.get("include_usage", False))


def _options(given: Mapping[str, Any]) -> Options:
    known = {field.name for field in fields(Options)}
    for name, value in given.items():
        if name in known or name in UNUSED:
            continue
        if name not in NEUTRAL:
            raise refusal(name[:40], f"{name!r} is not a field of a request: leave it out")
        if value not in NEUTRAL[name]:
            raise refusal(name, f"{name} is not supported: leave it out")
    values = {name: value for name, value in given.items() if name in known}
    for name, value in values.items():
        try:
            setting_fields.check_given(Options, {name: value})
        except ElmanError as error:
            raise refusal(name, str(error)) from error
    options = Options(**values)
    if options.best_of not in (None, options.n):
        raise refusal("best_of", f"best_of must be n, {options.n}, got {options.best_of}")
    return options


def _sampler(options: Options) -> Sampler:
    sampler = Sampler.of(options)
    return replace(sampler, top_p=None) if options.top_p == 1 else sampler


def _check_limits(options: Options, prompts: int, limits: Limits) -> None:
    if options.max_tokens > limits.max_tokens:
        raise refusal(
            "max_tokens",
            f"max_tokens must be {limits.max_tokens} or less, got {options.max_tokens}",
        )
    if prompts * options.n > MAX_TEXTS:
        raise refusal(
            "n",
            f"a request must have {MAX_TEXTS} texts or fewer, got {prompts} prompts with "
            f"{options.n} each",
        )


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return names.get(type(value), "a number")
