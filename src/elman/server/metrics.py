"""Metrics of a server in Prometheus' text format."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

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

    def text(self, waiting: Mapping[str, int], running: Mapping[str, int]) -> bytes:
        """All metrics, with each model's numbers of waiting and running texts."""
        for gauge, numbers in ((self._waiting, waiting), (self._running, running)):
            for model, number in numbers.items():
                gauge.labels(model).set(number)
        return generate_latest(self._registry)
