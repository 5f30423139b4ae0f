"""Settings for a user's text or pairs: settings that are not given follow from a few facts.

The facts are the size of the training part, the vocabulary, the time, and the speed of the machine.
The constants below were measured with benchmarks/tokens.py and with trials of each setting, most of
them with the text in its order; docs/recipe.md has what they gained.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from elman.data.text import PairTexts, Text
from elman.errors import ElmanError, counted
from elman.model import weights
from elman.model.optimizers import OPTIMIZERS
from elman.model.options import SINGLE
from elman.model.registry import cell_named
from elman.model.weights import DECODER, ENCODER, Architecture
from elman.runs.settings import DEFAULT_LINE, Settings
from elman.valid_values import ADDITIVE, BPE, CHAR

CELL = "gru"
MINUTES = 3.0  # of a training, unless minutes or epochs are given
HIDDEN = (32, 48, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024)
CHARACTERS_PER_PRODUCT = 7.0  # that fit in the time; a larger model would learn too slowly
PRODUCTS_PER_CHARACTER = 6.0  # of the text, at most; a larger model would memorize it
READ_AS_PAIRS = 4e6  # characters per second; reading must not take longer than the training
EMBEDDING = 64  # for characters or bytes; for other tokens it is as large as the hidden state
MAX_CHARACTERS = 512  # distinct ones
MAX_PASSES = 150  # over the text
LEARNED = 60.0  # passes times products per character, after which a model has memorized a text
MIN_PASSES, MIN_LINE_PASSES = 17, 25  # that are of use, over a text and over lines
MIN_TRAINING = 600  # updates that it always needs
STEPS = 64
USUAL_UPDATES = 3000  # of a training, unless the bounds of a batch require fewer or more
MIN_SHARD, MAX_BATCH = 512, 2048  # tokens; small shards take longer for each token
TILE_ROWS = 8  # of the engine's largest tile
MIN_UPDATES = 16  # in a pass over the text
UPDATES = 100  # that fit in the time at least, so that it can be kept
MIN_UPDATES_IN_TIME = 10  # with fewer, nothing is learned, and the training is refused
MIN_SEQUENCE = 4  # tokens of the shortest part, which is read in as many sequences
LR, WARMUP = 0.004, 0.02  # the rate of 512 units for a text of RATED characters, or fewer
RATED, GROWTH = 40_000, 0.75  # longer texts have (characters / RATED) ** GROWTH times that rate
MOST_TIMES, MAX_LR = 2.75, 0.022
RECURRENT = 1.375  # times that rate that recurrent layers have at most
ONE_RATE = 2 / MOST_TIMES  # share of both bounds for an optimizer with one rate for all layers
WEIGHT_DECAY, MAX_WEIGHT_DECAY = 0.1, 0.3
# Sum over the planned updates of rate times weight decay, with byte pairs. The best one was 2.1 to
# 2.45 of the updates that took place, about 1.2 times as many.
DECAY = 2.0
USUAL_SPEED = 1e11  # operations per second, for which epochs alone are planned

# Of pairs.
USUAL_SHARE = 0.999  # whose texts are read whole
OUTLIER = 1.25  # times the length of the longest of these; a longer text is cut
PAIR_HIDDEN = (32, 48, 64, 96, 128, 192, 256, 384, 512)
PRODUCTS_PER_TARGET = 6.0  # for a token of the targets, at most; a larger model memorizes them
PASSES_IN_TIME = 4.0  # that a model must make in the time; a larger one would learn too little
MAX_PAIR_PASSES = 60
PAIR_BATCH = 64
PAIR_LR, MAX_PAIR_LR = 0.004, 0.008  # the rate of 256 units, and of fewer
PAIR_DROPOUT = 0.3  # with a second layer


class Dropped(NamedTuple):
    """Dropout shares of outputs and inputs, for each factor of ten of what a model can memorize.

    - `inputs_from`: what it can memorize before inputs have any dropout. For byte pairs this is the
      number of passes over the text, for other tokens passes times products per character.
    """

    outputs: float
    inputs: float
    inputs_from: float


OF_BYTE_PAIRS, OF_OTHERS = Dropped(0.35, 0.35, 3.0), Dropped(0.25, 0.24, 15.0)


class Source(NamedTuple):
    """Sources of pairs: their vocabulary, their number, and the tokens to which they are padded."""

    vocab: int
    pairs: int
    steps: int


@dataclass(frozen=True)
class Facts:
    """A text, or the targets of pairs with their source, and a machine.

    - `tokens`, `characters`, `vocab`: sizes of the training part and of its vocabulary.
    - `shortest`: tokens of the shortest part.
    - `line`: mean number of targets of a line; 0 if lines are not sequences.
    - `speed`: operations per second of a training.
    - `precision`: fastest precision of products.
    - `tokenizer`: name of the text's tokenizer.
    """

    tokens: int
    characters: int
    vocab: int
    shortest: int
    line: float
    speed: float
    precision: str = SINGLE
    tokenizer: str = CHAR
    source: Source | None = None

    @classmethod
    def of_pairs(cls, texts: PairTexts, steps: int | None, speed: float) -> "Facts":
        """Facts of pairs, truncated to `steps` tokens; None is as many as almost all need."""
        if steps is None:
            usual = int(np.quantile(texts.lengths.max(0), USUAL_SHARE, method="higher"))
            longest = texts.longest if texts.longest <= OUTLIER * usual else usual
            steps = min(DEFAULT_LINE, longest)
        codec, pairs = texts.codec(steps), texts.num_train
        targets = int(np.minimum(texts.lengths[1, :pairs], steps).sum())
        source = Source(len(codec.source.vocab), pairs, steps)
        vocab = len(codec.vocab)
        return cls(targets, targets, vocab, steps, targets / pairs, speed, source=source)

    @classmethod
    def of(cls, text: Text, steps: int, speed: float, precision: str) -> "Facts":
        """Facts of a text, with lines truncated to `steps` tokens, trained at this speed."""
        shortest = min(len(part.ids) for part in text.parts.values() if len(part.ids))
        tokens = len(text.ids("training"))
        characters = max(1, text.sizes["training"].characters)
        line = text.mean_line(steps)
        if line:  # without truncated parts
            read = round(line * text.num_lines)
            characters = max(1, round(characters * read / tokens))
            tokens = read
        vocab, tokenizer = len(text.codec.vocab), text.codec.tokenizer.name
        return cls(tokens, characters, vocab, shortest, line, speed, precision, tokenizer)


def minutes(given: Mapping[str, Any]) -> float | None:
    """Time limit of a training with the given settings; None if it only has epochs."""
    found: float | None = given.get("minutes", None if "epochs" in given else MINUTES)
    return found


def choose(given: Mapping[str, Any], facts: Facts) -> tuple[Settings, list[str]]:
    """Complete the given settings, which are valid, and describe the choice in a few lines."""
    chosen = {"recipe": "auto", **given}
    if (limit := minutes(given)) is not None:
        chosen["minutes"] = limit
    chosen.setdefault("cell", CELL)
    chosen.setdefault("layers", 2 if chosen.get("dropout") else 1)
    chosen.setdefault("schedule", "cosine")
    chosen.setdefault("warmup", WARMUP)
    if facts.source is None:
        _choose_for_text(chosen, facts)
    else:
        _choose_for_pairs(chosen, facts, facts.source)
    settings = Settings(**chosen)
    return settings, _described(settings, facts)


def _choose_for_text(chosen: dict[str, Any], facts: Facts) -> None:
    """Choose the model, the batches and the regularization for a text."""
    seconds = 60 * chosen.get("minutes", MINUTES)
    wanted = _products(facts, seconds)
    chosen.setdefault("precision", facts.precision)
    arch = _choose_sizes(chosen, facts, HIDDEN, lambda arch: weights.products(arch) <= wanted)
    products = weights.products(arch)
    speed = facts.speed / weights.OPERATIONS / products  # tokens per second
    useful_passes = _useful_passes(chosen, facts, products)
    _choose_batches(chosen, facts, speed, useful_passes)
    passes = _choose_epochs(chosen, facts, speed, useful_passes)
    _choose_optimizer(chosen, facts, passes * facts.tokens / _batch_tokens(chosen, facts))
    _choose_dropout(chosen, facts, passes, products)


def _choose_for_pairs(chosen: dict[str, Any], facts: Facts, source: Source) -> None:
    """Choose the model and the batches for pairs."""
    chosen.setdefault("optimizer", "adam")
    chosen.setdefault("tokenizer", CHAR)
    chosen.setdefault("target_tokenizer", chosen["tokenizer"])
    chosen.setdefault("attention", ADDITIVE)
    chosen["seq_len"] = source.steps
    limit = chosen.get("minutes", math.inf)

    def passes(arch: Architecture) -> float:
        of_encoder, of_decoder = (weights.products(arch, part) for part in (ENCODER, DECODER))
        products = of_encoder * source.pairs * source.steps + of_decoder * facts.tokens
        return float(60 * limit * facts.speed / (weights.OPERATIONS * products))

    def is_justified(arch: Architecture) -> bool:
        is_small = weights.count(arch) <= PRODUCTS_PER_TARGET * facts.tokens
        return is_small and passes(arch) >= PASSES_IN_TIME

    arch = _choose_sizes(chosen, facts, PAIR_HIDDEN, is_justified)
    if chosen["layers"] > 1:
        chosen.setdefault("dropout", PAIR_DROPOUT)
    chosen.setdefault("batch_size", max(1, min(PAIR_BATCH, source.pairs // MIN_UPDATES)))
    rate = min(MAX_PAIR_LR, PAIR_LR * math.sqrt(256 / arch.hidden))
    chosen.setdefault("lr", round(rate, 4))
    if passes(arch) > MAX_PAIR_PASSES:
        chosen.setdefault("epochs", MAX_PAIR_PASSES)


def check_time(settings: Settings, facts: Facts) -> None:
    """Raise an ElmanError if the time allows too few updates for a model to learn anything."""
    if settings.minutes is None:
        return
    arch = _architecture(asdict(settings), facts, settings.hidden)
    speed = facts.speed / weights.OPERATIONS / weights.products(arch)  # tokens per second
    row = min(settings.seq_len, facts.line) if settings.lines else settings.seq_len
    updates = int(60 * settings.minutes * speed / (settings.batch_size * row))
    if updates < MIN_UPDATES_IN_TIME:
        raise ElmanError(
            f"a training requires {MIN_UPDATES_IN_TIME} updates or more, got {settings.minutes:g} "
            f"minutes for {settings.hidden} units and a vocabulary of {facts.vocab:,}: give more "
            "minutes, a smaller vocab size, fewer units or smaller "
            "batches"
        )


def _products(facts: Facts, seconds: float) -> float:
    """Number of products for a token that suits a text and a time.

    A model with p products reads n = speed * seconds / (6 p) tokens in the time. Choose the largest
    p with n / p >= CHARACTERS_PER_PRODUCT that the size of the text justifies.
    """
    characters = facts.speed * seconds / weights.OPERATIONS * facts.characters / facts.tokens
    return min(
        math.sqrt(characters / CHARACTERS_PER_PRODUCT), PRODUCTS_PER_CHARACTER * facts.characters
    )


def _choose_sizes(
    chosen: dict[str, Any],
    facts: Facts,
    usual: Sequence[int],
    fits: Callable[[Architecture], bool],
) -> Architecture:
    """Choose the architecture with the most hidden units that fits, or the smallest one."""
    sizes = usual
    if "hidden" in chosen:
        sizes = (chosen["hidden"],)
    elif chosen.get("tied") and chosen.get("embedding"):
        sizes = (chosen["embedding"],)
    models = [_architecture(chosen, facts, hidden) for hidden in sizes]
    arch = [models[0], *filter(fits, models)][-1]
    chosen |= {"hidden": arch.hidden, "embedding": arch.embedding}
    return arch


def _architecture(chosen: Mapping[str, Any], facts: Facts, hidden: int) -> Architecture:
    """Architecture with this number of hidden units."""
    tied, source = chosen.get("tied", False), facts.source
    wide = tied or facts.vocab > MAX_CHARACTERS or facts.tokenizer == BPE
    usual = hidden if wide and source is None else min(EMBEDDING, hidden)
    return Architecture(
        *(chosen["cell"], facts.vocab, hidden, chosen["layers"]),
        *(chosen.get("embedding", usual), tied),
        source_vocab=0 if source is None else source.vocab,
        attention=chosen.get("attention") == ADDITIVE,
    )


def _useful_passes(chosen: Mapping[str, Any], facts: Facts, products: int) -> float:
    """Passes over the text that are of use: with more, a model memorizes it."""
    least = MIN_LINE_PASSES if chosen.get("lines") else MIN_PASSES
    return max(least, LEARNED * facts.characters / products)


def _choose_epochs(chosen: dict[str, Any], facts: Facts, speed: float, useful: float) -> float:
    """Choose a number of epochs if the time is too long; return the passes over the text."""
    passes: float = speed / facts.tokens * 60 * chosen.get("minutes", math.inf)
    trained = MIN_TRAINING * _batch_tokens(chosen, facts) / facts.tokens
    most = min(MAX_PASSES, math.ceil(max(useful, trained)))
    if passes > most:
        chosen.setdefault("epochs", most)
    return min(passes, float(chosen.get("epochs", math.inf)))


def _batch_tokens(chosen: Mapping[str, Any], facts: Facts) -> float:
    """Number of tokens of a batch; of lines, the mean."""
    row = max(1, facts.line) if chosen.get("lines") else chosen["seq_len"]
    return float(row * chosen["batch_size"])


def _choose_batches(chosen: dict[str, Any], facts: Facts, speed: float, useful: float) -> None:
    """Choose batches such that a training has about USUAL_UPDATES.

    They are smaller for a short text, and where the time has too few updates otherwise.
    """
    in_time = speed * 60 * chosen.get("minutes", math.inf)  # tokens
    shards = chosen.get("shards") or 1
    row = facts.line or chosen.get("seq_len", STEPS)
    least = min(shards * max(MIN_SHARD, TILE_ROWS * row), in_time / UPDATES)
    passes = min(useful, MAX_PASSES, chosen.get("epochs", math.inf))
    usual = min(in_time, passes * facts.tokens) / USUAL_UPDATES
    usual = min(MAX_BATCH, max(usual, least, shards * STEPS))
    tokens = max(1.0, min(usual, facts.tokens / MIN_UPDATES))
    if chosen.get("lines"):
        chosen.setdefault("batch_size", max(shards, _rows(tokens / max(1, facts.line))))
        return
    chosen.setdefault("batching", "shuffled")
    steps = min(STEPS, round(tokens))
    if chosen["batching"] != "contiguous":  # a window and its next token
        steps = min(steps, (facts.shortest if chosen["batching"] == "random" else facts.tokens) - 1)
    chosen.setdefault("seq_len", max(1, steps))
    sequences = min(tokens / chosen["seq_len"], facts.shortest / MIN_SEQUENCE)
    chosen.setdefault("batch_size", max(shards, _rows(sequences)))


def _rows(number: float) -> int:
    """Sequences of a batch: whole tiles if there are enough, and at least one."""
    tile = TILE_ROWS if number >= TILE_ROWS else 1
    return max(1, round(number / tile)) * tile


def _choose_optimizer(chosen: dict[str, Any], facts: Facts, updates: float) -> None:
    """Choose the optimizer, the learning rates and their schedule, and weight decay.

    A short text has a lower rate, with which a model learns it by heart later, and so has a cell
    without gates.
    """
    chosen.setdefault("optimizer", "sgd" if chosen.get("momentum") else "adamw")
    kind = OPTIMIZERS[chosen["optimizer"]]
    share = 1.0 if "recurrent_lr" in kind.takes else ONE_RATE
    one, times = LR * math.sqrt(512 / chosen["hidden"]), 1.0
    if len(cell_named(chosen["cell"]).gates) > 1:
        times = max(1.0, min(share * MOST_TIMES, (facts.characters / RATED) ** GROWTH))
    rate = min(share * MAX_LR, times * one)
    rate *= kind.lr / OPTIMIZERS["adamw"].lr
    chosen.setdefault("lr", kind.lr if chosen["optimizer"] == "sgd" else round(rate, 4))
    if "recurrent_lr" in kind.takes:
        recurrent = min(1.0, RECURRENT / times) * chosen["lr"]
        chosen.setdefault("recurrent_lr", float(f"{recurrent:.3g}"))
    if "weight_decay" in kind.takes:
        mean_rate = chosen["lr"] / (2 if chosen["schedule"] == "cosine" else 1)
        decay = _weight_decay(facts, updates * mean_rate, chosen["lr"] / one)
        chosen.setdefault("weight_decay", decay)


def _weight_decay(facts: Facts, rates: float, times: float) -> float:
    """Weight decay that suits the learning rate.

    - `rates`: sum of the rates of all updates.
    - `times`: the rate as a multiple of that of a short text.

    With AdamW, weights are an average over the last 1 / (rate * weight decay) updates (Wang and
    Aitchison 2024). With byte pairs these are the same share of any training.
    """
    if facts.tokenizer != BPE:
        return round(min(WEIGHT_DECAY, 2 * WEIGHT_DECAY / times), 3)
    return round(min(MAX_WEIGHT_DECAY, DECAY / rates), 3)


def _choose_dropout(chosen: dict[str, Any], facts: Facts, passes: float, products: int) -> None:
    """Choose the dropout shares: the more a model can memorize, the higher they are.

    That grows with the passes over a text, and with the products for each character. Outputs have
    more with byte pairs: each of them occurs less often in a text than a character.
    """
    memorized = passes * products / facts.characters
    found, growing = (OF_BYTE_PAIRS, passes) if facts.tokenizer == BPE else (OF_OTHERS, memorized)
    outputs = min(0.5, found.outputs * math.log10(max(1, memorized)))
    inputs = min(0.3, found.inputs * math.log10(max(1, growing / found.inputs_from)))
    chosen.setdefault("output_dropout", round(outputs, 2))
    if chosen["layers"] > 1:
        chosen.setdefault("dropout", chosen["output_dropout"])
    if chosen["embedding"]:
        chosen.setdefault("input_dropout", round(inputs, 2))


def _described(settings: Settings, facts: Facts) -> list[str]:
    """Lines on the tokens if they are not characters, the model, its training and regularization.

    The speeds and passes used for the choice are omitted: they belong to another model.
    """
    source, vocab = facts.source, f"a vocabulary of {facts.vocab:,}"
    layers = counted(settings.layers, "layer")
    inputs = f"an embedding of {settings.embedding}" if settings.embedding else "one-hot input"
    model = f"{settings.cell}, {layers} of {settings.hidden} units, "
    end = "" if settings.minutes is None else f"{counted(settings.minutes, 'minute')}, "
    end += "" if settings.epochs is None else f"at most {counted(settings.epochs, 'epoch')}, "
    rates = f"learning rate {settings.lr:g}"
    if settings.recurrent_factor != 1:
        rates += f", {settings.recurrent_lr:g} in recurrent layers"
    training = f"training: {end}{settings.optimizer}, {rates}, {settings.schedule} schedule, "
    if source is not None:
        attention = "attention, " if settings.attention == ADDITIVE else ""
        return [
            f"tokens: {settings.tokenizer} in sources, a vocabulary of {source.vocab:,}; "
            f"{settings.target_tokenizer} in targets, {vocab}",
            f"model: encoder and decoder, {model}{attention}{inputs}",
            f"{training}batches of {settings.batch_size} of {source.pairs:,} pairs",
        ]
    order = "" if settings.lines else f"{settings.batching} "
    sequences = "lines" if settings.lines else f"sequences of {settings.seq_len} tokens"
    between = "" if settings.layers == 1 else f"{settings.dropout:g} between layers, "
    most = "at most " if settings.minutes is not None else ""
    read = "" if settings.epochs is None else f"{most}{settings.epochs:,} times the "
    units = {CHAR: "", BPE: "byte pairs"}.get(facts.tokenizer, f"{facts.tokenizer}s")
    return [
        *([f"tokens: {units}, {vocab}"] if units else []),
        f"model: {model}{inputs}, {settings.precision} precision",
        f"{training}{order}batches of {settings.batch_size} {sequences}",
        f"regularization: dropout {between}{settings.input_dropout:g} on the embedding and "
        f"{settings.output_dropout:g} on outputs, weight decay {settings.weight_decay or 0:g}, for "
        f"{read}{facts.tokens:,} tokens",
    ]
