"""Sweeps: trainings whose settings are searched by Optuna, each an ordinary run directory.

A sweep is a folder with its settings, Optuna's journal, a folder of runs, and a table. Several
processes may work on it. To take a trial, a process holds the lock of the folder; it then holds the
lock of the trial until the trial ends. If a running trial's lock is free, its process was killed:
another process takes the trial and resumes from its checkpoint.
"""

import csv
import hashlib
import io
import logging
import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import BaseFileLock, FileLock, Timeout

from elman.errors import (
    DivergedError,
    ElmanError,
    InterruptedWorkError,
    MachineError,
    in_words,
    not_installed,
    require_at_least,
    require_at_most,
)
from elman.experiments import session
from elman.experiments.session import Conduct, Ending, no_signals
from elman.files import atomic, json_files, regular
from elman.inference.evaluation import evaluate_tokens
from elman.model.metrics import bits_per_character
from elman.runs import run, run_folder
from elman.runs.frameworks import count_gpus, framework_module
from elman.runs.results import kept_loss
from elman.runs.settings import Settings
from elman.setting_fields import check_given
from elman.sweeps import space
from elman.sweeps.space import Range, Values
from elman.terms import Call, Option
from elman.training.callback import Callback
from elman.training.loop import Loop

try:
    import optuna
    from optuna.exceptions import StorageInternalError
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import FrozenTrial, Trial, TrialState
    from sqlalchemy.exc import ArgumentError
except ModuleNotFoundError as error:
    raise not_installed("sweep", error, "") from error

log = logging.getLogger("elman")
warned: set[str] = set()  # warnings printed in trials

SETTINGS, JOURNAL, TRIALS, TABLE = "sweep.json", "journal.log", "trials", "trials.csv"
PARTS, RUNGS = 27, (3, 9)  # of a training; the parts after which it is compared with others
COMPARED = 1 << 14  # characters of the validation part that a comparison reads
MAX_TRIALS, MAX_SETTINGS_BYTES = 100_000, 1 << 20
FOLDER_FILES = ("store.json", "config.json", "model.safetensors")
MIN_IMPORTANCE = 10  # trials needed for meaningful importances
WAIT_SECONDS = 1.0  # between checks for trials of other processes
FAILED, BEHIND, LOSS = "failed", "behind", "loss"  # attributes of a trial
COMPLETE, PRUNED = "complete", "pruned"
Train = Callable[[Mapping[str, Any], Path, "Report"], float]


@dataclass(frozen=True)
class Sweep:
    """Settings of a sweep: fixed settings of all trainings, the space, and the number of trials.

    `storage` is the URL of a database, or None for a journal in the folder; `study` is its name
    there. `texts` contains the SHA-256 of everything the trainings read, by path.
    """

    given: dict[str, Any]
    space: str | None
    trials: int
    seed: int = 0
    storage: str | None = None
    study: str = field(default_factory=lambda: f"elman-{secrets.token_hex(8)}")
    texts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        searched = space.parse(self.space)
        if "text" not in self.given:
            raise ElmanError("a sweep requires a text: give its path")
        if self.given.get("pairs"):
            rule = "a sweep requires a language model, got pairs: leave "
            raise ElmanError(rule, Option("pairs"), " out")
        require_at_least(1, trials=self.trials)
        require_at_most(MAX_TRIALS, trials=self.trials)
        for name in searched:
            if name in self.given:
                raise ElmanError(
                    f"{name} cannot be both searched and given, got {self.given[name]!r}: leave "
                    "one out"
                )


class Report(Callback):
    """Report a training's losses to Optuna, and end the training if it is behind others.

    All trials are measured on the same start of the validation part, however fast they are.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.pruned = BEHIND in trial.user_attrs
        reported = trial.study.trials[trial.number].intermediate_values
        self._last = max(reported, default=0)  # reported by a process that was killed

    def after_epoch(self, trainer: Loop) -> None:
        """Report at each rung of the training."""
        part = int(PARTS * trainer.progress)
        if self.pruned and part >= self._last:  # its process was killed before ending it
            trainer.stop()
        elif any(self._last < rung <= part for rung in RUNGS) and part < PARTS:
            self._last = part
            self.trial.report(math.log(2) * bits_on_start(trainer), part)
            if self.trial.should_prune():
                self.pruned = True
                self.trial.set_user_attr(BEHIND, True)
                trainer.stop()


def bits_on_start(trainer: Loop) -> float:
    """Bits per character of a trainer's model on the start of the validation part.

    The tokens of COMPARED characters are read, or of fewer if the part is shorter.
    """
    text = trainer.data.text
    part = text.parts["validation"]
    share = min(1.0, COMPARED / max(1, part.size.characters))
    most = math.ceil(share * len(part.ids))
    return evaluate_tokens(trainer.model, part, most=most).bits_per_character


def begin(folder: Path, sweep: Sweep) -> Sweep:
    """Connect to the storage, make the folder of a sweep, and record the digests of its texts.

    An ElmanError names settings that are invalid, or cannot be trained here.
    """
    check_given(Settings, sweep.given)
    check_here(sweep.given)
    space.check_effects(space.parse(sweep.space), sweep.given)
    atomic.check_new(folder)
    if sweep.storage:
        _database(sweep.storage)
    sweep = replace(sweep, texts={path: _sha256(Path(path)) for path in _read_by(sweep.given)})
    (folder / TRIALS).mkdir(parents=True)
    json_files.write(folder / SETTINGS, asdict(sweep))
    return sweep


def _read_by(given: Mapping[str, Any]) -> list[str]:
    """Paths of the texts, stores and runs that a training with these settings reads."""
    others = (given.get(name) for name in ("val", "test", "init"))
    return [path for path in (given["text"], *given.get("more_texts", ()), *others) if path]


def _sha256(path: Path) -> str:
    """Digest of a text, or of the files that determine a store or a run."""
    files = [path / name for name in FOLDER_FILES] if path.is_dir() else [path]
    digest = hashlib.sha256()
    for each in files:
        if each.exists() or not path.is_dir():
            with regular.open_regular(each, follow_links=True) as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def check_texts(sweep: Sweep) -> None:
    """Raise an ElmanError if a text has changed: its losses would not be comparable."""
    for path, sha256 in sweep.texts.items():
        if _sha256(Path(path)) != sha256:
            raise ElmanError(
                f"{path} has changed since the sweep began: restore it and resume, or begin "
                "another sweep"
            )


def open_sweep(folder: Path, sweep: Sweep | None) -> "Worker":
    """Begin a sweep in a new folder, or continue the one in the folder."""
    if sweep is None:
        sweep = read(folder)
        check_here(sweep.given)
    else:
        sweep = begin(folder, sweep)
    return Worker(folder, sweep)


def read(folder: Path) -> Sweep:
    """Read the settings of a sweep."""
    if not (folder / SETTINGS).is_file():
        raise ElmanError(f"{folder} is not a sweep: it has no {SETTINGS}")
    value = json_files.read(folder / SETTINGS, MAX_SETTINGS_BYTES)
    return json_files.record(Sweep, value, str(folder / SETTINGS))


def check_here(given: Mapping[str, Any]) -> None:
    """Raise an ElmanError unless this process has the files and the framework of all trials."""
    for path in _read_by(given):
        regular.check_exists(Path(path))
    names = {name: given[name] for name in ("framework", "device") if name in given}
    settings = Settings(given["text"], **names)
    count_gpus(settings.device, framework_module(settings.framework))


def train_trial(
    given: Mapping[str, Any], folder: Path, report: Report, ending: Ending = no_signals
) -> float:
    """Train or resume the run of a trial; return its lowest loss in nats per character."""
    finished = (folder / run_folder.CONFIG).exists()  # by a process that was killed afterwards
    with quiet():
        if not finished:
            conduct = Conduct(callbacks=(report,), show_progress=False, ending=ending)
            if run_folder.is_unfinished(folder):
                trained = session.resume(folder, conduct)
            else:
                trained = session.begin(given, folder, conduct=conduct)
            if trained is not None:
                trained.finish()
    record = run.read_config(folder).training
    assert record is not None
    assert record.validated is not None
    loss = kept_loss(run.read_history(folder), record)
    return math.log(2) * bits_per_character(loss, record.validated)


@contextmanager
def quiet() -> Iterator[None]:
    """Log only warnings within the block, each once: a sweep prints a line for each trial."""
    level = log.level
    log.setLevel(logging.WARNING)
    log.addFilter(_is_new)
    try:
        yield
    finally:
        log.removeFilter(_is_new)
        log.setLevel(level)


def _is_new(record: logging.LogRecord) -> bool:
    """True for a message that this process has not logged before."""
    message = record.getMessage()
    new = message not in warned
    warned.add(message)
    return new


class Worker:
    """A process that works on a sweep."""

    def __init__(self, folder: Path, sweep: Sweep) -> None:
        self.folder = folder
        self.sweep = sweep
        self.space = space.parse(sweep.space)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with self.locked(), answering():
            self.study = optuna.create_study(
                study_name=sweep.study,
                storage=_database(sweep.storage) if sweep.storage else _journal(folder),
                load_if_exists=True,
                pruner=optuna.pruners.SuccessiveHalvingPruner(3, reduction_factor=3),
            )

    def run(self, train: Train) -> None:
        """Train until all trials have ended, including other processes' trials."""
        while True:
            with self.locked():
                taken = self._next()
            if taken is not None:
                trial, held = taken
                try:
                    self._train(trial, train)
                finally:
                    held.release()  # a block `with held` would acquire it once more
                self._write()
            elif self._running():
                time.sleep(WAIT_SECONDS)
            else:
                self._write()
                return

    def locked(self) -> BaseFileLock:
        """Lock of the folder; only one process holds it at a time."""
        return self._lock(SETTINGS)

    def _write(self) -> None:
        with self.locked():  # all processes write the same table
            write_table(self.folder, self.study)

    def _lock(self, name: str, timeout: float = -1) -> BaseFileLock:
        return FileLock(self.folder / f".{name}.lock", timeout=timeout)

    def _running(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING])

    def _next(self) -> tuple[Trial, BaseFileLock] | None:
        """Take a trial whose process was killed, or else a new one; None if there is none."""
        for running in self._running():
            if (held := self._held(_name(running))) is None:
                continue
            if running.number in [trial.number for trial in self._running()]:  # still
                self._seed(running.number)
                return self._choose(Trial(self.study, running._trial_id)), held
            held.release()
        number = len(self.study.get_trials(deepcopy=False))
        if number >= self.sweep.trials:
            return None
        self._seed(number)
        trial = self._choose(self.study.ask())
        held = self._held(_name(trial))
        assert held is not None  # no other process takes a trial at the same time
        return trial, held

    def _seed(self, number: int) -> None:
        """Make the values of a trial depend only on the seed and the trials before it."""
        seed = int(np.random.SeedSequence([self.sweep.seed, number]).generate_state(1)[0])
        self.study.sampler = optuna.samplers.TPESampler(seed=seed)

    def _held(self, name: str) -> BaseFileLock | None:
        """Acquire the lock of a trial; None if another process holds it."""
        lock = self._lock(name, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            return None
        return lock

    def _choose(self, trial: Trial) -> Trial:
        """Choose the values of a trial, unless they have been chosen."""
        for name, values in self.space.items():
            _suggest(trial, name, values)
        return trial

    def _train(self, trial: Trial, train: Train) -> None:
        check_texts(self.sweep)  # the trial can be resumed later if they have changed
        report = Report(trial)
        given = space.applicable(self.sweep.given | trial.params)
        path = self.folder / TRIALS / _name(trial)
        place = f"trial {_name(trial)}"
        values = described(space.applicable(trial.params))
        log.info("%s (%d of %d): %s", place, trial.number + 1, self.sweep.trials, values)
        try:
            loss = train(given, path, report)
        except (MachineError, InterruptedWorkError):
            raise  # the trial can be resumed later
        except (ElmanError, MemoryError) as error:
            diverged = isinstance(error, DivergedError)
            trial.set_user_attr(FAILED, "diverged" if diverged else "refused")
            self.study.tell(trial, state=TrialState.FAIL)
            reason = "out of memory" if isinstance(error, MemoryError) else error
            if not diverged and not any(row.state == COMPLETE for row in rows(self.study)):
                raise ElmanError(  # all others may fail, too
                    f"{place} is refused: ",
                    reason,
                    "; to try others, use ",
                    Call("sweep", resume=self.folder),
                ) from error
            log.warning("%s: %s", place, reason)
            return
        bits = loss / math.log(2)
        log.info("%s: %.3f bits/char%s", place, bits, ", ended early" if report.pruned else "")
        if report.pruned:  # Optuna keeps the loss of the comparison, on other tokens
            trial.set_user_attr(LOSS, loss)
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, loss)


def _journal(folder: Path) -> optuna.storages.JournalStorage:
    """Journal with a lock that, unlike Optuna's, is released when its process is killed."""
    lock: Any = FileLock(folder / f".{JOURNAL}.lock")
    return optuna.storages.JournalStorage(JournalFileBackend(str(folder / JOURNAL), lock))


def _database(url: str) -> Any:
    try:
        return optuna.storages.get_storage(url)
    except ImportError as error:
        raise MachineError(
            f"the driver {url.partition(':')[0]} is not installed: install it with pip, such as "
            '"psycopg[binary]" for postgresql+psycopg'
        ) from error
    except Exception as error:  # errors of SQLAlchemy and of drivers
        kind = ElmanError if isinstance(error, ValueError | ArgumentError) else MachineError
        raise kind(
            f"cannot connect to the storage ({_reason(error)}): give a URL such as "
            "postgresql+psycopg://USER@HOST/NAME, and start its server"
        ) from error


@contextmanager
def answering() -> Iterator[None]:
    """Raise a MachineError if the storage of a sweep does not answer within the block."""
    try:
        yield
    except StorageInternalError as error:
        message = f"the storage does not answer ({_reason(error)}): resume the sweep later"
        raise MachineError(message) from error


def _reason(error: BaseException) -> str:
    """First line of the original error."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0]


def _name(trial: Trial | FrozenTrial) -> str:
    """Name of the run of a trial."""
    return f"{trial.number:04}"


def _suggest(trial: Trial, name: str, values: Values) -> None:
    if not isinstance(values, Range):
        trial.suggest_categorical(name, values)
    elif isinstance(values.low, int):
        trial.suggest_int(name, values.low, int(values.high), log=values.log)
    else:
        trial.suggest_float(name, values.low, values.high, log=values.log)


def described(params: Mapping[str, Any]) -> str:
    """Values of a trial in words."""
    shown = {name: f"{v:.4g}" if isinstance(v, float) else v for name, v in params.items()}
    return ", ".join(f"{in_words(name)} {value}" for name, value in shown.items())


@dataclass(frozen=True)
class Row:
    """A trial that ended or is running: run, state, validation loss, values."""

    run: str
    state: str
    val_bits_per_character: float
    params: dict[str, Any]


def rows(study: optuna.Study) -> list[Row]:
    """Trials of a sweep: the lowest loss first, trials without a loss last."""
    found = []
    for trial in study.get_trials(deepcopy=False):
        state = trial.user_attrs.get(FAILED, trial.state.name.lower())
        loss = trial.user_attrs.get(LOSS, math.inf if trial.value is None else trial.value)
        found.append(Row(_name(trial), state, loss / math.log(2), trial.params))
    return sorted(found, key=lambda row: (row.val_bits_per_character, row.run))


def write_table(folder: Path, study: optuna.Study) -> None:
    """Write trials.csv."""
    found = rows(study)
    file = io.StringIO(newline="")
    table = csv.writer(file)
    names = list(found[0].params) if found else []
    table.writerow(["run", "state", "val_bits_per_character", *names])
    for row in found:
        values = [row.params.get(name, "") for name in names]
        table.writerow([row.run, row.state, row.val_bits_per_character, *values])
    atomic.write(folder / TABLE, file.getvalue().encode())


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of each setting in what makes the best trials better; empty for few trials."""
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if len(complete) < MIN_IMPORTANCE:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
