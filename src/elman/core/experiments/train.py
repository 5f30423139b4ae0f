"""One training from settings to result: what `elman train` does, framework and screen apart."""

import hashlib
import json
import logging
import math
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elman.core.data.batching import check_windows
from elman.core.data.corpus import check_edition
from elman.core.errors import ElmanError, in_words, require_at_least, require_at_most
from elman.core.experiments import run
from elman.core.experiments.frameworks import framework_module
from elman.core.files.paths import exists
from elman.core.model import weights
from elman.core.model.language_model import evaluate_tokens, generate
from elman.core.model.metrics import Evaluation
from elman.core.model.sampling import Sampler
from elman.core.text.codec import Codec
from elman.core.text.text_files import STDIN, check_path
from elman.core.training.callback import Callback
from elman.core.training.checkpoint import Checkpoint
from elman.core.training.history import MAX_EPOCHS, best_epoch
from elman.core.training.schedule import Best, Schedule
from elman.core.training.trainer import SHARE_OF_TIME, check_optimizer

log = logging.getLogger("elman")

TIME_MACHINE = "time-machine"
PREFIX = "it has"  # the book's
LOOKED_THROUGH = 1 << 20  # ids in which a sample's prefix is looked for
MOST = {
    **{name: weights.MOST[name] for name in ("hidden", "layers", "embedding")},
    **{"steps": 1 << 31, "batch_size": 1 << 31, "patience": 1 << 31},
    "epochs": MAX_EPOCHS,
    "seed": 2**32 - 1,  # every framework takes it
}


@dataclass(frozen=True)
class Job:
    """The settings of a training, as the command line names them."""

    text: str
    edition: str
    tokenizer: str | None
    cell: str
    hidden: int
    layers: int
    embedding: int
    tied: bool
    dropout: float
    steps: int
    batch_size: int
    windows: str
    epochs: int | None
    minutes: float | None
    patience: int | None
    lr: float
    schedule: str
    warmup: float
    clip: float
    optimizer: str
    momentum: float
    framework: str
    device: str
    seed: int
    vocab_size: int | None = None
    min_freq: int | None = None
    newlines: str | None = None
    init: str | None = None  # the run whose weights and tokens it begins with

    def __post_init__(self) -> None:
        require_at_least(
            1,
            hidden=self.hidden,
            layers=self.layers,
            steps=self.steps,
            batch_size=self.batch_size,
            epochs=1 if self.epochs is None else self.epochs,
        )
        if self.epochs is None and self.minutes is None:
            raise ElmanError("a training has a number of epochs or of minutes: give one")
        if self.minutes is not None and not (math.isfinite(self.minutes) and self.minutes > 0):
            raise ElmanError(f"minutes must be a finite number above 0, got {self.minutes}")
        require_at_least(0, embedding=self.embedding, seed=self.seed)
        for name, most in MOST.items():
            require_at_most(most, **{name: getattr(self, name) or 0})
        if not 0 <= self.dropout < 1:
            raise ElmanError(f"dropout must be at least 0 and below 1, got {self.dropout}")
        if self.dropout and self.layers == 1:
            raise ElmanError(
                f"dropout acts between layers, got {self.dropout} with one layer: use more layers"
            )
        if not (math.isfinite(self.clip) and self.clip >= 0):
            raise ElmanError(f"clip must be 0 (no bound) or a finite number above, got {self.clip}")
        check_windows(self.windows)
        if self.windows == "stream" and self.text == TIME_MACHINE:
            raise ElmanError(
                "The Time Machine is read in random windows, as in the book, got stream: give the "
                "path of a text file"
            )
        check_text(self.text)
        if self.text == STDIN:
            raise ElmanError(
                "a training reads its text again when it goes on, and cannot read standard input, "
                "got -: give the path of a file, or a store made by elman prepare - --out STORE"
            )
        check_edition(self.edition, of_file=self.text != TIME_MACHINE)
        check_optimizer(self.optimizer, self.lr, self.momentum)
        Schedule(self.schedule, self.warmup)
        Best(self.patience)


def check_text(text: str) -> None:
    """Raise an ElmanError for an empty name, which would stand for the current folder, or a URL."""
    if not text:
        raise ElmanError(f"the text is {TIME_MACHINE} or the path of a file, got nothing")
    check_path(text)


@dataclass(frozen=True)
class Settings:
    """Settings from which a training can be made again."""

    job: Job
    text_sha256: str
    init_sha256: str | None = None


@dataclass(frozen=True)
class Origin:
    """Model of a run that a training begins with."""

    arch: weights.Architecture
    values: weights.Weights
    codec: Codec

    def check(self, job: Job) -> None:
        """Raise an ElmanError where the job has another architecture."""
        for name, known in asdict(self.arch).items():
            if name != "vocab" and (given := getattr(job, name)) != known:
                raise ElmanError(f"{job.init} has {name} {known}, got {given}: leave it out")

    @property
    def sha256(self) -> str:
        """A digest of all that a training takes from it."""
        codec = self.codec
        facts = [asdict(self.arch), codec.tokenizer.name, codec.tokenizer.model, codec.clean]
        facts += [codec.newlines, codec.vocab.idx_to_token]
        digest = hashlib.sha256(json.dumps(facts).encode())
        for name in sorted(self.values):
            digest.update(np.ascontiguousarray(self.values[name]).data)
        return digest.hexdigest()


class Training:
    """A job made ready in the module of its framework: everything a user can get wrong is checked.

    `fit` trains; then `sample`, `test` and `write` tell what came of it.
    """

    def __init__(self, job: Job, framework: Any, origin: Origin | None = None) -> None:
        self.job, self.framework = job, framework
        if job.init is not None:
            origin = origin or Origin(*run.read(Path(job.init)))
            origin.check(job)
        self.init_sha256 = None if origin is None else origin.sha256
        epochs = MOST["epochs"] if job.epochs is None else job.epochs
        self.trainer = framework.Trainer(epochs, self._num_gpus(), job.clip)
        if job.minutes is not None:
            self.trainer.max_seconds = 60 * job.minutes
        self.data = self._data(None if origin is None else origin.codec)
        self.codec = self.data.codec
        arch = weights.Architecture(
            job.cell, len(self.data.vocab), job.hidden, job.layers, job.embedding, job.tied
        )
        # Weights, their gradients, and what the optimiser keeps; after an epoch the best of it all.
        kept = 1 + (2 if job.optimizer == "adam" else bool(job.momentum))
        weights.require_memory(arch, kept + 1 + kept)
        initial = weights.initial(arch, job.seed) if origin is None else origin.values
        self.model = framework.build(
            arch, initial, job.lr, job.optimizer, job.momentum, job.dropout, job.seed
        )

    def _num_gpus(self) -> int:
        usable = self.framework.devices()
        if self.job.device not in ("auto", "cpu", "gpu"):
            raise ElmanError(f"the device is auto, cpu or gpu, got {self.job.device!r}")
        if self.job.device == "gpu" and len(usable) == 1:
            raise ElmanError(f"{self.job.framework} can use no GPU here: leave --device out")
        return int(self.job.device != "cpu")

    def _data(self, codec: Codec | None) -> Any:
        job = self.job
        if job.text != TIME_MACHINE:
            return self.framework.TextFile(
                job.text,
                job.batch_size,
                job.steps,
                job.tokenizer,
                seed=job.seed,
                windows=job.windows,
                vocab_size=job.vocab_size,
                min_freq=job.min_freq,
                newlines=job.newlines,
                codec=codec,
            )
        for name in ("vocab_size", "min_freq", "newlines"):
            if (value := getattr(job, name)) is not None:
                raise ElmanError(
                    f"The Time Machine is read as in the book, got {in_words(name)} {value}: leave "
                    "it out"
                )
        if job.tokenizer not in (None, "char"):
            raise ElmanError(
                f"The Time Machine is read by characters, as in the book, got {job.tokenizer!r}: "
                "give the path of a text file for bytes or words"
            )
        data = self.framework.TimeMachine(
            job.batch_size, job.steps, edition=job.edition, seed=job.seed
        )
        if codec is not None and not codec.has_same_tokens(data.codec):
            raise ElmanError(
                f"{job.init} has other tokens than The Time Machine: give the path of a text file, "
                "which is read in those of the run"
            )
        return data

    def fit(self, *callbacks: Callback, resume: Checkpoint | None = None) -> None:
        """Train, from a checkpoint on if one is given, and call the callbacks along the way.

        The model ends as it was after its best epoch.
        """
        own = (Schedule(self.job.schedule, self.job.warmup), Best(self.job.patience))
        self.trainer.callbacks = (*own, *callbacks)
        self.trainer.fit(self.model, self.data, resume=resume)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings from which this training can be made again."""
        return asdict(Settings(self.job, self.data.text_sha256, self.init_sha256))

    @classmethod
    def again(cls, settings: Settings) -> "Training":
        """A training with the settings of one before, with the same text and the same run."""
        job, origin = settings.job, None
        if job.init is not None:
            if not exists(Path(job.init)):
                raise ElmanError(f"{job.init} has gone since the training began: bring it back")
            origin = Origin(*run.read(Path(job.init)))
            if origin.sha256 != settings.init_sha256:
                raise ElmanError(f"{job.init} has changed since the training began: bring it back")
        training = cls(job, framework_module(job.framework), origin)
        if training.data.text_sha256 != settings.text_sha256:
            raise ElmanError(f"{job.text} has changed since the training began: bring it back")
        return training

    def sample(self, tokens: int = 20) -> str:
        """The likeliest text after "it has", or after the text's start where that is unknown."""
        try:
            prefix = self.codec.prefix_ids(PREFIX)
        except ElmanError:
            prefix = self._start(len(PREFIX))
        sampler = Sampler(temperature=0, excluded=(self.codec.vocab.unk,))
        following = generate(self.model, prefix, tokens, sampler)
        return str(self.codec.text([*prefix, *following]))

    def _start(self, tokens: int) -> list[int]:
        """The first ids of the training part, without unknown symbols."""
        ids, unk = self.data.train[:LOOKED_THROUGH], self.codec.vocab.unk
        found: list[int] = ids[ids != unk][:tokens].tolist()
        return found or [int(unk == 0)]  # any id but that of the unknown symbol

    @property
    def unknown(self) -> dict[str, tuple[int, int]]:
        """Numbers of unknown tokens and of all tokens, for each part; none for The Time Machine."""
        return {} if self.job.text == TIME_MACHINE else dict(self.data.unknown)

    def test(self) -> Evaluation | None:
        """Evaluate the model on the test part, read as one stream; None for The Time Machine.

        Where time is bounded, a tenth of it is spent, and a notice tells how far that has come.
        """
        if self.job.text == TIME_MACHINE:
            return None
        seconds = SHARE_OF_TIME * self.trainer.max_seconds
        result = evaluate_tokens(self.model, self.data.test_tokens, seconds)
        all_of_it = len(self.data.test) - 1
        if result.tokens < all_of_it:
            log.info(
                "the test perplexity is that of the first %d of %d tokens", result.tokens, all_of_it
            )
        return result

    def write(self, folder: Path) -> None:
        """Fill `folder` with the run."""
        settings = asdict(self.job)
        if self.job.text != TIME_MACHINE:
            del settings["edition"]  # a file has none
        training = settings | {
            "text_sha256": self.data.text_sha256,
            "init_sha256": self.init_sha256,
            "epoch": best_epoch(self.trainer.history).epoch,
            "framework_version": self.framework.version(),
            "python_version": platform.python_version(),
            "peak_memory_mb": peak_memory_mb(),
        }
        run.write(
            folder,
            self.framework.architecture(self.model),
            self.framework.export_weights(self.model),
            self.codec,
            training,
            self.trainer.history,
        )


def peak_memory_mb() -> int | None:
    """The most memory that this process has had in use, in millions of bytes; None on Windows."""
    status = Path("/proc/self/status")  # Linux; getrusage there begins with the parent's memory
    if status.exists():
        (kibibytes,) = re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())
        return int(kibibytes) * 1024 // 10**6
    try:
        import resource
    except ModuleNotFoundError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 10**6  # bytes on macOS
