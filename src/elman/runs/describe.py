"""A run in words: its text, model, settings and results."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from elman.model import weights
from elman.runs.results import kept_epoch, place_in_words, result
from elman.runs.runs import read
from elman.runs.table import COLUMNS, OFF, heading, in_order, shown
from elman.valid_values import CHAR

# Shown in other lines.
ELSEWHERE = {
    *("text", "more_texts", "recipe", "vocab", "init_sha256"),
    *("source_vocab", "attention"),
}
RESULTS = ("train_ppl", "val_ppl", "val_bits_per_character", "test_loss", "test_bits_per_character")


def describe(folder: Path) -> dict[str, Any]:
    """Facts about a finished run by name, for JSON."""
    _, config, history = read(folder)
    record = config.training
    by_time = record is not None and record.settings.by_time
    place = None
    if history:
        place = [*place_in_words(kept_epoch(history, record), len(history), by_time)]
    return {
        **asdict(result(folder, config, history)),
        "parameters": config.parameters,
        "bytes": sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
        "precision": config.precision,
        "given": None if record is None else record.given,
        "reasons": [] if record is None else record.reasons,
        "epoch": None if record is None else record.epoch,
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
