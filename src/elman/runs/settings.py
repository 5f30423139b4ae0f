"""Settings of a training: a single list of all options with default, bounds, choices and help.

The options of `elman train`, their help and checks, and the fields of config.json and training.json
are derived from it. Options of a model come from `ModelOptions`, options of an optimizer from
`Optimizer`. Add a new setting to one of these classes, and read it where it takes effect.

A field declares the only value that it has with `text`, with `pairs`, or with the `book`'s text;
None if it does not apply to them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from elman import setting_fields
from elman.errors import (
    ElmanError,
    alternatives,
    did_you_mean,
    in_words,
    require_one_of,
    shortened,
)
from elman.model.cells import CELLS, CellError
from elman.model.optimizers import Optimizer, check_taken
from elman.model.options import ModelOptions
from elman.model.registry import REGISTER, check_cell
from elman.runs.frameworks import check_has_pairs
from elman.setting_fields import (
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    checked,
    choice,
    flag,
    path,
    paths,
    real,
    values_of,
    whole,
)
from elman.terms import Option, preparing
from elman.valid_values import (
    ADDITIVE,
    ATTENTION,
    BATCHING,
    DEVICES,
    DIFFERENTIATING,
    EDITIONS,
    FRAMEWORKS,
    LOGS,
    MAX_BATCH_SIZE,
    MAX_EMBEDDING,
    MAX_EPOCHS,
    MAX_HIDDEN,
    MAX_LAYERS,
    MAX_SEED,
    MAX_SEQ_LEN,
    MAX_SHARDS,
    MAX_VOCAB_SIZE,
    NEWLINES,
    PAIR_TOKENIZERS,
    RECIPES,
    SCHEDULES,
    SHARDED,
    TIME_MACHINE,
    TOKENIZERS,
)

if TYPE_CHECKING:
    from elman.model.weights import Architecture

CHOSEN = frozenset(  # settings that are chosen for a text, unless they are given
    {
        "tokenizer",
        "vocab_size",
        "cell",
        "hidden",
        "layers",
        "embedding",
        "dropout",
        "input_dropout",
        "output_dropout",
        "precision",
        "seq_len",
        "batch_size",
        "batching",
        "epochs",
        "minutes",
        "schedule",
        "warmup",
        "optimizer",
        "lr",
        "weight_decay",
        "recurrent_lr",
    }
)
# Metadata of settings that only a text of the user has, and of those that only pairs have.
OF_A_TEXT: Mapping[str, Any] = {"pairs": None, "book": None}
ONLY_PAIRS: Mapping[str, Any] = {"text": None, "book": None}
DEFAULT_EPOCHS = 100
DEFAULT_SEQ_LEN, DEFAULT_LINE = 32, 256


def _check_cell(name: Any) -> None:
    """Raise an ElmanError unless this is the name of a cell; suggest a similar built-in name."""
    try:
        check_cell(name)
    except CellError as error:
        if did_you_mean(name, tuple(CELLS)):
            require_one_of(tuple(CELLS), cell=name)
        raise CellError(
            f"cell must be {alternatives(tuple(CELLS))}, got {shortened(name)}: to use another, ",
            REGISTER,
        ) from error


@dataclass(frozen=True)
class TextSettings:
    """Settings of the text and its parts."""

    text: str = path(
        TIME_MACHINE,
        f"UTF-8 text file, plain or gzip-compressed, a store, or {TIME_MACHINE}.",
        argument=True,
    )
    more_texts: list[str] = paths(  # noqa: RUF009 (its default is a factory)
        "More files that continue the text.",
        argument=True,
        metavar="MORE",
        **OF_A_TEXT,
    )
    split: str | None = checked(
        None,
        "Training, validation and test.",
        lambda value: _check_shares(value, None, None),
        unset="0.8,0.1,0.1",
        book=None,
    )
    val: str | None = path(
        None,
        "Validation text; the text is then only for training.",
        metavar="FILE",
        **OF_A_TEXT,
    )
    test: str | None = path(
        None,
        "Test text; the text is then split 0.9,0.1 by default.",
        metavar="FILE",
        **OF_A_TEXT,
    )
    lines: bool = flag("Read each line as a separate sequence.", **OF_A_TEXT)
    edition: str | None = choice(
        None, "Edition of The Time Machine: {choices}.", EDITIONS, unset=EDITIONS[0]
    )
    recipe: str = choice(
        None,
        "{choices}.",
        RECIPES,
        unset="auto for your own text",
        pairs="auto",
        book="book",
    )
    tokenizer: str | None = choice(
        None,
        "{choices}.",
        TOKENIZERS,
        unset="char",
        book="char",
    )
    vocab_size: int | None = whole(
        None,
        "Most frequent tokens to keep.",
        at_least=2,
        at_most=MAX_VOCAB_SIZE,
        unset="all; bpe 4096",
        **OF_A_TEXT,
    )
    min_freq: int | None = whole(
        None,
        "Rarer tokens become <unk>.",
        at_least=1,
        unset="word 2, char 1",
        **OF_A_TEXT,
    )
    newlines: str | None = choice(
        None,
        "universal reads CR LF and CR as LF; keep does not.",
        NEWLINES,
        unset="universal",
        **OF_A_TEXT,
    )


@dataclass(frozen=True)
class PairSettings:
    """Settings of pairs, for an encoder-decoder."""

    pairs: bool = flag("Learn the target after the tab of each line from the source before it.")
    target_tokenizer: str | None = choice(
        None, "{choices}.", PAIR_TOKENIZERS, unset="as the tokenizer", **ONLY_PAIRS
    )
    attention: str | None = choice(
        None,
        "{choices}: what the decoder reads.",
        ATTENTION,
        unset=f"{ATTENTION[0]} for pairs",
        **ONLY_PAIRS,
    )


@dataclass(frozen=True)
class SizeSettings:
    """Settings of an architecture, except the size of the vocabulary."""

    cell: str = checked(
        "rnn",
        f"{alternatives(tuple(CELLS))}, or an installed cell.",
        _check_cell,
        pairs="gru",
    )
    hidden: int = whole(32, "Hidden units of each layer.", at_least=1, at_most=MAX_HIDDEN)
    layers: int = whole(1, "Recurrent layers.", at_least=1, at_most=MAX_LAYERS)
    embedding: int = whole(
        0, "Embedding size; 0 is one-hot input.", at_least=0, at_most=MAX_EMBEDDING
    )
    tied: bool = flag("Use the embedding as the output layer's weight.", pairs=None)


@dataclass(frozen=True)
class LoopSettings:
    """Settings of the batches and the training loop."""

    seq_len: int = whole(
        None,
        "Tokens of a window, at most of a line.",
        at_least=1,
        at_most=MAX_SEQ_LEN,
        unset=f"{DEFAULT_SEQ_LEN}; lines {DEFAULT_LINE}",
    )
    batch_size: int = whole(
        1024, "Windows or lines of a batch.", at_least=1, at_most=MAX_BATCH_SIZE
    )
    batching: str = choice(
        "random",
        "{choices} windows.",
        BATCHING,
        pairs="random",
        book="random",
    )
    epochs: int | None = whole(
        None,
        "Passes over the training part.",
        at_least=1,
        at_most=MAX_EPOCHS,
        unset=str(DEFAULT_EPOCHS),
    )
    minutes: float | None = real(None, "Time budget; 3 without epochs.", POSITIVE, unset="none")
    patience: int | None = whole(None, "Stop after N validations without a lower loss.", at_least=1)
    schedule: str = choice("constant", "{choices}.", SCHEDULES)
    warmup: float = real(0.0, "Share of the training with a rising rate.", SHARE)
    clip: float = real(1.0, "Largest gradient norm; 0 is no bound.", NOT_NEGATIVE)


@dataclass(frozen=True)
class PlaceSettings:
    """Settings of where a training runs, what it starts from, and what it writes."""

    framework: str = choice(
        "numba",
        "{choices}.",
        FRAMEWORKS,
    )
    device: str = choice("auto", "{choices}.", DEVICES)
    shards: int | None = whole(
        None,
        "Parts of a batch, a power of two, shared by the workers.",
        at_least=1,
        at_most=MAX_SHARDS,
        unset="the workers, or the next power of two",
        pairs=None,
    )
    partition_optimizer: bool = flag(
        "Divide the optimizer's state among workers (ZeRO 1).", pairs=None
    )
    seed: int = whole(0, "Seed of weights and batches.", at_least=0, at_most=MAX_SEED)
    init: str | None = path(
        None,
        "Start from the model of this finished run.",
        metavar="RUN",
        pairs=None,
    )
    log: str | None = choice(
        None,
        "Also write a log: {choices}.",
        LOGS,
    )


@dataclass(frozen=True)
class Settings(
    PlaceSettings,
    Optimizer,
    LoopSettings,
    ModelOptions,
    SizeSettings,
    PairSettings,
    TextSettings,
):
    """Options of a training. The defaults are the book's. An ElmanError names an invalid value.

    Fields left None whose value follows from others, such as `lr`, are filled in. The fields of the
    last base class come first.
    """

    def __post_init__(self) -> None:
        Optimizer.__post_init__(self)  # it checks the fields of all classes
        self._fill_in()
        check_together(vars(self))

    def _fill_in(self) -> None:
        """Fill in fields that are None and follow from other settings."""
        if self.recipe is None:
            object.__setattr__(self, "recipe", "book")
        if self.seq_len is None:
            length = DEFAULT_LINE if self.lines else DEFAULT_SEQ_LEN
            object.__setattr__(self, "seq_len", length)
        if self.epochs is None and self.minutes is None:
            object.__setattr__(self, "epochs", DEFAULT_EPOCHS)
        if self.edition is None and self.text == TIME_MACHINE:
            object.__setattr__(self, "edition", EDITIONS[0])

    @property
    def by_time(self) -> bool:
        """True if only the time limit ends the training."""
        return self.minutes is not None and self.epochs is None

    def architecture(self, vocab: int, source_vocab: int = 0) -> "Architecture":
        """Architecture of a model with these sizes of its vocabulary and of its source's."""
        from elman.model.weights import Architecture

        attention = self.attention == ADDITIVE
        own = values_of(self, SizeSettings)
        return Architecture(vocab=vocab, source_vocab=source_vocab, attention=attention, **own)


def check_given(given: Mapping[str, Any]) -> None:
    """Raise an ElmanError for settings that are invalid or conflict.

    Settings that are not given are not checked: they are chosen later.
    """
    setting_fields.check_given(Settings, given)
    check_together(given)


def check_together(values: Mapping[str, Any]) -> None:
    """Raise an ElmanError for settings that conflict. Some may be missing."""
    text = values.get("text", TIME_MACHINE)
    check_text(text, values.get("edition"))
    others = (values.get("val"), values.get("test"))
    for each in (text, *values.get("more_texts", ()), *others):
        if each is not None:
            _check_file(each)
    _check_applicable(values)
    if values.get("pairs"):
        _check_pairs(values)
    _check_parts(values)
    _check_workers(values)
    _check_model(values)
    _check_optimizer(values)


IN_THE_BOOK = {  # how The Time Machine is read
    "recipe": "trained as in the book, got recipe {}: give the path of a text file",
    "tokenizer": "read by characters, as in the book, got {}: give a text file to use bytes or "
    "words",
    "batching": "read in random windows, as in the book, got {}: give a text file",
}


def _check_applicable(values: Mapping[str, Any]) -> None:
    """Raise an ElmanError for a setting that what is read does not have, by the metadata."""
    in_the_book = values.get("text", TIME_MACHINE) == TIME_MACHINE
    kind = "pairs" if values.get("pairs") else "book" if in_the_book else "text"
    if kind == "pairs" and in_the_book:
        raise ElmanError("pairs are read from a file of yours, got none: give its path")
    for each in fields(Settings):
        value = values.get(each.name)
        only = each.metadata.get(kind, value)
        if not value or value == only:
            continue
        name, pairs = in_words(each.name), Option("pairs")
        if kind == "text":
            raise ElmanError(f"{name} requires ", pairs, f", got {value}: give ", pairs)
        if kind == "book" and only is not None:
            raise ElmanError(f"The Time Machine is {IN_THE_BOOK[each.name].format(value)}")
        if kind == "book":
            raise ElmanError(
                f"{name} does not apply to The Time Machine, got {value}: leave it out, or give a "
                "text file"
            )
        rule = f"{name} does not apply to pairs" if only is None else f"{name} of pairs is {only}"
        raise ElmanError(f"{rule}, got {value}: leave it out")


def _check_pairs(values: Mapping[str, Any]) -> None:
    """Raise an ElmanError for values that an encoder-decoder cannot have."""
    from elman.data.parts import parse_split

    if values.get("embedding") == 0:
        raise ElmanError("a model of pairs has an embedding, got embedding 0: give it a size")
    if "framework" in values:
        check_has_pairs(values["framework"])
    for name in ("tokenizer", "target_tokenizer"):
        if (tokens := values.get(name)) is not None:
            require_one_of(PAIR_TOKENIZERS, **{name: tokens})
    if len(parse_split(values.get("split")) or ()) > 2:
        raise ElmanError(
            f"the split of pairs has two shares, got {values['split']}: give those for training "
            "and validation"
        )


def _check_parts(values: Mapping[str, Any]) -> None:
    from elman.data.orders import check_order_of_lines

    _check_shares(values.get("split"), values.get("val"), values.get("test"))
    check_order_of_lines(values.get("lines", False), values.get("batching", "random"))


def _check_workers(values: Mapping[str, Any]) -> None:
    from elman.training.workers.processes import check_shards

    shards = values.get("shards")
    framework = values.get("framework", Settings.framework)
    shown, partition = Option("shards"), Option("partition_optimizer")
    if shards is not None:
        check_shards(shards, 1)
        if framework not in SHARDED:
            raise ElmanError(
                f"shards require {alternatives(SHARDED)}, got {framework}: leave ",
                shown,
                " out, or choose another framework",
            )
    elif values.get("partition_optimizer"):
        raise ElmanError(
            partition, " requires ", shown, ": give ", shown, ", or leave ", partition, " out"
        )


def _check_model(values: Mapping[str, Any]) -> None:
    from elman.model.options import SINGLE, check_precision
    from elman.model.weights import check_tied

    framework = values.get("framework", Settings.framework)
    check_precision(values.get("precision", SINGLE), framework)
    cell = values.get("cell", Settings.cell)
    if cell not in CELLS and framework not in DIFFERENTIATING:
        raise ElmanError(
            f"{framework} has no gradients of the cell {cell}: choose ",
            Option("framework", DIFFERENTIATING[0]),
            f", {alternatives(DIFFERENTIATING[1:])}",
        )
    if values.get("tied"):
        if values.get("embedding") == 0 and "hidden" not in values:
            raise ElmanError(
                "tied weights require an embedding, got embedding 0: give it a size, or leave it "
                "out"
            )
        hidden = values.get("hidden", values.get("embedding")) or 1
        check_tied(True, values.get("embedding", hidden), hidden)
    if values.get("dropout") and values.get("layers") == 1:
        raise ElmanError(
            f"dropout requires two layers or more, got {values['dropout']} with one: add layers"
        )
    if values.get("input_dropout") and values.get("embedding") == 0:
        raise ElmanError(
            f"input dropout requires an embedding, got {values['input_dropout']} without one: ",
            "give ",
            Option("embedding"),
            " a size, or leave ",
            Option("input_dropout"),
            " out",
        )


def _check_optimizer(values: Mapping[str, Any]) -> None:
    optimizer = values.get("optimizer", "sgd" if values.get("momentum") else "adamw")
    check_taken(optimizer, values)


def _check_file(text: str) -> None:
    """Raise an ElmanError unless this can be the file of a text that is read repeatedly."""
    check_text(text, None)
    if text == "-":
        raise ElmanError(
            "a training cannot read standard input, since resuming reads the text again, got -: "
            "give the path of a file, or of a store made by ",
            preparing("-"),
        )


def check_text(text: str, edition: str | None) -> None:
    """Raise an ElmanError unless this can be a text, and has the edition if one is given."""
    from elman.text.in_memory import check_edition
    from elman.text.text_files import check_path

    if not text:
        raise ElmanError(f"text must be a path, got {text!r}")
    check_path(text)
    check_edition(text, edition)


def _check_shares(split: str | None, val: str | None, test: str | None) -> None:
    """Raise an ElmanError unless the text can be divided into these parts."""
    from elman.data.parts import parse_split, shares_of  # reads files; help must not

    shares_of(parse_split(split), val, test)
