"""`elman.compare`: runs side by side."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from elman import html_tables
from elman.api.run import Run, run_paths
from elman.experiments import compare as comparisons
from elman.model.metrics import Evaluation
from elman.runs.loading import load_language_model
from elman.runs.results import Result
from elman.runs.table import compared, table
from elman.text import in_memory
from elman.text.in_memory import TextLike
from elman.training.curve_files import Picture

DIGEST = "init sha256"  # a column that is too wide for a notebook, next to `init`


class Comparison:
    """Runs side by side: a table of results and differing settings, and the curves."""

    def __init__(self, compared: comparisons.Comparison, names: Mapping[str, str]) -> None:
        """Make the table; `names` replace the paths of some runs."""
        self._compared = compared
        self._names = names

    def to_dict(self) -> dict[str, list[Any]]:
        """All settings and results as columns by name, for `pandas.DataFrame`."""
        results = self._compared.results
        rows = [{"run": each.run, **each.settings, **each.results} for each in results]
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: [row.get(name) for row in rows] for name in names}

    def to_json(self) -> list[dict[str, Any]]:
        """The runs as `elman compare --json` prints them."""
        return [asdict(each) for each in self._compared.results]

    def plot(self) -> Picture:
        """The curves of all runs in one picture."""
        from elman.training.curve_files import comparison

        found = self._compared
        curves = {self._names.get(path, path): both for path, both in found.drawn().items()}
        return Picture(comparison(curves, found.unit, found.by_time))

    def _shown(self) -> list[Result]:
        """The results, with the displayed names of the runs."""
        return [self._named(each) for each in self._compared.results]

    def _named(self, each: Result) -> Result:
        settings = dict(each.settings)
        if settings.get("init") in self._names:
            settings["init"] = self._names[settings["init"]]
        return replace(each, run=self._names.get(each.run, each.run), settings=settings)

    def __repr__(self) -> str:
        return table(self._shown(), words=str)

    def _repr_html_(self) -> str:
        found = compared(self._shown())
        notes = [html_tables.paragraph(str(note)) for note in found.notes]
        words = {name: texts for name, texts in found.words.items() if name != DIGEST}
        rows = html_tables.of_columns(words | found.numbers, len(words))
        return "".join([rows, *notes])


def compare(*runs: "str | os.PathLike[str]", on: TextLike | None = None) -> Comparison:
    """Compare runs, or the runs in folders.

    - `on`: evaluate all runs on this text: a path or a text in memory.
    """
    if on is not None:
        in_memory.check(on)
    lines = on if on is None or isinstance(on, str | os.PathLike | Sequence) else list(on)

    def evaluate(run: Path) -> Evaluation:
        return load_language_model(run).evaluate(lines)  # type: ignore[no-any-return]

    folders = run_paths("compare", runs)
    temporary = [each for each in runs if isinstance(each, Run) and each.keeping is not None]
    names = {str(each.path): each.path.name for each in temporary}
    return Comparison(comparisons.read(folders, None if on is None else evaluate), names)
