"""Pages of a server, each made on the first request."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from elman.errors import ElmanError
from elman.formats import html
from elman.runs.loading import is_of_pairs


class Pages:
    """The pages of language models; `runs` are run directories by name."""

    def __init__(self, runs: Mapping[str, Path]) -> None:
        self._runs = {name: run for name, run in runs.items() if not is_of_pairs(run)}
        self._page = cache(html.page)
        self.front = cache(self._front)

    def __contains__(self, name: str) -> bool:
        return name in self._runs

    def of(self, name: str) -> str:
        """The page of a model; an ElmanError if the model is too large for one."""
        return self._page(self._runs[name])

    def _front(self) -> str:
        """The page of a single model, or a list of all models."""
        if not self._runs:
            raise ElmanError("models of pairs have no page: send prompts to /v1/completions")
        if len(self._runs) > 1:
            return html.listing(self._runs)
        (only,) = self._runs
        return self.of(only)
