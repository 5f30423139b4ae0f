"""Settings of a training, chosen for its text or pairs unless given, and what it reads."""

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from elman.data.parts import Sources, parse_split
from elman.data.text import VAL_SHARE, BatchSettings, PairTexts, Text, read_pair_texts, read_text
from elman.data.tokenization import TokenSettings, separate_lines, suitable_tokens
from elman.errors import ElmanError, alternatives
from elman.experiments import recipe
from elman.experiments.recipe import Facts
from elman.experiments.speed import operations_per_second
from elman.files import regular
from elman.files.paths import exists
from elman.model import weights
from elman.runs import run
from elman.runs.frameworks import count_gpus, default_for_pairs, framework_module
from elman.runs.records import RunSettings
from elman.runs.run_folder import is_run
from elman.runs.settings import DEFAULT_LINE, Settings, check_given
from elman.runs.tensorboard import check_installed
from elman.terms import Option, preparing, resuming, training_from
from elman.text.codec import Codec
from elman.training.workers.processes import check_shards
from elman.valid_values import CHAR, LOGS, TIME_MACHINE

log = logging.getLogger("elman")

TOKEN_SETTINGS = ("tokenizer", "vocab_size", "min_freq")


@dataclass(frozen=True)
class Origin:
    """Model of a finished run that a training starts from."""

    arch: weights.Architecture
    values: weights.Weights
    codec: Codec

    @classmethod
    def read(cls, folder: str) -> "Origin":
        """Read a run directory."""
        arch, values, codec, _ = run.read(Path(folder))
        return cls(arch, values, codec)

    @classmethod
    def again(cls, folder: str, sha256: str | None) -> "Origin":
        """Read the run that a training started from; an ElmanError if it has changed."""
        if not exists(Path(folder)):
            raise ElmanError(f"{folder} no longer exists: restore it to resume the training")
        origin = cls.read(folder)
        if origin.sha256 != sha256:
            raise ElmanError(f"{folder} has changed since the training began: restore it")
        return origin

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that the run determines: its architecture, and whether it reads lines."""
        fixed = {name: value for name, value in self.arch.fields().items() if name != "vocab"}
        return fixed | {"lines": self.codec.lines}

    @property
    def sha256(self) -> str:
        """Digest of everything that a training reads from the run."""
        codec = self.codec
        facts = [self.arch.fields(), codec.tokenizer.name, codec.tokenizer.model, codec.clean]
        facts += [codec.newlines, codec.lines, codec.vocab.idx_to_token]
        digest = hashlib.sha256(json.dumps(facts).encode())
        for name in sorted(self.values):
            digest.update(np.ascontiguousarray(self.values[name]).data)
        return digest.hexdigest()


def with_origin(given: Mapping[str, Any]) -> tuple[dict[str, Any], Origin | None]:
    """The given settings with those of the run to start from, and its model, if there is one.

    Raises an ElmanError for a setting that differs from the run's.
    """
    init = given.get("init")
    if not init or given.get("pairs"):  # for pairs, init is refused with a message
        return {**given}, None
    origin = Origin.read(init)
    fixed = origin.settings
    if given.get("text", TIME_MACHINE) == TIME_MACHINE:  # it has no lines, and another message
        del fixed["lines"]
    for name, value in fixed.items():
        if given.get(name, value) != value:
            raise ElmanError(
                f"{name} must be {value}, as in {init}, got {given[name]}: leave it out"
            )
    return {**fixed, **given}, origin


@dataclass(frozen=True)
class Choice:
    """Settings of a training, what it reads, and its initial model.

    - `framework`: module of the framework.
    - `origin`: the model to start from, if one is given.
    - `text`: the text or the pairs; None for The Time Machine: a framework's data set reads it.
    - `reasons`: lines that describe the settings chosen for the text.
    - `given`: names of the settings that were not chosen; None if not known.
    """

    settings: Settings
    framework: Any
    origin: Origin | None = None
    text: Text | PairTexts | None = None
    reasons: tuple[str, ...] = ()
    given: list[str] | None = None


def choose(given: Mapping[str, Any], workers: int = 1) -> Choice:
    """Read the text or the pairs of the given settings, and choose the other settings.

    Invalid settings raise an ElmanError before a long text is read. The choice is logged.
    """
    if given.get("log") in LOGS:
        check_installed()
    given, origin = with_origin(given)
    names = sorted(given.keys() - (() if origin is None else origin.settings))
    in_the_book = given.get("text", TIME_MACHINE) == TIME_MACHINE or given.get("recipe") == "book"
    if in_the_book and not given.get("pairs"):
        settings = Settings(**given)
        _suggest_lines(given)
        return _read_all(settings, origin, names, (), workers)
    check_given(given)
    _suggest_lines(given)
    if given.get("pairs"):
        given = {"framework": default_for_pairs(), **given}
    framework, num_gpus = _framework(given)
    precision = given.get("precision") or framework.fastest_precision()
    given |= _suitable_tokens(given, origin)
    text = _read(given, origin, workers > 1)
    assert text is not None
    if isinstance(text, Text):
        text.require_tokens(2, "a window of 1 step needs 2 tokens")
    speed = recipe.USUAL_SPEED
    if recipe.minutes(given) is not None:
        cell = given.get("cell", recipe.CELL)
        speed = workers * operations_per_second(framework, precision, num_gpus, cell)
    steps = given.get("seq_len")
    if isinstance(text, PairTexts):
        facts = Facts.of_pairs(text, steps, speed)
    else:
        facts = Facts.of(text, steps or DEFAULT_LINE, speed, precision)
    settings, reasons = recipe.choose(given, facts)
    if origin and "lr" not in given:
        reasons.append(
            f"init: the model of {given['init']} at the learning rate of a new training: its loss "
            "rises first, and on the test part it may end higher; compare both runs"
        )
    for line in reasons:
        log.info(line)
    if isinstance(text, Text):
        batches_of(settings).check(text)
        recipe.check_time(settings, facts)
    return Choice(settings, framework, origin, text, tuple(reasons), names)


def _suitable_tokens(given: Mapping[str, Any], origin: Origin | None) -> dict[str, Any]:
    """Settings of the tokens that suit a text, unless they are given."""
    fixed = origin or given.get("pairs") or any(name in given for name in TOKEN_SETTINGS)
    if fixed or (sources := sources_of(given)).is_store:
        return {}
    most = recipe.READ_AS_PAIRS * 60 * (recipe.minutes(given) or math.inf)
    return suitable_tokens(sources, given.get("lines", False), most)


def _suggest_lines(given: Mapping[str, Any]) -> None:
    """Suggest `lines` for a text with a name or a word on each line."""
    has_rows = any(map(given.get, ("lines", "pairs", "init")))
    if has_rows or given.get("text", TIME_MACHINE) == TIME_MACHINE:
        return
    sources = sources_of(given)
    if not sources.is_store and (examples := separate_lines(sources)):
        log.info(
            "%s has short lines, such as %s: with %s each is a separate sequence",
            given["text"],
            alternatives(tuple(map(repr, examples))),
            Option("lines", True),
        )


def batches_of(settings: Settings) -> BatchSettings:
    """Batches of a text in a training with some settings."""
    return BatchSettings(settings.batch_size, settings.seq_len, settings.batching, settings.seed)


def settled(settings: Settings, given: list[str] | None = None, workers: int = 1) -> Choice:
    """Read what a training with complete settings reads."""
    _, origin = with_origin(vars(settings))
    return _read_all(settings, origin, given, (), workers)


def again(kept: RunSettings, workers: int = 1) -> Choice:
    """Read what a resumed training reads; an ElmanError if its initial run changed."""
    settings = kept.settings
    origin = None
    _check_workers(settings.shards, workers)
    if settings.init is not None:
        origin = Origin.again(settings.init, kept.init_sha256)
    return _read_all(settings, origin, kept.given, tuple(kept.reasons), workers)


def _read_all(
    settings: Settings,
    origin: Origin | None,
    given: list[str] | None,
    reasons: tuple[str, ...],
    workers: int,
) -> Choice:
    framework, _ = _framework(vars(settings))
    text = _read(vars(settings), origin, workers > 1)
    return Choice(settings, framework, origin, text, reasons, given)


def _read(
    settings: Mapping[str, Any], origin: Origin | None, shared: bool
) -> Text | PairTexts | None:
    """Read the text or the pairs of some settings; None for The Time Machine."""
    if settings.get("pairs"):
        source = settings.get("tokenizer") or CHAR
        tokenizers = source, settings.get("target_tokenizer") or source
        split = parse_split(settings.get("split"))
        share = VAL_SHARE if split is None else split[1]
        return read_pair_texts(Path(settings["text"]), tokenizers, share)
    if settings.get("text", TIME_MACHINE) == TIME_MACHINE:
        return None
    names = [each.name for each in fields(TokenSettings) if each.name in settings]
    how = {name: settings[name] for name in names}
    if origin is not None:
        how["codec"] = origin.codec
    return read_text(sources_of(settings), TokenSettings(**how), shared)


def _framework(settings: Mapping[str, Any]) -> tuple[Any, int]:
    """Framework of some settings, and the number of GPUs that it trains on."""
    framework = framework_module(settings.get("framework", Settings.framework))
    return framework, count_gpus(settings.get("device", Settings.device), framework)


def sources_of(settings: Mapping[str, Any]) -> Sources:
    """Files and parts of the text of some settings; an ElmanError if one is a run."""
    texts = [settings["text"], *settings.get("more_texts", ())]
    validation, test = settings.get("val"), settings.get("test")
    for path in (*texts, validation, test):
        if path is not None:
            _check_is_no_run(path)
    return Sources.of(texts, parse_split(settings.get("split")), validation, test)


def _check_is_no_run(text: str) -> None:
    if is_run(Path(text)):
        raise ElmanError(
            f"{text} is a run, not a text: continue an interrupted training with ",
            resuming(text),
            " or start another from its weights with ",
            training_from(text),
        )


def with_shards(given: Mapping[str, Any], workers: int) -> Mapping[str, Any]:
    """The given settings, with shards for several workers. Several workers train on a store."""
    if workers > 1:
        if given.get("pairs"):
            raise ElmanError(
                f"pairs are learned by one worker, got {workers}: start a single process"
            )
        given = {"shards": default_shards(workers), **given}
        _check_store(given)
    _check_workers(given.get("shards"), workers)
    return given


def default_shards(workers: int) -> int:
    """Shards of a batch for some workers: the same number, or the next power of two."""
    return 1 << (workers - 1).bit_length()


def _check_workers(shards: int | None, workers: int) -> None:
    """Raise an ElmanError unless workers can compute a training with these shards."""
    if shards is not None:
        check_shards(shards, workers)
    elif workers > 1:
        raise ElmanError(
            f"a training without shards requires a single process, got {workers} workers: resume "
            "it in one process, or begin another"
        )


def _check_store(given: Mapping[str, Any]) -> None:
    """Raise an ElmanError unless several workers can each read a share of the text."""
    text = given.get("text", TIME_MACHINE)
    if text == TIME_MACHINE:
        raise ElmanError("several workers require a store of your text: give one")
    regular.check_exists(Path(text))
    if not Path(text).is_dir():
        raise ElmanError(
            f"several workers require a store, got {text}: make one with ",
            preparing(text),
            ", and train on it",
        )
