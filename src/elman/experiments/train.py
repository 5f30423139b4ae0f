"""A training from settings to result, without a command line."""

import logging
import platform
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from elman.book.data_sets import TextFile
from elman.data.sizes import Size
from elman.data.text import PairTexts, Text
from elman.errors import ElmanError
from elman.experiments.choice import Choice, again, batches_of
from elman.experiments.report import SAMPLE_TEMPERATURE, PairSamples, TextSamples
from elman.files.long_work import showing
from elman.files.memory import peak_memory_mb
from elman.inference.evaluation import evaluate_tokens
from elman.model import weights
from elman.model.metrics import Evaluation, bits_per_character
from elman.model.optimizers import Optimizer
from elman.model.options import ModelOptions
from elman.runs import run, run_folder
from elman.runs.frameworks import count_gpus
from elman.runs.records import RunSettings, TrainingRecord
from elman.runs.settings import Settings
from elman.runs.tensorboard import TensorBoard
from elman.setting_fields import values_of
from elman.text.codec import PADDING, Codec
from elman.training.callback import Callback
from elman.training.checkpoint import Checkpoint
from elman.training.history import best_epoch
from elman.training.progress import Samples
from elman.training.schedule import Best, Learned, Schedule
from elman.training.time_limit import SHARE_OF_TIME
from elman.training.workers.processes import ONE_WORKER, Workers
from elman.training.workers.sharded import Shards
from elman.valid_values import ADDITIVE, MAX_EPOCHS

log = logging.getLogger("elman")


class Training:
    """A training in the module of its framework. All user input is validated.

    Call `fit` to train, then `samples`, `test` and `write` for the results.
    """

    def __init__(self, choice: Choice, workers: Workers = ONE_WORKER) -> None:
        """Prepare a training as chosen; the other `workers` do the same."""
        settings = choice.settings
        origin = choice.origin
        self.settings = settings
        self.framework = choice.framework
        self.trainer = _trainer(settings, self.framework, workers)
        self.data = _data(choice)
        self.codec: Codec = self.data.codec
        if isinstance(choice.text, Text) and workers.rank == 0:
            _warn(choice.text)
        sha256 = None if origin is None else origin.sha256
        self.run_settings = RunSettings.of(
            *(settings, self.data),
            init_sha256=sha256,
            reasons=[*choice.reasons],
            given=choice.given,
        )
        source = self.codec.source
        vocab, source_vocab = len(self.codec.vocab), 0 if source is None else len(source.vocab)
        self.arch = settings.architecture(vocab, source_vocab)
        parts = workers.size if settings.partition_optimizer else 1
        # Weights, their gradients and the optimizer's state; after an epoch, a copy of the best.
        kept = 1 + settings.numbers / parts
        weights.require_memory(self.arch, kept + 1 + kept)
        values = weights.initial(self.arch, settings.seed) if origin is None else origin.values
        self.model = self._build(values)
        kind = TextSamples if self.codec.source is None else PairSamples
        self.samples = kind(self.model, self.data, settings.seed)

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

    def _build(self, values: weights.Weights) -> Any:
        """The model with these weights."""
        settings = self.settings
        if self.codec.source is None:
            return self.framework.build(self.arch, values, **build_options(settings))
        return self.framework.build_seq2seq(
            *(self.arch, values),
            tgt_pad=self.codec.vocab[PADDING],
            lr=settings.lr,
            dropout=settings.dropout,
            seed=settings.seed,
        )

    def fit(self, *callbacks: Callback, resume: Checkpoint | None = None) -> None:
        """Train, from a checkpoint if one is given; the model gets the best epoch's weights."""
        settings = self.settings
        own = Schedule(settings.schedule, settings.warmup), Best(settings.patience)
        ends = [Learned()] if settings.pairs else []
        self.trainer.callbacks = (*own, *ends, *callbacks)
        self.trainer.fit(self.model, self.data, resume=resume)

    def shown(self, every: float) -> Samples:
        """Callback that shows samples, once in this number of epochs."""
        return Samples(self._compiled_sample(), every)

    def logs(self, folder: Path) -> list[Callback]:
        """Callbacks that write the log selected in the settings, if any, to a run directory.

        Raises an ElmanError with installation instructions if a package is missing.
        """
        if self.settings.log is None:
            return []
        return [TensorBoard(folder / run_folder.TENSORBOARD, self._compiled_sample())]

    def _compiled_sample(self) -> Callable[[], str]:
        """Function that writes samples."""
        with showing("compiling"):  # before the timing of the training starts
            self.samples.one(1, SAMPLE_TEMPERATURE)
        return self.samples.written

    def validation(self) -> Evaluation:
        """Validation of the epoch whose weights were kept, on the tokens that were read."""
        size = self._validated
        return Evaluation.of(self.trainer.validation[0] * size.tokens, size)

    def training_bits(self, loss: float) -> float:
        """Bits per character of the training part for a loss in nats per token."""
        return bits_per_character(loss, self.data.trained())

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
        if not isinstance(self.data, TextFile) or self.data.test_tokens is None:
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
        framework, source = self.framework, self.codec.source
        export = framework.export_weights if source is None else framework.seq2seq_weights
        how = self.codec, self.settings.precision, self._record(), self.trainer.history
        run.write(folder, self.arch, export(self.model), *how)


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
    if isinstance(text := choice.text, PairTexts):
        whole_sources = settings.attention != ADDITIVE
        codec = text.codec(settings.seq_len)
        own = settings.batch_size, settings.seed, whole_sources
        return framework.PairsFile.of(text, codec, *own)
    if text is not None:
        return framework.TextFile.of(text, batches_of(settings))
    data = framework.TimeMachine(
        settings.batch_size, settings.seq_len, edition=settings.edition, seed=settings.seed
    )
    if choice.origin is not None and not choice.origin.codec.has_same_tokens(data.codec):
        raise ElmanError(
            f"{settings.init} has other tokens than The Time Machine: give a text file; it is read "
            "with the tokens of the run"
        )
    return data


def _warn(text: Text) -> None:
    """Warn about a text. Several processes read a store without comparing its parts."""
    if text.shared:
        text.warn_of_unknown()
    else:
        text.warn()
