"""Settings for a user's pairs: settings that are not given follow from a few facts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from elman.data.pair_texts import PairTexts
from elman.errors import counted
from elman.experiments.recipe import minutes
from elman.model import weights
from elman.model.weights import DECODER, ENCODER, PAIR_CELL, Architecture
from elman.runs.settings import DEFAULT_LINE, Settings
from elman.text.codec import Codec
from elman.valid_values import ADDITIVE

USUAL_SHARE = 0.999  # of the pairs, whose texts are read whole
OUTLIER = 1.25  # times the length of the longest of these; a longer text is cut
HIDDEN = (32, 48, 64, 96, 128, 192, 256, 384, 512)
PRODUCTS_PER_TOKEN = 6.0  # of the training targets, at most; a larger model would memorize them
PASSES_IN_TIME = 4.0  # that a model must make in the time; a larger one would learn too little
MAX_PASSES = 60
BATCH_SIZE, MIN_UPDATES = 64, 16  # pairs of a batch, and batches in a pass
LR, WARMUP = 0.004, 0.02  # the rate of 256 units
MAX_LR = 0.008
DROPOUT = 0.3  # with a second layer


@dataclass(frozen=True)
class PairFacts:
    """Pairs and a machine.

    - `pairs`: number of pairs for training.
    - `steps`: tokens of a text at most; sources are padded to it.
    - `targets`: tokens of all targets.
    - `vocabularies`: sizes of both vocabularies.
    - `speed`: operations per second of a training.
    """

    pairs: int
    steps: int
    targets: int
    vocabularies: tuple[int, int]
    speed: float

    @classmethod
    def of(cls, texts: PairTexts, codec: Codec, speed: float) -> "PairFacts":
        """Facts of some pairs, read with this codec."""
        steps = codec.num_steps
        targets = int(np.minimum(texts.lengths[1, : texts.num_train], steps).sum())
        vocabularies = len(codec.source.vocab), len(codec.vocab)
        return cls(texts.num_train, steps, targets, vocabularies, speed)

    @property
    def sources(self) -> int:
        """Tokens of all sources, padding included."""
        return self.pairs * self.steps


def num_steps(given: Mapping[str, Any], texts: PairTexts) -> int:
    """Tokens of a text at most: as many as the longest has, unless few are that long.

    All sources are padded to this length.
    """
    if "seq_len" in given:
        return int(given["seq_len"])
    usual = int(np.quantile(texts.lengths.max(0), USUAL_SHARE, method="higher"))
    return min(DEFAULT_LINE, texts.longest if texts.longest <= OUTLIER * usual else usual)


def choose(given: Mapping[str, Any], facts: PairFacts) -> tuple[Settings, list[str]]:
    """Complete the given settings, and describe the choice in a few lines."""
    chosen = {"recipe": "auto", "cell": "gru", "optimizer": "adam", "tokenizer": "char", **given}
    chosen.setdefault("target_tokenizer", chosen["tokenizer"])
    chosen["seq_len"] = facts.steps
    if (limit := minutes(given)) is not None:
        chosen["minutes"] = limit
    chosen.setdefault("attention", ADDITIVE)
    chosen.setdefault("layers", 2 if chosen.get("dropout") else 1)
    arch = _largest(chosen, facts)
    chosen |= {"hidden": arch.hidden, "embedding": arch.embedding}
    if chosen["layers"] > 1:
        chosen.setdefault("dropout", DROPOUT)
    size = min(BATCH_SIZE, facts.pairs // MIN_UPDATES)
    chosen.setdefault("batch_size", max(1, size))
    rate = min(MAX_LR, LR * math.sqrt(256 / arch.hidden))
    chosen.setdefault("lr", round(rate, 4))
    chosen.setdefault("schedule", "cosine")
    chosen.setdefault("warmup", WARMUP)
    if _passes(arch, facts, chosen.get("minutes", math.inf)) > MAX_PASSES:
        chosen.setdefault("epochs", MAX_PASSES)
    settings = Settings(**chosen)
    return settings, _described(settings, facts)


def _largest(chosen: Mapping[str, Any], facts: PairFacts) -> Architecture:
    """The largest architecture that the pairs and the time justify, or the smallest one."""
    sizes = (chosen["hidden"],) if "hidden" in chosen else HIDDEN
    models = [_architecture(chosen, facts, hidden) for hidden in sizes]
    most = PRODUCTS_PER_TOKEN * facts.targets
    limit = chosen.get("minutes", math.inf)
    fitting = [
        arch
        for arch in models
        if weights.count(arch) <= most and _passes(arch, facts, limit) >= PASSES_IN_TIME
    ]
    return fitting[-1] if fitting else models[0]


def _architecture(chosen: Mapping[str, Any], facts: PairFacts, hidden: int) -> Architecture:
    embedding = chosen.get("embedding", min(hidden, 64))
    attention = chosen["attention"] == ADDITIVE
    source, target = facts.vocabularies
    sizes = target, hidden, chosen["layers"], embedding
    return Architecture(PAIR_CELL, *sizes, source_vocab=source, attention=attention)


def _passes(arch: Architecture, facts: PairFacts, minutes: float) -> float:
    """Passes over the pairs in a time."""
    of_encoder, of_decoder = (weights.products(arch, part) for part in (ENCODER, DECODER))
    products = of_encoder * facts.sources + of_decoder * facts.targets
    return 60 * minutes * facts.speed / (weights.OPERATIONS * products)


def _described(settings: Settings, facts: PairFacts) -> list[str]:
    """Lines on the tokens, the model and its training."""
    source, target = facts.vocabularies
    end = "" if settings.minutes is None else f"{counted(settings.minutes, 'minute')}, "
    end += "" if settings.epochs is None else f"at most {counted(settings.epochs, 'epoch')}, "
    attention = "attention, " if settings.attention == ADDITIVE else ""
    return [
        f"tokens: {settings.tokenizer} in sources, a vocabulary of {source:,}; "
        f"{settings.target_tokenizer} in targets, a vocabulary of {target:,}",
        f"model: encoder and decoder, {settings.cell}, {counted(settings.layers, 'layer')} of "
        f"{settings.hidden} units, {attention}an embedding of {settings.embedding}",
        f"training: {end}{settings.optimizer}, learning rate {settings.lr:g}, "
        f"{settings.schedule} schedule, batches of {settings.batch_size} of {facts.pairs:,} pairs",
    ]
