"""What the files of a run contain: settings of a training, its record, and config.json."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from elman.data.sizes import Size
from elman.errors import ElmanError, require_at_least, require_at_most, require_one_of
from elman.files import json_files
from elman.model import weights
from elman.model.cell_checks import check_fingerprint, fingerprint
from elman.model.cells import CellError
from elman.model.options import SINGLE, check_precision
from elman.model.registry import cell_named
from elman.runs.settings import Settings
from elman.text import tokenizers
from elman.valid_values import PAIR_TOKENIZERS

MAX_JSON_BYTES = 1 << 20  # settings are small
MAX_PAIR_STEPS = 1 << 16  # tokens of a text: a line has no more bytes
Record = TypeVar("Record")


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run, and digests of its texts: the content of training.json.

    `val_sha256` and `test_sha256` are digests of separate validation and test files, or "" if
    these are parts of the text. `reasons` describe settings that were chosen for the text; `given`
    lists the names of the other settings. `cell_fingerprint` is as in `Config`.
    """

    settings: Settings
    text_sha256: str
    init_sha256: str | None = None
    val_sha256: str = ""
    test_sha256: str = ""
    reasons: list[str] = field(default_factory=list)
    given: list[str] | None = None
    cell_fingerprint: list[float] | None = None

    def __post_init__(self) -> None:
        check_fingerprint(cell_named(self.settings.cell), self.cell_fingerprint)

    @classmethod
    def of(cls, settings: Settings, data: Any, **more: Any) -> Self:
        """Settings of a training on a data set of a framework, and `more` fields."""
        return cls(
            settings,
            data.text_sha256,
            val_sha256=data.val_sha256,
            test_sha256=data.test_sha256,
            cell_fingerprint=fingerprint(cell_named(settings.cell)),
            **more,
        )


@dataclass(frozen=True, kw_only=True)
class TrainingRecord(RunSettings):
    """Settings of a finished run, its environment, and its result on the test part.

    `epoch` is the epoch whose weights were kept. `trained` and `validated` are the sizes of the
    training part and of the tokens read in a validation. `test_read` is the share of the test part
    that was evaluated: below 1 if time was limited.

    For a training by time, `epoch` is a row of the history, and `val_loss` is the loss on
    `validated` of the weights that were kept, in nats per token. Validations during the training
    may have read less.
    """

    epoch: int
    framework_version: str
    python_version: str
    trained: Size
    peak_memory_mb: int | None = None
    validated: Size | None = None
    val_loss: float | None = None
    test_loss: float | None = None
    test_bits_per_character: float | None = None
    test_unknown_share: float | None = None
    test_read: float | None = None
    test_characters: int | None = None


@dataclass(frozen=True)
class Config:
    """Architecture, text processing and training of a model: the content of config.json.

    `clean`: apply the book's cleaning before tokenization. `precision` applies to the factors of
    the model's products. With `lines`, it is a model of lines. A saved model has no `training`.
    `cell_fingerprint` is what the equations of a custom cell computed from fixed arrays. The
    registered cell must compute the same.

    Of an encoder-decoder, `tokenizer` is that of the sources, and `target_tokenizer` that of the
    targets. Texts have `num_steps` tokens at most, their end included.
    """

    architecture: weights.Architecture
    tokenizer: str
    clean: bool
    training: TrainingRecord | None = None
    newlines: str = tokenizers.KEEP
    precision: str = SINGLE
    lines: bool = False
    cell_fingerprint: list[float] | None = None
    target_tokenizer: str | None = None
    num_steps: int = 0

    def __post_init__(self) -> None:
        check_fingerprint(cell_named(self.architecture.cell), self.cell_fingerprint)
        tokenizers.check_newlines(self.newlines)
        check_precision(self.precision)
        if not self.is_of_pairs:
            tokenizers.check_name(self.tokenizer)
            return
        names = {"tokenizer": self.tokenizer, "target_tokenizer": self.target_tokenizer}
        require_one_of(PAIR_TOKENIZERS, **names)
        require_at_least(1, num_steps=self.num_steps)
        require_at_most(MAX_PAIR_STEPS, num_steps=self.num_steps)

    @property
    def is_of_pairs(self) -> bool:
        """True for an encoder-decoder."""
        return self.architecture.source_vocab > 0

    @property
    def by_time(self) -> bool:
        """True if only a time limit ended the training."""
        return self.training is not None and self.training.settings.by_time

    @property
    def reading(self) -> tuple[Any, ...]:
        """Settings that determine how a text is read, except for vocabularies."""
        return self.tokenizer, self.target_tokenizer, self.clean, self.newlines

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return weights.count(self.architecture)


def read_record(kind: type[Record], path: Path, cure: str) -> Record:
    """Make a dataclass from a JSON file of a run; `cure` ends the error for a wrong value."""
    value = json_files.read(path, MAX_JSON_BYTES)
    try:
        return json_files.record(kind, value, str(path))
    except CellError:  # it has its own cure
        raise
    except ElmanError as error:
        raise type(error)(error, f"; {cure}") from error
