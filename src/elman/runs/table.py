"""A table of runs: settings that differ, results, what is not comparable; and a run in words."""

import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from elman.errors import in_words, printable
from elman.model import weights
from elman.runs.results import Result, kept_epoch, place_in_words, read, result
from elman.terms import Message, Option, Term, in_shell
from elman.valid_values import CHAR

PIPE_WIDTH = 120  # characters in a line that is not for a terminal
MAX_SETTING_WIDTH = 24  # characters
COLUMNS = {  # headings and formats of the results
    "train_ppl": ("train ppl", ".2f"),
    "val_ppl": ("val ppl", ".2f"),
    "val_bits_per_character": ("val bits/char", ".3f"),
    "test_loss": ("test loss", ".4f"),
    "test_bits_per_character": ("test bits/char", ".3f"),
    "test_unknown_share": ("unknown", ".2%"),
    "on_loss": ("loss", ".4f"),
    "on_perplexity": ("perplexity", ".2f"),
    "on_bits_per_character": ("bits/char", ".3f"),
    "on_unknown_share": ("unknown", ".2%"),
    "tokens_per_second": ("tokens/s", ",.0f"),
    "seconds": ("seconds", ".1f"),
    "peak_memory_mb": ("peak MB", ".0f"),
}
OF_TRAINING = ("train_", "val_", "test_")  # results on texts that may differ
PER_TOKEN = ("train_ppl", "val_ppl", "test_loss", "on_loss", "on_perplexity")
OFF = ("-", "False", "0", "[]")  # values of settings that are not worth a mention
PARTIAL, OTHER = "*", "+"  # mark results on a share of the test part, and on another part
# Allowed differences in the characters of one part: it is split at batches and at tokens.
MAX_DIFFERENCE, MAX_DIFFERENCE_OF_TOKENS = 0.02, 0.002

# Settings that a description of a run shows in other lines, and the results that it has.
ELSEWHERE = {
    *("text", "more_texts", "recipe", "vocab", "init_sha256"),
    *("source_vocab", "attention"),
}
RESULTS = ("train_ppl", "val_ppl", "val_bits_per_character", "test_loss", "test_bits_per_character")

Column = list[str]  # a heading and its values, of equal width


@dataclass(frozen=True)
class Table:
    """Runs, one in each row.

    - `same`: the settings common to all, in words.
    - `words`: the names of the runs and the settings that differ, by heading.
    - `numbers`: the results by heading.
    - `notes`: what is not comparable.
    """

    same: str
    words: dict[str, list[str]]
    numbers: dict[str, list[str]]
    notes: list[str | Term]


def compared(runs: Sequence[Result]) -> Table:
    """The settings in which runs differ, and their results."""
    settings = {name: [shown(each.settings.get(name)) for each in runs] for name in _names(runs)}
    settings["text"] = _texts(runs)
    differing = {name for name, values in settings.items() if len(set(values)) > 1}
    same = [
        f"{heading(name)} {values[0]}"
        for name, values in settings.items()
        if name not in differing and values[0] not in OFF
    ]
    words = {"run": [printable(each.run) for each in runs]}
    words |= {heading(name): settings[name] for name in settings if name in differing}
    above = "common settings: " if len(runs) > 1 else ""
    numbers = _numbers(runs)
    return Table(above + ", ".join(same), words, numbers, _notes(runs, numbers))


def table(
    runs: Sequence[Result], everything: bool = False, words: Callable[[Any], str] = in_shell
) -> str:
    """Format runs as rows that fit the terminal: settings that differ, results, and notes.

    With `everything`, the common settings follow. `words` words the notes: `in_shell` or `str`.
    """
    found = compared(runs)
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if on_terminal else PIPE_WIDTH
    columns, numbers = _aligned(found.words, str.ljust), _aligned(found.numbers, str.rjust)
    rows = _in_blocks(columns, numbers, width)
    same = textwrap.wrap(found.same, width, break_on_hyphens=False) if everything else []
    return "\n".join([*rows, *map(words, found.notes), *same])


def _names(runs: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(name for each in runs for name in each.settings))


def _texts(runs: Sequence[Result]) -> list[str]:
    """Names of the texts; different texts with the same name include a part of the digest."""
    names = [shown(Path(str(each.settings["text"] or "-")).name) for each in runs]
    of_name = {(name, each.text_sha256) for name, each in zip(names, runs, strict=True)}
    if len(of_name) == len(set(names)):
        return names
    digests = [shown(each.text_sha256)[:8] for each in runs]
    return [f"{name} {digest}" for name, digest in zip(names, digests, strict=True)]


def shown(value: Any) -> str:
    """A setting as a few printable characters on a line."""
    text = "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    text = printable(text)
    return text if len(text) <= MAX_SETTING_WIDTH else text[: MAX_SETTING_WIDTH - 3] + "..."


def heading(name: str) -> str:
    """Name of a setting as a heading."""
    return shown(in_words(name))


def tokens_differ(runs: Sequence[Result]) -> bool:
    """True if some runs differ in tokens, so that losses and perplexities are not comparable."""
    return len({each.tokens for each in runs}) > 1


def have_characters(runs: Sequence[Result]) -> bool:
    """True if the tokens of all runs are characters."""
    return all(each.settings.get("tokenizer") == CHAR for each in runs)


def in_order(results: Iterable[str], characters: bool) -> list[str]:
    """Names of results; results per token come last unless tokens are characters."""
    return sorted(results, key=lambda name: not characters and name in PER_TOKEN)


def _numbers(runs: Sequence[Result]) -> dict[str, list[str]]:
    """The results under their headings, without those not comparable or missing in all runs."""
    evaluated = any("on_loss" in each.results for each in runs)
    columns = {}
    for name in in_order(COLUMNS, have_characters(runs)):
        heading, form = COLUMNS[name]
        values = [each.results.get(name) for each in runs]
        hidden = (name in PER_TOKEN and tokens_differ(runs)) or (
            evaluated and name.startswith(OF_TRAINING)
        )
        empty = not any(values) if name.endswith("unknown_share") else set(values) == {None}
        if not (hidden or empty):
            columns[heading] = [
                "-" if value is None else format(value, form) + _mark(each, name, runs)
                for value, each in zip(values, runs, strict=True)
            ]
    return columns


def _mark(each: Result, name: str, runs: Sequence[Result]) -> str:
    part = name.partition("_")[0]
    if part == "test" and _is_partial(each):
        return PARTIAL
    return OTHER if _is_of_another_part(each, part, runs) else ""


def _is_partial(each: Result) -> bool:
    share = each.results["test_read"]
    return share is not None and share < 1


def _is_of_another_part(each: Result, part: str, runs: Sequence[Result]) -> bool:
    """True unless a run was measured on the same part as the first run that has one."""
    if part not in each.parts:
        return False
    first = next(other for other in runs if part in other.parts)
    own, wanted = each.parts[part], first.parts[part]
    most = MAX_DIFFERENCE if each.tokens == first.tokens else MAX_DIFFERENCE_OF_TOKENS
    return (
        own.text != wanted.text
        or _differ(own.before, wanted.before, most)
        or _differ(own.characters, wanted.characters, most)
    )


def _differ(one: int | None, other: int | None, most: float) -> bool:
    """True if numbers of characters show different parts; False if one is not known."""
    return one is not None and other is not None and abs(one - other) > most * other


def _aligned(table: Mapping[str, Sequence[str]], align: Callable[[str, int], str]) -> list[Column]:
    """Columns of a table, each as wide as its widest text."""
    found = []
    for heading, values in table.items():
        width = max(map(len, [heading, *values]))
        found.append([align(text, width) for text in (heading, *values)])
    return found


def in_rows(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Rows of a table of right-aligned columns, below their headings."""
    return _lines(_aligned(columns, str.rjust))


def _lines(columns: Iterable[Column]) -> list[str]:
    """Rows of a table of aligned columns."""
    return ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]


def _in_blocks(words: Sequence[Column], numbers: Sequence[Column], width: int) -> list[str]:
    """Rows of a table; what does not fit a `width` follows below, again after the first column."""
    name, *settings = words
    room = max(width - len(name[0]), width // 2)  # names of runs may be long
    blocks = _folded([*settings, *numbers], room)
    if len(blocks) > 1:
        parts = filter(None, (settings, numbers))
        blocks = [block for part in parts for block in _folded(part, room)]
    first, *others = (_lines([name, *block]) for block in blocks)
    return [*first, *(line for block in others for line in ("", *block))]


def _folded(columns: Sequence[Column], width: int) -> list[list[Column]]:
    """Columns in groups that fit a `width`, each with two spaces before it."""
    groups: list[list[Column]] = []
    left = 0
    for column in columns:
        if not groups or len(column[0]) + 2 > left:
            groups.append([])
            left = width
        groups[-1].append(column)
        left -= len(column[0]) + 2
    return groups or [[]]


def _notes(runs: Sequence[Result], numbers: Mapping[str, Sequence[str]]) -> list[str | Term]:
    """Notes on marks in the `numbers`, and on what else is not comparable."""
    marks = {value[-1] for values in numbers.values() for value in values}
    notes: list[str | Term] = []
    if tokens_differ(runs):
        notes.append("the tokens differ: compare bits/char, not losses or perplexities")
    if any("on_loss" in each.results for each in runs):
        reason = f"{OTHER} on other characters than the first run: its text was cleaned, or split "
        return [*notes, *[f"{reason}into lines"] * (OTHER in marks)]
    if PARTIAL in marks:
        notes.append(f"{PARTIAL} on a share of the test part: evaluation time was limited")
    cure = (": ", Option("on", "FILE"), " evaluates all runs on one text")
    if OTHER in marks:
        notes.append(Message(f"{OTHER} on other characters than the first run", *cure))
    elif len({each.text_sha256 for each in runs}) > 1:
        notes.append(Message("the texts differ", *cure))
    return notes


def overview(runs: Sequence[Result]) -> str:
    """Format runs as rows: text, tokens, model, and results."""
    columns: dict[str, list[str]] = {
        "run": [printable(each.run) for each in runs],
        "text": _texts(runs),
    }
    for name in ("tokenizer", "cell", "hidden"):
        columns[name] = [shown(each.settings.get(name)) for each in runs]
    words = _aligned(columns, str.ljust)
    columns = {}
    for name in ("val_bits_per_character", "test_bits_per_character", "seconds"):
        heading, form = COLUMNS[name]
        values = [each.results[name] for each in runs]
        columns[heading] = ["-" if value is None else format(value, form) for value in values]
    columns["finished"] = [each.finished for each in runs]
    numbers = _aligned(columns, str.rjust)
    differ = any(_is_of_another_part(each, part, runs) for each in runs for part in each.parts)
    hint = [
        "different texts or parts: elman compare RUNS --on FILE evaluates all runs on one text"
    ] * differ
    return "\n".join([*_lines([*words, *numbers]), *hint])


def describe(folder: Path) -> dict[str, Any]:
    """Facts about a finished run by name, for JSON."""
    _, config, history = read(folder)
    record = config.training
    known = {} if record is None else vars(record)
    place = None
    if history:
        place = [*place_in_words(kept_epoch(history, record), len(history), config.by_time)]
    return {
        **asdict(result(folder, config, history)),
        "parameters": config.parameters,
        "bytes": sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
        "precision": config.precision,
        "given": known.get("given"),
        "reasons": known.get("reasons", []),
        "epoch": known.get("epoch"),
        "epochs": len(history),
        "place": place,
    }


def in_lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the facts about a run as pairs: label and text."""
    settings, results, given = facts["settings"], facts["results"], facts["given"]
    yield "run", f"{facts['run']}, {facts['finished']}, {facts['bytes'] / 1e6:.1f} MB"
    if settings["text"] is not None:
        texts = [settings["text"], *settings["more_texts"]]
        yield "text", f"{', '.join(texts)}, SHA-256 {facts['text_sha256'][:16]}"
    yield "tokens", _tokens(settings)
    yield "model", model(facts)
    if settings["text"] is not None:
        names = [name for name in settings if name not in ELSEWHERE]
        if given is not None:
            yield "given", _values(settings, (name for name in names if name in given))
            names = [name for name in names if name not in given]
        chosen = {"auto": "chosen", "book": "defaults"}[settings["recipe"]]
        yield "settings" if given is None else chosen, _values(settings, names)
    for name in in_order(RESULTS, settings["tokenizer"] == CHAR):
        title, form = COLUMNS[name]
        if results[name] is not None:
            yield title, format(results[name], form) + _share(name, results["test_read"])
    if facts["place"]:
        name, place = facts["place"]
        yield name, place
        yield "seconds", f"{results['seconds']:.1f}"


def _share(name: str, read: float | None) -> str:
    partial = name.startswith("test") and read is not None and read < 1
    return f"  (on {read:.0%} of the test part)" if partial else ""


def _tokens(settings: dict[str, Any]) -> str:
    """Tokens and vocabularies in words."""
    if not _is_of_pairs(settings):
        return f"{settings['tokenizer']}, vocabulary of {settings['vocab']:,}"
    return (
        f"{settings['tokenizer']} in sources, vocabulary of {settings['source_vocab']:,}; "
        f"{settings['target_tokenizer']} in targets, vocabulary of {settings['vocab']:,}"
    )


def _is_of_pairs(settings: dict[str, Any]) -> bool:
    return "source_vocab" in settings


def model(facts: dict[str, Any]) -> str:
    """Cell, sizes, parameters and precision of a model in words."""
    settings = facts["settings"]
    other = () if _is_of_pairs(settings) else ("source_vocab", "attention")
    names = [each.name for each in fields(weights.Architecture) if each.name not in other]
    sizes = {name: settings[name] for name in names}
    return weights.in_words(weights.Architecture(**sizes), facts["precision"])


def _values(settings: dict[str, Any], names: Iterable[str]) -> str:
    """Settings in use, with their values."""
    values = {name: shown(settings[name]) for name in names}
    used = [f"{heading(name)} {value}" for name, value in values.items() if value not in OFF]
    return ", ".join(used) or "-"
