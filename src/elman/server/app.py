"""The server's routes."""

import asyncio
import hmac
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from elman.errors import ElmanError
from elman.formats import html
from elman.inference.translation import PairModel
from elman.server import batcher, completion_request, responses
from elman.server.access import Access, Hosts, Limits
from elman.server.batcher import Batcher, Texts, Worker
from elman.server.choice import Part
from elman.server.choice import Result as TextResult
from elman.server.completion_request import ApiError, CompletionRequest
from elman.server.metrics import CLIENT_LEFT, COMPLETIONS, CountedRequests, Metrics
from elman.server.translator import Translator

log = logging.getLogger("elman")
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
Result = TypeVar("Result")


class Served(NamedTuple):
    """A loaded model, and the run directory of its page."""

    model: Any
    run: Path

    @property
    def of_pairs(self) -> bool:
        """True for a model of pairs, which has no page."""
        return isinstance(self.model, PairModel)


class App:
    """Answers requests for some models; `starlette` is the application.

    - `models`: models by name.
    - `hosts`: allowed host names; None for any.

    Pages are made on the first request.
    """

    _workers: dict[str, Worker[Any]]

    def __init__(
        self, models: Mapping[str, Served], limits: Limits, access: Access, hosts: Hosts | None
    ) -> None:
        self._models, self._limits, self._access = models, limits, access
        self._runs = {name: each.run for name, each in models.items() if not each.of_pairs}
        self._page_of, self._listing = cache(html.page), cache(partial(html.listing, self._runs))
        self._metrics, self._began = Metrics(), int(time.time())
        self.starlette = Starlette(
            routes=[
                Route("/", self._front),
                Route("/pages/{name}", self._page),
                Route("/healthz", self._health),
                Route("/metrics", self._counts),
                Route("/v1/models", self._list_models),
                Route("/v1/models/{name}", self._describe_model),
                Route(COMPLETIONS, self._complete, methods=["POST"]),
            ],
            middleware=[
                Middleware(CountedRequests, metrics=self._metrics),
                Middleware(AllowedHosts, hosts=hosts),
            ],
            exception_handlers={
                ApiError: _refused,
                ClientDisconnect: _gone,
                HTTPException: _no_route,
                Exception: _failed,
            },
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()

        def deliver(results: list[tuple[Any, TextResult]]) -> None:
            loop.call_soon_threadsafe(batcher.receive, results)

        self._workers = {
            name: (Translator if each.of_pairs else Batcher)(each.model, self._limits, deliver)
            for name, each in self._models.items()
        }
        yield
        for worker in self._workers.values():
            worker.close()

    async def _health(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _counts(self, request: Request) -> Response:
        _require(request, self._access.metrics_key, "its metrics")
        texts = {name: (each.waiting, each.running) for name, each in self._workers.items()}
        return Response(self._metrics.text(texts), media_type=PROMETHEUS)

    async def _front(self, request: Request) -> Response:
        """The page of a single model, or a list of all models."""
        self._check_key(request)
        if not self._runs:
            message = "models of pairs have no page: send prompts to /v1/completions\n"
            return PlainTextResponse(message, 404)
        if len(self._runs) > 1:
            return HTMLResponse(await asyncio.to_thread(self._listing))
        return await self._page_at(*self._runs.values())

    async def _page(self, request: Request) -> Response:
        """The page of a model, including all its weights."""
        self._check_key(request)
        if (name := request.path_params["name"]) not in self._runs:
            raise HTTPException(404)
        return await self._page_at(self._runs[name])

    async def _page_at(self, run: Path) -> Response:
        try:
            return HTMLResponse(await asyncio.to_thread(self._page_of, run))
        except ElmanError as error:
            return PlainTextResponse(f"{error}\n", 404)

    async def _list_models(self, request: Request) -> Response:
        self._check_key(request)
        return _json({"object": "list", "data": [self._described(name) for name in self._models]})

    async def _describe_model(self, request: Request) -> Response:
        self._check_key(request)
        return _json(self._described(request.path_params["name"]))

    def _described(self, name: str) -> dict[str, Any]:
        self._check_name(name)
        return {"id": name, "object": "model", "created": self._began, "owned_by": "elman"}

    def _check_name(self, name: str) -> None:
        if name not in self._models:
            message = f"there is no model {name!r}: GET /v1/models lists them"
            raise ApiError(404, message, "model_not_found", "model")

    def _check_key(self, request: Request) -> None:
        _require(request, self._access.api_key, "this server")

    async def _complete(self, request: Request) -> Response:
        """Texts that follow prompts, as a whole or as events."""
        until = asyncio.get_running_loop().time() + self._limits.timeout
        async with _time_limit(until):
            self._check_key(request)
            asked = completion_request.parse(await self._body(request), self._limits)
            self._check_name(asked.model)
            if not asked.options.stream:
                return _json(await _unless_left(request, self._whole(asked)))
            events = self._events(asked)
            first = await _unless_left(request, anext(events))  # it may be refused
            return EventStream(first, events, until)

    async def _body(self, request: Request) -> bytes:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # a form on another site's page cannot send this type
            message = f"the content type must be application/json, got {kind[:80]!r}"
            raise ApiError(415, message, headers={"connection": "close"})
        body, most = bytearray(), self._limits.max_body
        announced = int(request.headers.get("content-length", 0))
        if announced <= most:
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    break
        if max(announced, len(body)) > most:
            message = f"a request must have {most} bytes or fewer: send less at a time"
            raise ApiError(413, message, "request_too_large", headers={"connection": "close"})
        return bytes(body)

    async def _whole(self, asked: CompletionRequest) -> dict[str, Any]:
        with self._writing(asked) as writing:
            parts: list[list[Part]] = [[] for _ in writing.choices]
            async for index, part in writing:
                parts[index].append(part)
            response = self._response(asked)
            choices = [response.choice(index, found) for index, found in enumerate(parts)]
            return response.of(choices, usage=_usage(writing))

    async def _events(self, asked: CompletionRequest) -> AsyncGenerator[bytes]:
        with self._writing(asked) as writing:
            response = self._response(asked)
            begun = False
            try:
                async for index, part in writing:
                    yield _event(response.of([response.choice(index, [part])]))
                    begun = True
            except ApiError as error:
                if not begun:
                    raise
                yield _event(error.content())  # the status has been sent
                return
            if asked.include_usage:
                yield _event(response.of([], usage=_usage(writing)))
            yield b"data: [DONE]\n\n"

    def _response(self, asked: CompletionRequest) -> responses.Response:
        codec = self._models[asked.model].model.codec
        return responses.Response(asked.model, codec, asked.options.logprobs is not None)

    @contextmanager
    def _writing(self, asked: CompletionRequest) -> Iterator[Texts]:
        """Request texts, and count their tokens even if the client leaves early."""
        with self._workers[asked.model].writing(asked) as writing:
            try:
                yield writing
            finally:
                self._metrics.count_tokens(writing.prompt_tokens, writing.written)


class EventStream(StreamingResponse):
    """Events sent as they arrive, until the time `until` of the loop."""

    def __init__(self, first: bytes, events: AsyncGenerator[bytes], until: float) -> None:
        self._events, self._until = events, until
        super().__init__(self._all(first), media_type="text/event-stream")
        self.headers["cache-control"] = "no-store"

    async def _all(self, first: bytes) -> AsyncIterator[bytes]:
        yield first
        async for event in self._events:
            yield event

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; the stream closes at `until`, even if the reader is slow."""
        with suppress(TimeoutError, ClientDisconnect):
            async with aclosing(self._events), asyncio.timeout_at(self._until):
                await super().__call__(scope, receive, send)


class AllowedHosts:
    """Middleware that refuses requests with other host names; None for `hosts` allows any.

    Starlette's TrustedHostMiddleware supports neither address ranges nor errors in the API's form.
    """

    def __init__(self, app: ASGIApp, hosts: Hosts | None) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        app = self._app
        if scope["type"] == "http" and self._hosts is not None:
            name = Headers(scope=scope).get("host", "")
            app = app if self._hosts.allow(name) else _other_host(name)
        await app(scope, receive, send)


async def _unless_left(request: Request, work: Awaitable[Result]) -> Result:
    """Result of some work; it is cancelled if the client leaves."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def _time_limit(until: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(until):
            yield
    except TimeoutError as error:
        headers = {"x-should-retry": "false"}  # OpenAI's clients would otherwise retry
        message = "the request took too long: ask for fewer tokens"
        raise ApiError(504, message, "timeout", headers=headers) from error


def _require(request: Request, wanted: str | None, owner: str) -> None:
    """Raise an ApiError unless a request contains the required key."""
    if wanted is None:
        return
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    right = hmac.compare_digest(key.strip().encode("latin-1"), wanted.encode())
    if scheme.lower() != "bearer" or not right:
        raise ApiError(
            401,
            f"the header Authorization must be Bearer and the key of {owner}",
            "invalid_api_key",
            headers={"www-authenticate": "Bearer", "connection": "close"},
        )


def _usage(writing: Texts) -> dict[str, int]:
    return responses.usage(writing.prompt_tokens, writing.written)


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dumps(content), status, headers, "application/json")


def _event(content: Any) -> bytes:
    return f"data: {json.dumps(content)}\n\n".encode()


def _other_host(name: str) -> Response:
    message = (
        f"Host must be localhost, a loopback address or an allowed host, got {name[:80]!r}: start "
        "the server with this allowed host"
    )
    headers = {"connection": "close"}
    return _json(ApiError(403, message, "host_not_allowed").content(), 403, headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _json(error.content(), error.status, error.headers)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_LEFT)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path} is not a part of this API"
    return _json(ApiError(error.status_code, message).content(), error.status_code, error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    log.error("a request failed", exc_info=error)
    return _json(ApiError(500, "the server failed: see its log").content(), 500)
