"""Counts of a server in Prometheus' text format.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate

BOUNDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # seconds
Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counts of requests, of their seconds and of their tokens, since the server began."""

    def __init__(self) -> None:
        self._requests: Counter[int] = Counter()
        self._tokens: Counter[str] = Counter()
        self._seconds = [0] * (len(BOUNDS) + 1)
        self._total = 0.0

    def count(self, status: int, seconds: float) -> None:
        """Count a request for texts, and the seconds that it took."""
        self._requests[status] += 1
        self._seconds[bisect_left(BOUNDS, seconds)] += 1
        self._total += seconds

    def count_tokens(self, prompt: int, written: int) -> None:
        """Count the tokens that a request had and was given."""
        self._tokens["prompt"] += prompt
        self._tokens["written"] += written

    def text(self, waiting: Mapping[str, int], running: Mapping[str, int]) -> str:
        """All counts, and the texts of each model that wait and that are written."""
        lines = [
            *_metric("requests_total", "counter", "Requests for texts.", self._by_status()),
            *_metric("tokens_total", "counter", "Tokens of texts.", self._by_kind()),
            *_metric("texts_waiting", "gauge", "Texts that wait.", _by_model(waiting)),
            *_metric("texts_running", "gauge", "Texts that are written.", _by_model(running)),
            *self._histogram(),
        ]
        return "\n".join(lines) + "\n"

    def _by_status(self) -> dict[Labels, int]:
        return {(("status", str(status)),): n for status, n in sorted(self._requests.items())}

    def _by_kind(self) -> dict[Labels, int]:
        return {(("kind", kind),): n for kind, n in sorted(self._tokens.items())}

    def _histogram(self) -> Iterator[str]:
        name = "elman_request_seconds"
        yield f"# HELP {name} Seconds of requests for texts."
        yield f"# TYPE {name} histogram"
        bounds = (*map(str, BOUNDS), "+Inf")
        for bound, number in zip(bounds, accumulate(self._seconds), strict=True):
            yield f'{name}_bucket{{le="{bound}"}} {number}'
        yield f"{name}_sum {self._total}"
        yield f"{name}_count {sum(self._seconds)}"


def _by_model(numbers: Mapping[str, int]) -> dict[Labels, int]:
    return {(("model", name),): number for name, number in numbers.items()}


def _metric(name: str, kind: str, description: str, values: Mapping[Labels, int]) -> Iterator[str]:
    yield f"# HELP elman_{name} {description}"
    yield f"# TYPE elman_{name} {kind}"
    for labels, value in values.items():
        words = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
        yield f"elman_{name}{{{words}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
