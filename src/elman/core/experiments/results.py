"""Settings and results of finished runs, and a table of those that differ."""

import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from elman.core.errors import in_words, printable
from elman.core.experiments import run
from elman.core.training.history import Epoch

TEXT_WIDTH, MAX_TABLE_WIDTH = 100, 120  # characters of a line above the table, and of a row
MAX_SETTING_WIDTH = 24  # characters
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
# Settings that decide what a token is.
TOKEN_SETTINGS = {"tokenizer", "vocab", "vocab_size", "min_freq", "newlines"}
OFF = ("-", "False", "0")  # values of settings that need no mention
UNKNOWN, READ = "test_unknown_share", "test_read"
PARTIAL = "*"  # follows the results on a part of the test part


@dataclass(frozen=True)
class Result:
    """Settings and results of a run by name; None where it has none.

    Perplexities are those of the epoch whose weights were kept; `test_...` are of the test part, of
    which the share `test_read` was read.
    """

    run: str
    text_sha256: str | None
    settings: dict[str, Any]
    results: dict[str, float | None]


def result(folder: Path, config: run.Config, history: Sequence[Epoch]) -> Result:
    """Settings and results of a run directory."""
    record = config.training
    kept = next((each for each in history if record and each.epoch == record.epoch), None)
    kept = kept or (history[-1] if history else None)
    speeds = [epoch.tokens_per_second for epoch in history]
    results = {
        **{name: getattr(record, name, None) for name in (*COLUMNS, READ)},
        "train_ppl": kept.train_ppl if kept else None,
        "val_ppl": kept.val_ppl if kept else None,
        "tokens_per_second": statistics.median(speeds) if speeds else None,
        "seconds": history[-1].seconds if history else None,
    }
    settings = {"text": None, **asdict(config.architecture)}
    if record is not None:
        settings |= asdict(record.settings)
        settings |= {name: getattr(record, name) for name in ("framework_version", "init_sha256")}
    settings["tokenizer"] = config.tokenizer
    text_sha256 = None if record is None else record.text_sha256
    return Result(str(folder), text_sha256, settings, results)


def table(runs: Sequence[Result]) -> str:
    """Format runs, a row each: the settings that differ and the results; common settings above."""
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
    lines = textwrap.wrap(above + ", ".join(same), TEXT_WIDTH, break_on_hyphens=False)
    rows = _lines(words | _numbers(runs), len(words))
    if len(max(rows, key=len)) > MAX_TABLE_WIDTH:
        rows = [*_lines(words, len(words)), "", *_lines({"run": words["run"]} | _numbers(runs), 1)]
    return "\n".join([*lines, *rows, *_notes(runs, differing)])


def _names(runs: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(name for each in runs for name in each.settings))


def _texts(runs: Sequence[Result]) -> list[str]:
    """Names of the texts, followed by a part of the digest where different texts share a name."""
    names = [_shown(Path(str(each.settings["text"] or "-")).name) for each in runs]
    of_name = {(name, each.text_sha256) for name, each in zip(names, runs, strict=True)}
    if len(of_name) == len(set(names)):
        return names
    digests = [_shown(each.text_sha256)[:8] for each in runs]
    return [f"{name} {digest}" for name, digest in zip(names, digests, strict=True)]


def _shown(value: Any) -> str:
    """A setting in a few printable characters of one line."""
    text = "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    text = printable(text)
    return text if len(text) <= MAX_SETTING_WIDTH else text[: MAX_SETTING_WIDTH - 3] + "..."


def _heading(name: str) -> str:
    return _shown(in_words(name))


def _numbers(runs: Sequence[Result]) -> dict[str, list[str]]:
    """The results under their headings; unknown tokens only where a run has some."""
    columns = {}
    for name, (heading, form) in COLUMNS.items():
        if name == UNKNOWN and not any(each.results[UNKNOWN] for each in runs):
            continue
        columns[heading] = [_number(each, name, form) for each in runs]
    return columns


def _number(each: Result, name: str, form: str) -> str:
    value = each.results[name]
    mark = PARTIAL if name.startswith("test") and _is_partial(each) else ""
    return "-" if value is None else format(value, form) + mark


def _is_partial(each: Result) -> bool:
    share = each.results[READ]
    return share is not None and share < 1


def _lines(table: dict[str, list[str]], words: int) -> list[str]:
    """Rows of a table; the first `words` columns are aligned to the left, the others right."""
    columns = []
    for place, (heading, values) in enumerate(table.items()):
        width = max(map(len, [heading, *values]))
        align = str.ljust if place < words else str.rjust
        columns.append([align(text, width) for text in (heading, *values)])
    return ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]


def _notes(runs: Sequence[Result], differing: set[str]) -> list[str]:
    """Notes on numbers that cannot be compared."""
    notes = []
    if "text" in differing:
        notes.append("the texts differ: losses and perplexities cannot be compared")
    elif differing & TOKEN_SETTINGS:
        notes.append("the tokens differ: compare bits/char, not losses and perplexities")
    if any(each.results[UNKNOWN] for each in runs):
        notes.append("bits/char are lower bounds where tokens are unknown")
    if any(map(_is_partial, runs)):
        notes.append(f"{PARTIAL} of a part of the test part, since time was bounded")
    return notes
