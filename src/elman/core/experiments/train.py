"""One training from settings to result, without a command line."""

import hashlib
import json
import logging
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np

from elman.core.data.parts import parse_split
from elman.core.data.sizes import Size
from elman.core.errors import ElmanError
from elman.core.experiments import recipe, run
from elman.core.experiments.calibration import operations_per_second
from elman.core.experiments.frameworks import framework_module, with_gpu
from elman.core.experiments.recipe import Facts
from elman.core.experiments.run import RunSettings, TrainingRecord
from elman.core.experiments.settings import TIME_MACHINE, Settings
from elman.core.experiments.tensorboard import TensorBoard, check_installed
from elman.core.files import regular
from elman.core.files.paths import exists
from elman.core.model import weights
from elman.core.model.evaluation import evaluate_tokens
from elman.core.model.language_model import generate
from elman.core.model.metrics import Evaluation
from elman.core.model.sampling import Sampler
from elman.core.text.codec import Codec
from elman.core.training.callback import Callback
from elman.core.training.checkpoint import Checkpoint
from elman.core.training.history import best_epoch
from elman.core.training.partitioned import PartitionedTrainer
from elman.core.training.progress import Samples
from elman.core.training.schedule import Best, Schedule
from elman.core.training.sharded import ShardedTrainer, sharded_trainer
from elman.core.training.trainer import SHARE_OF_TIME
from elman.core.training.workers import ONE_WORKER, Workers, check_shards
from elman.core.valid_values import LOGS, MAX_EPOCHS

log = logging.getLogger("elman")

PREFIX = "it has"  # the book's
SAMPLE_TOKENS, SAMPLE_LINES = 100, 5  # that are shown while a model trains
SAMPLE_TEMPERATURE = 0.8  # as in elman generate
UNREAD = Facts(10**6, 10**6, 100, 10**5, 10.0, 1e11)  # of a text before it is read
PREFIX_SEARCH, PREFIX_TOKENS = 1 << 20, 64  # ids that are searched for a sample's prefix


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

    def check(self, settings: Settings) -> None:
        """Raise an ElmanError where the settings have another architecture."""
        _check_same(settings.init, _architecture(self.arch), asdict(settings))

    @property
    def sha256(self) -> str:
        """A digest of all that a training takes from the run."""
        codec = self.codec
        facts = [asdict(self.arch), codec.tokenizer.name, codec.tokenizer.model, codec.clean]
        facts += [codec.newlines, codec.lines, codec.vocab.idx_to_token]
        digest = hashlib.sha256(json.dumps(facts).encode())
        for name in sorted(self.values):
            digest.update(np.ascontiguousarray(self.values[name]).data)
        return digest.hexdigest()


def with_origin(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that are given, with the architecture and the lines of the run to start from.

    Raises an ElmanError for a setting that differs from the run's.
    """
    if not given.get("init"):
        return {**given}
    config = run.read_config(Path(given["init"]))
    fixed = _architecture(config.architecture)
    if given.get("text", TIME_MACHINE) != TIME_MACHINE:  # it has no lines, and another message
        fixed["lines"] = config.lines
    _check_same(given["init"], fixed, given)
    return {**fixed, **given}


def _architecture(arch: weights.Architecture) -> dict[str, Any]:
    """Settings that an architecture fixes."""
    return {name: value for name, value in asdict(arch).items() if name != "vocab"}


def _check_same(init: str | None, fixed: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise an ElmanError for the first setting that differs from the run's."""
    for name, value in fixed.items():
        if given.get(name, value) != value:
            raise ElmanError(f"{init} has {name} {value}, got {given[name]}: leave it out")


class Training:
    """A training in the module of its framework; everything a user can get wrong is checked.

    `fit` trains; then `sample`, `test` and `write` give the results.
    """

    def __init__(
        self,
        settings: Settings,
        framework: Any,
        origin: Origin | None = None,
        data: Any = None,
        reasons: Sequence[str] = (),
        given: Sequence[str] | None = None,
        workers: Workers = ONE_WORKER,
    ) -> None:
        """Prepare a training, and read its text unless it is there as `data`.

        `reasons` describe the settings that were chosen for the text; `given` names the others. The
        other `workers` prepare the same training.
        """
        if settings.shards is not None:
            check_shards(settings.shards, workers.size)
        elif workers.size > 1:
            raise ElmanError(
                f"workers compute shards, and the training was begun without, got {workers.size} "
                "workers: resume it in one process, or begin another"
            )
        self.settings, self.framework = settings, framework
        self._parts = workers.size if settings.partition_optimizer else 1
        origin = origin or origin_of(settings)
        max_epochs = MAX_EPOCHS if settings.epochs is None else settings.epochs
        num_gpus = count_gpus(settings, framework)
        self.trainer = _trainer(settings, framework, workers)(max_epochs, num_gpus, settings.clip)
        if settings.minutes is not None:
            self.trainer.max_seconds = 60 * settings.minutes
        if data is None:
            data = read_data(settings, framework, origin, shared=workers.size > 1)
        if workers.size > 1 and workers.rank == 0:
            data.warn_of_unknown()
        self.data = data
        self.codec = self.data.codec
        self.run_settings = RunSettings(
            settings,
            self.data.text_sha256,
            None if origin is None else origin.sha256,
            getattr(self.data, "val_sha256", ""),
            getattr(self.data, "test_sha256", ""),
            [*reasons],
            None if given is None else sorted(given),
        )
        self.model = self._model(None if origin is None else origin.values)

    @classmethod
    def of(cls, given: Mapping[str, Any], workers: Workers = ONE_WORKER) -> "Training":
        """Make a training with some settings; the recipe has the others."""
        if workers.size > 1:
            given = {"shards": default_shards(workers.size), **given}
            _check_store(given)
        if given.get("log") in LOGS:
            check_installed()  # before a long text is read
        if not is_chosen(given):
            settings = Settings(**given)
            framework = framework_module(settings.framework)
            return cls(settings, framework, given=_named(given), workers=workers)
        choice = settings_for_text(given, workers.size)
        for line in choice.reasons:
            log.info(line)
        recipe.check_time(choice.settings, choice.facts)
        own = choice.settings, choice.framework, choice.origin, choice.data
        return cls(*own, choice.reasons, _named(given), workers)

    @classmethod
    def from_settings(cls, kept: RunSettings, workers: Workers = ONE_WORKER) -> "Training":
        """Make the training of a run again, with the same text and from the same model."""
        settings, origin = kept.settings, None
        if settings.init is not None:
            if not exists(Path(settings.init)):
                raise ElmanError(
                    f"{settings.init} has gone since the training began: bring it back"
                )
            origin = Origin.read(settings.init)
            if origin.sha256 != kept.init_sha256:
                raise ElmanError(
                    f"{settings.init} has changed since the training began: bring it back"
                )
        framework = framework_module(settings.framework)
        own = kept.reasons, kept.given
        training = cls(settings, framework, origin, None, *own, workers)
        found = training.run_settings
        for names, digests in (
            ([settings.text, *settings.more_texts], (found.text_sha256, kept.text_sha256)),
            ([settings.val or settings.text], (found.val_sha256, kept.val_sha256)),
            ([settings.test or settings.text], (found.test_sha256, kept.test_sha256)),
        ):
            if digests[0] != digests[1]:
                raise ElmanError(
                    f"{' or '.join(names)} has changed since the training began: bring it back"
                )
        return training

    def _model(self, values: weights.Weights | None) -> Any:
        """The model with these weights, or with initial ones."""
        settings = self.settings
        arch = weights.Architecture(
            settings.cell,
            len(self.data.vocab),
            settings.hidden,
            settings.layers,
            settings.embedding,
            settings.tied,
        )
        # Weights, their gradients and the optimizer's state; after an epoch, a copy of the best.
        kept = 1 + optimizer_numbers(settings) / self._parts
        weights.require_memory(arch, kept + 1 + kept)
        values = weights.initial(arch, settings.seed) if values is None else values
        return self.framework.build(arch, values, **build_options(settings))

    def fit(self, *callbacks: Callback, resume: Checkpoint | None = None) -> None:
        """Train, from a checkpoint on if one is given; the model is that of the best epoch."""
        own = (
            Schedule(self.settings.schedule, self.settings.warmup),
            Best(self.settings.patience),
        )
        self.trainer.callbacks = (*own, *callbacks)
        self.trainer.fit(self.model, self.data, resume=resume)

    def sample(self, tokens: int = 20, temperature: float = 0.0, seed: int = 0) -> str:
        """A text that begins with the first words of the training part; the book's with "it has".

        Of a model of lines one line. At the temperature 0 each token is the most likely one.
        """
        sampler = Sampler(temperature, excluded=(self.codec.vocab.unk,))
        if self.codec.lines:
            start = [self.codec.line_end]
            return str(
                self.codec.line([*start, *generate(self.model, start, tokens, sampler, seed)])
            )
        book = self.settings.text == TIME_MACHINE
        prefix = self.codec.prefix_ids(PREFIX) if book else self._first_words()
        following = generate(self.model, prefix, tokens, sampler, seed)
        return str(self.codec.text([*prefix, *following]))

    def samples(self, every: float) -> Samples:
        """Callback that shows a text, or a few lines, each time after so many epochs."""
        return Samples(self._compiled_sample(), every)

    def logs(self, folder: Path) -> list[Callback]:
        """Callback that writes the log that the settings ask for into a run directory, if they do.

        An ElmanError tells how to install what it needs.
        """
        if self.settings.log is None:
            return []
        return [TensorBoard(folder / run.TENSORBOARD, self._compiled_sample())]

    def _compiled_sample(self) -> Callable[[], str]:
        """Function that writes a text, or a few lines."""
        self.sample(1, SAMPLE_TEMPERATURE)  # compiles before the clock of the training starts
        draw = partial(self.sample, SAMPLE_TOKENS, SAMPLE_TEMPERATURE)
        number = SAMPLE_LINES if self.codec.lines else 1
        return lambda: "\n".join(draw(seed) for seed in range(number))

    def _first_words(self) -> list[int]:
        """The first ids of the training part that end with a word, without unknown symbols."""
        ids, unk = self.data.train[:PREFIX_SEARCH], self.codec.vocab.unk
        found: list[int] = ids[ids != unk][:PREFIX_TOKENS].tolist()
        texts = [self.codec.text(found[:number]) for number in range(1, len(found) + 1)]
        for number, (text, longer) in enumerate(pairwise(texts), 1):
            if (
                len(text) >= len(PREFIX)
                and not text[-1].isspace()
                and longer[len(text) :][:1].isspace()
            ):
                return found[:number]
        return found[: len(PREFIX)] or [int(unk == 0)]  # any id but that of the unknown symbol

    def validation(self) -> Evaluation:
        """Validation of the epoch whose weights were kept, of what was read of its part."""
        size = self._validated
        return Evaluation.of(best_epoch(self.trainer.history).val_loss * size.tokens, size)

    @cached_property
    def _validated(self) -> Size:
        """Size of what each validation has read, after `fit`."""
        batches = self.trainer.val_batch_idx // len(self.trainer.history)
        return cast(Size, self.data.validated(batches))

    @property
    def unknown_share(self) -> float:
        """Share of unknown tokens in the training part."""
        size = self.data.trained()
        return float(size.unknown / size.tokens)

    def test(self) -> tuple[Evaluation, float] | None:
        """Evaluate the model on the test part, read from its start; None if there is none.

        Where time is bounded, a tenth of it is used; the share of the part that was read is
        returned, and a notice tells it.
        """
        if self.settings.text == TIME_MACHINE or self.data.test_tokens is None:
            return None
        seconds = SHARE_OF_TIME * self.trainer.max_seconds
        part = self.data.test_tokens
        result = evaluate_tokens(self.model, part, self.codec.tokenizer, seconds)
        tokens = Size.of(part).tokens
        if result.tokens < tokens:
            log.info(
                "the test perplexity is that of the first %d of %d tokens", result.tokens, tokens
            )
        return result, result.tokens / tokens

    def write(self, folder: Path) -> None:
        """Fill `folder` with the run, except for the curves."""
        record = TrainingRecord(
            **vars(self.run_settings),
            epoch=best_epoch(self.trainer.history).epoch,
            trained=self.data.trained(),
            validated=self._validated,
            framework_version=self.framework.version(),
            python_version=platform.python_version(),
            peak_memory_mb=peak_memory_mb(),
        )
        run.write(
            folder,
            self.framework.architecture(self.model),
            self.framework.export_weights(self.model),
            self.codec,
            self.settings.precision,
            record,
            self.trainer.history,
        )


def build_options(settings: Settings) -> dict[str, Any]:
    """Arguments of a framework's `build`, besides the architecture and the weights."""
    dropout = "dropout", "input_dropout", "output_dropout"
    names = "lr", "optimizer", "momentum", "weight_decay", *dropout, "precision", "seed"
    return {name: getattr(settings, name) for name in names}


def default_shards(workers: int) -> int:
    """Shards of a batch for so many workers: as many, or the next power of two."""
    return 1 << (workers - 1).bit_length()


def is_chosen(given: Mapping[str, Any]) -> bool:
    """True if the settings that are not given are chosen for the text."""
    return given.get("text", TIME_MACHINE) != TIME_MACHINE and given.get("recipe") != "book"


def _named(given: Mapping[str, Any]) -> list[str]:
    """Names of the settings that are given, without those that a run to start from fixes."""
    fixed = {"lines", *(field.name for field in fields(weights.Architecture))}
    return [name for name in given if not (given.get("init") and name in fixed)]


@dataclass(frozen=True)
class Choice:
    """Settings that were chosen for a text, the reasons, and what was read for it.

    - `origin`: the model to start from, if one is given.
    - `data`: the text as a data set.
    """

    settings: Settings
    reasons: list[str]
    facts: Facts
    framework: Any
    origin: Origin | None
    data: Any


def settings_for_text(given: Mapping[str, Any], workers: int) -> Choice:
    """Choose the settings that are not given for a text, which is read."""
    checked, _ = recipe.choose(given, UNREAD)  # before a long text is read
    framework, origin = framework_module(checked.framework), origin_of(checked)
    whole = replace(checked, batch_size=1, batching="random")  # fits the shortest text
    whole = whole if checked.lines else replace(whole, seq_len=1)
    num_gpus = count_gpus(checked, framework)
    data = read_data(whole, framework, origin, shared=workers > 1)
    precision = given.get("precision") or recipe.fastest_precision(framework)
    speed = recipe.USUAL_SPEED
    if checked.minutes is not None:
        speed = workers * operations_per_second(framework, precision, num_gpus)
    facts = Facts.of(data, speed, precision)
    settings, reasons = recipe.choose(given, facts)
    data.set_batches(settings.batch_size, settings.seq_len, settings.batching)
    return Choice(settings, reasons, facts, framework, origin, data)


def origin_of(settings: Settings) -> Origin | None:
    """The model that a training starts from, if its settings name one."""
    if settings.init is None:
        return None
    origin = Origin.read(settings.init)
    origin.check(settings)
    return origin


def optimizer_numbers(settings: Settings) -> int:
    """Numbers that the optimizer keeps of each weight."""
    return 2 if settings.optimizer != "sgd" else int(settings.momentum > 0)


def count_gpus(settings: Settings, framework: Any) -> int:
    """Number of GPUs to train on, 0 or 1; an ElmanError if there is none that is asked for."""
    if settings.device == "gpu" and len(framework.devices()) == 1:
        other = with_gpu()
        cure = f", or choose --framework {other}" if other else ""
        raise ElmanError(f"{settings.framework} can use no GPU here: leave --device out{cure}")
    return int(settings.device != "cpu")


def _check_store(given: Mapping[str, Any]) -> None:
    """Raise an ElmanError unless several workers can each read a share of the text."""
    text = given.get("text", TIME_MACHINE)
    if text == TIME_MACHINE:
        raise ElmanError("several workers read a store of a text of your own, got none: give one")
    regular.check_exists(Path(text))
    if not Path(text).is_dir():
        raise ElmanError(
            f"several workers read a store, got {text}: make one with elman prepare {text} --out "
            "STORE, and train on that"
        )


def _trainer(settings: Settings, framework: Any, workers: Workers) -> Any:
    """Class of the trainer."""
    if settings.shards is None:
        return framework.Trainer
    mixin = PartitionedTrainer if settings.partition_optimizer else ShardedTrainer
    return sharded_trainer(framework.Trainer, workers, settings.shards, settings.seed, mixin)


def read_data(
    settings: Settings, framework: Any, origin: Origin | None = None, shared: bool = False
) -> Any:
    """Data set of a framework with the text of these settings, in the tokens of an origin."""
    codec = None if origin is None else origin.codec
    if settings.text != TIME_MACHINE:
        return framework.TextFile(
            [settings.text, *settings.more_texts] if settings.more_texts else settings.text,
            settings.batch_size,
            settings.seq_len,
            settings.tokenizer,
            parse_split(settings.split),
            seed=settings.seed,
            batching=settings.batching,
            vocab_size=settings.vocab_size,
            min_freq=settings.min_freq,
            newlines=settings.newlines,
            codec=codec,
            val_path=settings.val,
            test_path=settings.test,
            lines=settings.lines,
            shared=shared,
        )
    data = framework.TimeMachine(
        settings.batch_size, settings.seq_len, edition=settings.edition, seed=settings.seed
    )
    if codec is not None and not codec.has_same_tokens(data.codec):
        raise ElmanError(
            f"{settings.init} has other tokens than The Time Machine: give the path of a text "
            "file, which is read in those of the run"
        )
    return data


def peak_memory_mb() -> int | None:
    """Peak resident memory of this process in megabytes (10^6 bytes); None on Windows."""
    status = Path("/proc/self/status")  # Linux; getrusage there begins with the parent's memory
    if status.exists():
        (kibibytes,) = re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())
        return int(kibibytes) * 1024 // 10**6
    try:
        import resource
    except ModuleNotFoundError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 10**6  # bytes on macOS
