"""Metrics of a server in Prometheus' text format."""

import time
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COMPLETIONS = "/v1/completions"
CLIENT_LEFT = 499  # as counted by nginx; nobody receives it
BOUNDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # seconds


class Metrics:
    """Numbers of requests, their durations and their tokens since the server began."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        self._requests = Counter("elman_requests", "Requests for texts.", ["status"], registry=own)
        self._tokens = Counter("elman_tokens", "Tokens of texts.", ["kind"], registry=own)
        self._waiting = Gauge("elman_texts_waiting", "Texts that wait.", ["model"], registry=own)
        self._running = Gauge(
            "elman_texts_running", "Texts that are written.", ["model"], registry=own
        )
        self._seconds = Histogram(
            "elman_request_seconds", "Seconds of requests for texts.", buckets=BOUNDS, registry=own
        )

    def count(self, status: int, seconds: float) -> None:
        """Count a request for texts, and its duration in seconds."""
        self._requests.labels(status).inc()
        self._seconds.observe(seconds)

    def count_tokens(self, prompt: int, written: int) -> None:
        """Count the tokens of a request's prompts, and of the texts written for it."""
        self._tokens.labels("prompt").inc(prompt)
        self._tokens.labels("written").inc(written)

    def text(self, texts: Mapping[str, tuple[int, int]]) -> bytes:
        """All metrics, with each model's numbers of waiting and running texts."""
        for model, (waiting, running) in texts.items():
            self._waiting.labels(model).set(waiting)
            self._running.labels(model).set(running)
        return generate_latest(self._registry)


class CountedRequests:
    """Middleware that counts requests for texts, each with its status and duration."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count it when it ends."""
        if scope["type"] != "http" or scope["path"] != COMPLETIONS:
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), CLIENT_LEFT

        async def noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            status = 500  # the response is sent outside of this middleware
            raise
        finally:
            self._metrics.count(status, time.monotonic() - began)
