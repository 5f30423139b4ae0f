"""A training from settings to result, without a command line."""

import logging
import math
import platform
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from elman.data.sizes import Size
from elman.data.text import Text
from elman.errors import ElmanError
from elman.experiments.choice import Choice, again, batches_of
from elman.files.long_work import showing
from elman.files.memory import peak_memory_mb
from elman.inference.evaluation import evaluate_tokens
from elman.inference.language_model import generate
from elman.inference.sampling import Sampler
from elman.logs.tensorboard import TensorBoard
from elman.model import weights
from elman.model.cell_checks import fingerprint
from elman.model.metrics import Evaluation
from elman.model.optimizers import Optimizer
from elman.model.options import ModelOptions
from elman.model.registry import cell_named
from elman.runs import run, run_folder
from elman.runs.frameworks import count_gpus
from elman.runs.records import RunSettings, TrainingRecord
from elman.runs.settings import Settings
from elman.setting_fields import values_of
from elman.text.codec import Codec
from elman.text.tokenizers import Ids
from elman.training.callback import Callback
from elman.training.checkpoint import Checkpoint
from elman.training.history import best_epoch
from elman.training.progress import Samples
from elman.training.schedule import Best, Schedule
from elman.training.time_limit import SHARE_OF_TIME
from elman.training.workers.processes import ONE_WORKER, Workers
from elman.training.workers.sharded import Shards
from elman.valid_values import MAX_EPOCHS, TIME_MACHINE

log = logging.getLogger("elman")

SAMPLE_TOKENS, SAMPLE_LINES = 100, 5  # shown during training
SAMPLE_TEMPERATURE = 0.8  # as in elman generate
BOOKS_PREFIX = "it has"
PREFIX_SEARCH, PREFIX_TOKENS = 1 << 20, 64  # ids to search for a prefix; its maximum length


class Training:
    """A training in the module of its framework. All user input is validated.

    Call `fit` to train, then `sample`, `test` and `write` for the results.
    """

    def __init__(self, choice: Choice, workers: Workers = ONE_WORKER) -> None:
        """Prepare a training as chosen; the other `workers` do the same."""
        settings = choice.settings
        origin = choice.origin
        self.settings = settings
        self.framework = choice.framework
        self._parts = workers.size if settings.partition_optimizer else 1
        self.trainer = _trainer(settings, self.framework, workers)
        self.data = self._read(choice)
        _warn(choice.text, workers)
        self.run_settings = RunSettings(
            settings,
            **_digests(self.data),
            init_sha256=None if origin is None else origin.sha256,
            reasons=[*choice.reasons],
            given=choice.given,
            cell_fingerprint=fingerprint(cell_named(settings.cell)),
        )
        self.model = self._model(None if origin is None else origin.values)

    def _read(self, choice: Choice) -> Any:
        """Data set of the framework."""
        return _data(choice)

    @property
    def codec(self) -> Codec:
        """Codec of the text."""
        return cast(Codec, self.data.codec)

    @classmethod
    def from_settings(cls, kept: RunSettings, workers: Workers = ONE_WORKER) -> "Training":
        """Recreate the training of a run with the same text and the same initial model."""
        training = cls(again(kept, workers.size), workers)
        found = training.run_settings
        settings = kept.settings
        told = "has changed since the training began: restore it"
        if workers.rank:
            told = "differs from the first worker's: copy it from its host"
        for names, digests in (
            ([settings.text, *settings.more_texts], (found.text_sha256, kept.text_sha256)),
            ([settings.val or settings.text], (found.val_sha256, kept.val_sha256)),
            ([settings.test or settings.text], (found.test_sha256, kept.test_sha256)),
        ):
            if digests[0] != digests[1]:
                raise ElmanError(f"{' or '.join(names)} {told}")
        return training

    def _model(self, values: weights.Weights | None) -> Any:
        """The model with these weights, or with initial ones."""
        settings = self.settings
        arch = settings.architecture(len(self.data.vocab))
        # Weights, their gradients and the optimizer's state; after an epoch, a copy of the best.
        kept = 1 + settings.numbers / self._parts
        weights.require_memory(arch, kept + 1 + kept)
        values = weights.initial(arch, settings.seed) if values is None else values
        return self.framework.build(arch, values, **build_options(settings))

    def fit(self, *callbacks: Callback, resume: Checkpoint | None = None) -> None:
        """Train, from a checkpoint if one is given; the model gets the best epoch's weights."""
        own = (
            Schedule(self.settings.schedule, self.settings.warmup),
            Best(self.settings.patience),
        )
        self.trainer.callbacks = (*own, *callbacks)
        self.trainer.fit(self.model, self.data, resume=resume)

    def sample(self, tokens: int = 20, temperature: float = 0.0, seed: int = 0) -> str:
        """A text that begins with the first words of the training part; for the book, "it has".

        A model of lines writes one line. At temperature 0, each token is the most likely one.
        """
        return continued(self.model, self.codec, self.prefix(), tokens, temperature, seed)

    def written(self, tokens: int = SAMPLE_TOKENS, temperature: float = SAMPLE_TEMPERATURE) -> str:
        """A sample, or a few lines of a model of lines."""
        number = SAMPLE_LINES if self.codec.lines else 1
        return "\n".join(self.sample(tokens, temperature, seed) for seed in range(number))

    def prefix(self) -> list[int]:
        """Ids that samples begin with."""
        if self.codec.lines:
            return self.codec.start
        if self.settings.text == TIME_MACHINE:
            return self.codec.prefix_ids(BOOKS_PREFIX)
        return _first_words(self.data.train, self.codec)

    def samples(self, every: float) -> Samples:
        """Callback that shows a text or a few lines, once in this number of epochs."""
        return Samples(self._compiled_sample(), every)

    def logs(self, folder: Path) -> list[Callback]:
        """Callbacks that write the log selected in the settings, if any, to a run directory.

        Raises an ElmanError with installation instructions if a package is missing.
        """
        if self.settings.log is None:
            return []
        return [TensorBoard(folder / run_folder.TENSORBOARD, self._compiled_sample())]

    def _compiled_sample(self) -> Callable[[], str]:
        """Function that writes a text or a few lines."""
        with showing("compiling"):  # before the timing of the training starts
            self.sample(1, SAMPLE_TEMPERATURE)
        return self.written

    def validation(self) -> Evaluation:
        """Validation of the epoch whose weights were kept, on the tokens that were read."""
        size = self._validated
        return Evaluation.of(self.trainer.validation[0] * size.tokens, size)

    def training_bits(self, loss: float) -> float:
        """Bits per character of the training part for a loss in nats per token."""
        if self.trainer.in_bits is None:
            return loss / math.log(2)
        return float(self.trainer.in_bits[0](loss))

    @cached_property
    def _validated(self) -> Size:
        """Number of tokens that validated the kept weights; available after `fit`."""
        return cast(Size, self.data.validated(self.trainer.validation[1]))

    @property
    def unknown_share(self) -> float:
        """Share of unknown tokens in the training part."""
        size = self.data.trained()
        return float(size.unknown / size.tokens)

    def test(self) -> tuple[Evaluation, float] | None:
        """Evaluate the model on the test part, read from its start; None if there is none.

        With a time limit, a tenth of it is used. Also return the share of the part that was read; a
        notice reports it.
        """
        if self.settings.text == TIME_MACHINE or self.data.test_tokens is None:
            return None
        seconds = SHARE_OF_TIME * self.trainer.max_seconds
        part = self.data.test_tokens
        result = evaluate_tokens(self.model, part, seconds)
        tokens = Size.of(part).tokens
        if result.tokens < tokens:
            log.info("the test covers the first %d of %d tokens of its part", result.tokens, tokens)
        return result, result.tokens / tokens

    def _record(self) -> TrainingRecord:
        """Settings of the training, its environment and its result."""
        return TrainingRecord(
            **vars(self.run_settings),
            epoch=best_epoch(self.trainer.history).epoch,
            trained=self.data.trained(),
            validated=self._validated,
            val_loss=self.trainer.validation[0] if self.trainer.by_time else None,
            framework_version=self.framework.version(),
            python_version=platform.python_version(),
            peak_memory_mb=peak_memory_mb(),
        )

    def write(self, folder: Path) -> None:
        """Fill `folder` with the run, except for the curves."""
        run.write(
            folder,
            self.framework.architecture(self.model),
            self.framework.export_weights(self.model),
            self.codec,
            self.settings.precision,
            self._record(),
            self.trainer.history,
        )


def continued(
    model: Any, codec: Codec, prefix: list[int], tokens: int, temperature: float, seed: int
) -> str:
    """A text that begins with the ids of a prefix; a single line for a model of lines."""
    sampler = Sampler(temperature, excluded=(codec.vocab.unk,))
    ids = [*prefix, *generate(model, prefix, tokens, sampler, seed)]
    return codec.written(ids)


def _first_words(training: Ids, codec: Codec) -> list[int]:
    """First ids of a training part, up to the end of a word, without unknown symbols."""
    ids = training[:PREFIX_SEARCH]
    unk = codec.vocab.unk
    found: list[int] = ids[ids != unk][:PREFIX_TOKENS].tolist()
    texts = [codec.text(found[:number]) for number in range(1, len(found) + 1)]
    for number, (text, longer) in enumerate(pairwise(texts), 1):
        if (
            len(text) >= len(BOOKS_PREFIX)
            and not text[-1].isspace()
            and longer[len(text) :][:1].isspace()
        ):
            return found[:number]
    return found[: len(BOOKS_PREFIX)] or [int(unk == 0)]  # any id except the unknown symbol


def build_options(settings: Settings) -> dict[str, Any]:
    """Arguments of a framework's `build`, in addition to the architecture and the weights."""
    own = values_of(settings, ModelOptions) | values_of(settings, Optimizer)
    return own | {"seed": settings.seed}


def _trainer(settings: Settings, framework: Any, workers: Workers) -> Any:
    """Trainer with these settings."""
    max_epochs = MAX_EPOCHS if settings.epochs is None else settings.epochs
    num_gpus = count_gpus(settings.device, framework)
    trainer = framework.Trainer(max_epochs, num_gpus, settings.clip)
    if settings.shards is not None:
        own = settings.seed, settings.partition_optimizer
        trainer.shards = Shards(settings.shards, workers, *own)
    if settings.minutes is not None:
        trainer.max_seconds = 60 * settings.minutes
        trainer.by_time = settings.by_time
    return trainer


def _data(choice: Choice) -> Any:
    """Data set of the framework."""
    settings = choice.settings
    framework = choice.framework
    if choice.text is not None:
        return framework.TextFile.of(choice.text, batches_of(settings))
    data = framework.TimeMachine(
        settings.batch_size, settings.seq_len, edition=settings.edition, seed=settings.seed
    )
    if choice.origin is not None and not choice.origin.codec.has_same_tokens(data.codec):
        raise ElmanError(
            f"{settings.init} has other tokens than The Time Machine: give a text file; it is read "
            "with the tokens of the run"
        )
    return data


def _warn(text: Text | None, workers: Workers) -> None:
    """Warn about a text in one process. Several read a store without comparing its parts."""
    if text is None or workers.rank > 0:
        return
    if text.shared:
        text.warn_of_unknown()
    else:
        text.warn()


def _digests(data: Any) -> dict[str, str]:
    """Digests of the text and of the files of its other parts."""
    return {
        "text_sha256": data.text_sha256,
        "val_sha256": data.val_sha256,
        "test_sha256": data.test_sha256,
    }
