"""Settings for a text of the user's: all that is not given follows from a few facts.

The facts are the size of the training part, the vocabulary, the time, and the speed of the machine.
The constants below were measured with benchmarks/choices.py and tokens.py; docs/recipe.md has
the measurements.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from elman.core.data.text import Text
from elman.core.errors import ElmanError
from elman.core.experiments.settings import Settings
from elman.core.model import weights
from elman.core.model.optimizers import OPTIMIZERS
from elman.core.model.precision import SINGLE
from elman.core.model.weights import Architecture
from elman.core.setting_fields import check_given
from elman.core.valid_values import BPE, CHAR

MINUTES = 3.0  # of a training, unless they or the epochs are given
HIDDEN = (32, 48, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024)
CHARACTERS_PER_PRODUCT = 7.0  # that the time is to allow; a larger model would learn too slowly
PRODUCTS_PER_CHARACTER = 6.0  # of the text at most; a larger model would learn it by heart
READ_AS_PAIRS = 4e6  # characters a second; reading is not to take longer than the training
EMBEDDING = 64  # of characters or bytes; that of other tokens is as large as the hidden state
MAX_CHARACTERS = 512  # distinct ones
MAX_PASSES = 150  # over the text
LEARNT = 100.0  # passes times products per character, after which a model learns a text by heart
MIN_TRAINING = 600  # updates, which it needs in any case
STEPS = 64
BATCH_TOKENS = 2048
MIN_UPDATES = 16  # of a pass over the text
UPDATES = 100  # that the time allows at least, so that it can be kept
MIN_UPDATES_IN_TIME = 10  # below which nothing is learnt, and a training is refused
MIN_SEQUENCE = 4  # tokens of the shortest part, which is read in as many sequences
LR, WARMUP = 0.004, 0.02  # the rate of 512 units
WEIGHT_DECAY = 0.1
USUAL_SPEED = 1e11  # operations per second, for which epochs alone are planned


class Dropped(NamedTuple):
    """Shares that are dropped for each factor of ten, of the outputs and of the inputs.

    - `passes`: over the text, up to which no inputs are dropped.
    """

    outputs: float
    inputs: float
    passes: float


OF_PAIRS, OF_OTHERS = Dropped(0.35, 0.35, 3.0), Dropped(0.25, 0.2, 10.0)


@dataclass(frozen=True)
class Facts:
    """A text and a machine.

    - `tokens`, `characters`, `vocab`: sizes of the training part and of its vocabulary.
    - `shortest`: tokens of the shortest part.
    - `line`: mean number of targets of a line; 0 if lines are no sequences of their own.
    - `speed`: operations per second of a training.
    - `precision`: precision of products that is the fastest.
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

    @classmethod
    def of(cls, text: Text, steps: int, speed: float, precision: str) -> "Facts":
        """Facts of a text, whose lines are cut after `steps` tokens, trained at this speed."""
        shortest = min(len(part.ids) for part in text.parts.values() if len(part.ids))
        tokens = len(text.ids("training"))
        characters = max(1, text.sizes["training"].characters)
        line = text.mean_line(steps)
        if text.lines:  # without what is cut
            read = round(line * text.num_lines)
            characters = max(1, round(characters * read / tokens))
            tokens = read
        vocab, tokenizer = len(text.codec.vocab), text.codec.tokenizer.name
        return cls(tokens, characters, vocab, shortest, line, speed, precision, tokenizer)


def minutes(given: Mapping[str, Any]) -> float | None:
    """Time of a training with the settings that are given; None if it has only epochs."""
    found: float | None = given.get("minutes", None if "epochs" in given else MINUTES)
    return found


def choose(given: Mapping[str, Any], facts: Facts) -> tuple[Settings, list[str]]:
    """Complete the settings that are given, and describe the choice in a few lines.

    An ElmanError tells of values that are not valid or do not go together.
    """
    check_given(Settings, given)
    chosen = {"recipe": "auto", **given}
    if (limit := minutes(given)) is not None:
        chosen["minutes"] = limit
    seconds = 60 * chosen.get("minutes", MINUTES)
    arch = _choose_model(chosen, facts, _products(facts, seconds))
    products = weights.products(arch)
    speed = facts.speed / weights.OPERATIONS / products  # tokens per second
    _choose_batches(chosen, facts, speed)
    passes = _choose_epochs(chosen, facts, speed, products)
    _choose_optimizer(chosen)
    _choose_dropout(chosen, facts, passes, products)
    settings = Settings(**chosen)
    return settings, _described(settings, facts)


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
            f"a training needs {MIN_UPDATES_IN_TIME} updates or more, and {settings.minutes:g} "
            f"minutes are too short, with {settings.hidden} units and a vocabulary of "
            f"{facts.vocab:,}: give more minutes, a smaller vocab size, fewer units or smaller "
            "batches"
        )


def _products(facts: Facts, seconds: float) -> float:
    """Products for a token that suit a text and a time.

    A model with p products reads n = speed * seconds / (6 p) tokens in the time. It has as many as
    leave CHARACTERS_PER_PRODUCT for each of them, and not more than the text has use for.
    """
    characters = facts.speed * seconds / weights.OPERATIONS * facts.characters / facts.tokens
    return min(
        math.sqrt(characters / CHARACTERS_PER_PRODUCT), PRODUCTS_PER_CHARACTER * facts.characters
    )


def _choose_model(chosen: dict[str, Any], facts: Facts, wanted: float) -> Architecture:
    """Choose the largest model that has as many products as `wanted` for a token."""
    chosen.setdefault("cell", "gru")
    chosen.setdefault("precision", facts.precision)
    chosen.setdefault("layers", 2 if chosen.get("dropout") else 1)
    arch = _largest(chosen, facts, wanted)
    chosen |= {"hidden": arch.hidden, "embedding": arch.embedding}
    return arch


def _largest(chosen: Mapping[str, Any], facts: Facts, wanted: float) -> Architecture:
    """Architecture with the most hidden units and so many products, or with the fewest of all."""
    sizes: Sequence[int] = HIDDEN
    if "hidden" in chosen:
        sizes = (chosen["hidden"],)
    elif chosen.get("tied") and chosen.get("embedding"):
        sizes = (chosen["embedding"],)
    models = [_architecture(chosen, facts, hidden) for hidden in sizes]
    fitting = [arch for arch in models if weights.products(arch) <= wanted]
    return fitting[-1] if fitting else models[0]


def _architecture(chosen: Mapping[str, Any], facts: Facts, hidden: int) -> Architecture:
    """Architecture with so many hidden units."""
    tied = chosen.get("tied", False)
    wide = tied or facts.vocab > MAX_CHARACTERS or facts.tokenizer == BPE
    embedding = chosen.get("embedding", hidden if wide else min(EMBEDDING, hidden))
    return Architecture(chosen["cell"], facts.vocab, hidden, chosen["layers"], embedding, tied)


def _choose_epochs(chosen: dict[str, Any], facts: Facts, speed: float, products: int) -> float:
    """Choose a number of epochs where the time is too long; returns the passes over the text.

    A larger model than would be chosen has as many as the largest one.
    """
    passes: float = speed / facts.tokens * 60 * chosen.get("minutes", math.inf)
    learnt = LEARNT / min(products / facts.characters, PRODUCTS_PER_CHARACTER)
    row = max(1, facts.line) if chosen.get("lines") else chosen["seq_len"]
    trained = MIN_TRAINING * chosen["batch_size"] * row / facts.tokens
    most = min(MAX_PASSES, math.ceil(max(learnt, trained)))
    if passes > most:
        chosen.setdefault("epochs", most)
    return min(passes, float(chosen.get("epochs", math.inf)))


def _choose_batches(chosen: dict[str, Any], facts: Facts, speed: float) -> None:
    """Choose batches of about as many tokens for all texts, and fewer for short texts and times."""
    in_time = speed * 60 * chosen.get("minutes", math.inf) / UPDATES  # tokens
    in_time = max(in_time, STEPS * (chosen.get("shards") or 1))
    tokens = max(1.0, min(BATCH_TOKENS, facts.tokens / MIN_UPDATES, in_time))
    if chosen.get("lines"):
        chosen.setdefault("batch_size", max(1, round(tokens / max(1, facts.line))))
        return
    chosen.setdefault("batching", "contiguous")
    steps = min(STEPS, round(tokens))
    if chosen["batching"] == "random":
        steps = min(steps, facts.shortest - 1)  # a window and its next token
    chosen.setdefault("seq_len", max(1, steps))
    sequences = min(tokens / chosen["seq_len"], facts.shortest / MIN_SEQUENCE)
    chosen.setdefault("batch_size", max(1, round(sequences)))


def _choose_optimizer(chosen: dict[str, Any]) -> None:
    """Choose the optimizer, the learning rate and its schedule."""
    chosen.setdefault("optimizer", "sgd" if chosen.get("momentum") else "adamw")
    kind = OPTIMIZERS[chosen["optimizer"]]
    rate = LR * math.sqrt(512 / chosen["hidden"]) * (kind.lr / OPTIMIZERS["adamw"].lr)
    chosen.setdefault("lr", kind.lr if chosen["optimizer"] == "sgd" else round(rate, 4))
    if "weight_decay" in kind.takes:
        chosen.setdefault("weight_decay", WEIGHT_DECAY)
    chosen.setdefault("schedule", "cosine")
    chosen.setdefault("warmup", WARMUP)


def _choose_dropout(chosen: dict[str, Any], facts: Facts, passes: float, products: int) -> None:
    """Choose the shares that are dropped: the more, the more a model can learn by heart.

    That grows with the passes over a text, and with its products for each character. It is more
    with byte pairs, each of which a text has fewer times than a character.
    """
    found = OF_PAIRS if facts.tokenizer == BPE else OF_OTHERS
    outputs = min(0.5, found.outputs * math.log10(max(1, passes * products / facts.characters)))
    inputs = min(0.3, found.inputs * math.log10(max(1, passes / found.passes)))
    chosen.setdefault("output_dropout", round(outputs, 2))
    if chosen["layers"] > 1:
        chosen.setdefault("dropout", chosen["output_dropout"])
    if chosen["embedding"]:
        chosen.setdefault("input_dropout", round(inputs, 2))


def _described(settings: Settings, facts: Facts) -> list[str]:
    """Lines on the tokens if they are not characters, the model, its training and regularisation.

    Speeds and passes that the choice went by are left out: they are those of another model.
    """
    layers = counted(settings.layers, "layer")
    inputs = f"an embedding of {settings.embedding}" if settings.embedding else "one-hot input"
    end = "" if settings.minutes is None else f"{counted(settings.minutes, 'minute')}, "
    end += "" if settings.epochs is None else f"at most {counted(settings.epochs, 'epoch')}, "
    sequences = "lines" if settings.lines else f"sequences of {settings.seq_len} tokens"
    between = "" if settings.layers == 1 else f"{settings.dropout:g} between layers, "
    most = "at most " if settings.minutes is not None else ""
    read = "" if settings.epochs is None else f"{most}{settings.epochs:,} times the "
    units = {CHAR: "", BPE: "byte pairs"}.get(facts.tokenizer, f"{facts.tokenizer}s")
    return [
        *([f"tokens: {units}, a vocabulary of {facts.vocab:,}"] if units else []),
        f"model: {settings.cell}, {layers} of {settings.hidden} units, {inputs}, "
        f"{settings.precision} precision",
        f"training: {end}{settings.optimizer}, learning rate {settings.lr:g}, "
        f"{settings.schedule} schedule, batches of {settings.batch_size} {sequences}",
        f"regularisation: dropped {between}{settings.input_dropout:g} of the embedding and "
        f"{settings.output_dropout:g} of outputs, weight decay {settings.weight_decay or 0:g}, for "
        f"{read}{facts.tokens:,} tokens",
    ]


def counted(number: float, noun: str) -> str:
    """A number of things, in words."""
    return f"{number:.10g} {noun}{'' if number == 1 else 's'}"
