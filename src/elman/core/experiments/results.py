"""Finished runs side by side: settings and results by name, and a table of what differs."""

import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from elman.core.errors import in_words, printable
from elman.core.experiments import run
from elman.core.training.history import Epoch

WIDTH, WIDEST = 100, 120  # characters of a line above the table, and of a line of it
LONGEST = 24  # characters of a setting
COLUMNS = {  # headings and formats of the results in a table
    "train_ppl": ("train ppl", ".2f"),
    "val_ppl": ("val ppl", ".2f"),
    "test_loss": ("test loss", ".4f"),
    "test_bits_per_character": ("bits/char", ".3f"),
    "test_unknown_share": ("unknown", ".2%"),
    "tokens_per_second": ("tokens/s", ",.0f"),
    "seconds": ("seconds", ".1f"),
    "peak_memory_mb": ("peak MB", ".0f"),
}
NO_SETTINGS = ("epoch", "python_version", "text_sha256", *COLUMNS)  # of what a run keeps
TOKENS = {"tokenizer", "vocab", "vocab_size", "min_freq", "newlines"}  # settings of what is counted
OFF = ("-", "False", "0")  # settings that need no mention
UNKNOWN = "test_unknown_share"


@dataclass(frozen=True)
class Result:
    """A run, what it was trained with and what came of it, by name; None where it has no such.

    The perplexities are those of the epoch whose weights it has; what begins with `test` is of
    the test part.
    """

    run: str
    text_sha256: str | None
    settings: dict[str, Any]
    results: dict[str, float | None]


def result(folder: Path, config: run.Config, history: Sequence[Epoch]) -> Result:
    """Settings and results of a run directory."""
    training, architecture = config.training, asdict(config.architecture)
    settings = {"text": None, **architecture, **training, "tokenizer": config.tokenizer}
    number = training.get("epoch")  # of which the model is
    kept = next((epoch for epoch in history if epoch.epoch == number), None)
    kept = kept or (history[-1] if history else None)
    speeds = [epoch.tokens_per_second for epoch in history]
    results = {
        **{name: _number(training.get(name)) for name in COLUMNS},
        "train_ppl": kept.train_ppl if kept else None,
        "val_ppl": kept.val_ppl if kept else None,
        "tokens_per_second": statistics.median(speeds) if speeds else None,
        "seconds": history[-1].seconds if history else None,
    }
    digest = training.get("text_sha256")
    return Result(
        str(folder),
        digest if isinstance(digest, str) else None,
        {name: value for name, value in settings.items() if name not in NO_SETTINGS},
        results,
    )


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def table(runs: Sequence[Result]) -> str:
    """A line for each run: the settings that differ, and the results; above, what is the same."""
    settings = {name: [_shown(each.settings.get(name)) for each in runs] for name in _names(runs)}
    settings["text"] = _texts(runs)
    differing = {name for name, values in settings.items() if len(set(values)) > 1}
    same = [
        f"{_heading(name)} {values[0]}"
        for name, values in settings.items()
        if name not in differing and values[0] not in OFF
    ]
    words = {"run": [printable(each.run) for each in runs]}
    words |= {_heading(name): settings[name] for name in settings if name in differing}
    above = "the same in all: " if len(runs) > 1 else ""
    lines = textwrap.wrap(above + ", ".join(same), WIDTH, break_on_hyphens=False)
    rows = _lines(words | _numbers(runs), len(words))
    if len(max(rows, key=len)) > WIDEST:
        rows = [*_lines(words, len(words)), "", *_lines({"run": words["run"]} | _numbers(runs), 1)]
    return "\n".join([*lines, *rows, *_notes(runs, differing)])


def _names(runs: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(name for each in runs for name in each.settings))


def _texts(runs: Sequence[Result]) -> list[str]:
    """The names of the texts, with the beginning of a digest where texts have the same name."""
    names = [_shown(Path(str(each.settings["text"] or "-")).name) for each in runs]
    of_name = {(name, each.text_sha256) for name, each in zip(names, runs, strict=True)}
    if len(of_name) == len(set(names)):
        return names
    digests = [_shown(each.text_sha256)[:8] for each in runs]
    return [f"{name} {digest}" for name, digest in zip(names, digests, strict=True)]


def _shown(value: Any) -> str:
    """A setting in a few characters of one line; a stranger's may be anything."""
    text = "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    text = printable(text)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _heading(name: str) -> str:
    return _shown(in_words(name))


def _numbers(runs: Sequence[Result]) -> dict[str, list[str]]:
    """The results under their headings; unknown tokens only where a run has some."""
    columns = {}
    for name, (heading, form) in COLUMNS.items():
        values = [each.results[name] for each in runs]
        if name != UNKNOWN or any(values):
            columns[heading] = ["-" if value is None else format(value, form) for value in values]
    return columns


def _lines(table: dict[str, list[str]], words: int) -> list[str]:
    """Columns as wide as they need, the first of words to the left, the others to the right."""
    columns = []
    for place, (heading, values) in enumerate(table.items()):
        width = max(map(len, [heading, *values]))
        align = str.ljust if place < words else str.rjust
        columns.append([align(text, width) for text in (heading, *values)])
    return ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]


def _notes(runs: Sequence[Result], differing: set[str]) -> list[str]:
    """Notes on numbers that do not compare."""
    notes = []
    if "text" in differing:
        notes.append("the texts differ, so that no loss and no perplexity compares")
    elif differing & TOKENS:
        notes.append("the tokens differ: losses and perplexities do not compare, bits/char do")
    if any(each.results[UNKNOWN] for each in runs):
        notes.append("bits/char are lower bounds where tokens are unknown")
    return notes
