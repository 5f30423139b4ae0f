"""The folder of a run, from its beginning to its end: made, locked, interrupted, resumed.

During training it contains training.json, with the settings, and checkpoints. config.json is
written last, when the run is complete except for the curves. After an interrupt, the error says
what is left and how to resume.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

from elman.errors import ElmanError, InterruptedWorkError, MachineError
from elman.files import atomic, json_files, regular
from elman.files.paths import exists
from elman.runs.records import RunSettings, read_record
from elman.terms import Option, Term, resuming, training_from
from elman.text.codec import TARGET, VOCAB_FILE
from elman.training import checkpoint

CONFIG, TRAINING, CHECKPOINTS = "config.json", "training.json", "checkpoints"
RUNS = "runs"  # folder of runs without a given name
# Cure where a host of several lacks a run.
COMMON = (
    Option("resume"),
    " requires it on all hosts: copy it, or repeat the command that began it",
)
CURE = "resume from the last checkpoint with"
TENSORBOARD = "tensorboard"  # folder of the log written by `--log tensorboard`


def check_writable(path: Path) -> None:
    """Raise an ElmanError unless a folder can be made at `path`."""
    with atomic.part_of(path):
        pass


@contextmanager
def new_training(path: Path, settings: RunSettings, numbered: bool = False) -> Iterator[Path]:
    """Make the run directory `path`, and train within the block.

    If it exists and `numbered` is true, the directory is the first of NAME-2, NAME-3, ... that does
    not exist. It is removed if the block fails without a checkpoint.
    """
    with atomic.new_parents(path):  # an OSError of a callback is not one of this folder
        path = atomic.make_new(path, partial(_begin, settings=settings), numbered)
        held = False
        try:
            with _locked(path):
                held = True
                try:
                    yield path
                finally:
                    if not ((path / CONFIG).exists() or checkpoint.paths(path / CHECKPOINTS)):
                        (path / TRAINING).unlink(missing_ok=True)  # so that it cannot be resumed
        except MachineError:
            if not held:  # the file system does not support locks
                (path / TRAINING).unlink(missing_ok=True)
            raise
        finally:
            if not any((path / name).exists() for name in (CONFIG, TRAINING)):
                shutil.rmtree(path, ignore_errors=True)


def _begin(path: Path, settings: RunSettings) -> None:
    with atomic.new_folder(path) as part:  # it never exists without its settings
        json_files.write(part / TRAINING, asdict(settings))


def is_run(path: Path) -> bool:
    """True for a run directory, finished or not."""
    return exists(path / CONFIG) or exists(path / TRAINING)


def is_unfinished(path: Path) -> bool:
    """True for the run directory of a training that can be resumed."""
    return exists(path / TRAINING) and not exists(path / CONFIG)


def framework_in_training(path: Path) -> str:
    """Framework with which the workers of a run connect; an ElmanError if the run is not here.

    It is numba for a finished run. The first worker refuses that.
    """
    _check_begun(path, "; ", *COMMON)
    return read_training(path).settings.framework if is_unfinished(path) else "numba"


def _check_begun(path: Path, *cure: str | Term) -> None:
    """Raise an ElmanError unless a folder contains a training, finished or not."""
    if not exists(path / CONFIG) and not exists(path / TRAINING):
        other = suggestion(path)
        reason = (other,) if other else (f"it has no {TRAINING}", *cure)
        raise ElmanError(f"{path} is not a run in training: ", *reason)


@contextmanager
def resumed_training(path: Path) -> Iterator[RunSettings]:
    """Read the settings of an unfinished run, and train within the block."""
    _check_begun(path)
    finished = exists(path / CONFIG)
    for inside in (path, path / CHECKPOINTS, path / TENSORBOARD):
        if inside.is_dir():
            regular.check_owner(inside.resolve())
            regular.check_folder(inside)
    if finished:
        if exists(path / TRAINING):
            with _locked(path):
                pass  # removes files that a crash has left
        if exists(path / (TARGET + VOCAB_FILE)):
            raise ElmanError(
                f"{path} is finished: nothing to resume; a model of pairs is not trained further, "
                "begin another with more minutes or epochs"
            )
        raise ElmanError(
            f"{path} is finished: nothing to resume; use ",
            training_from(path),
            " to train its model further",
        )
    with _locked(path):
        yield read_training(path)


def read_training(path: Path) -> RunSettings:
    """Read training.json of an unfinished run, checked."""
    cure = "if another version of elman began this training, start it again"
    return read_record(RunSettings, path / TRAINING, cure)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock a run directory, and add instructions for resuming to errors.

    The lock file remains while the training can be resumed: if it were removed, a process that has
    it open would lock the removed file, and the next process a new file.
    """
    lock = atomic.lock(path / ".lock", f"{path} is being trained by another process: wait for it")
    try:
        yield
    except KeyboardInterrupt as error:
        if (path / CONFIG).exists():
            raise InterruptedWorkError(f"interrupted: {path} is finished") from error
        if checkpoint.paths(path / CHECKPOINTS):
            raise InterruptedWorkError("interrupted: resume with ", resuming(path)) from error
        raise
    except MachineError as error:
        if checkpoint.paths(path / CHECKPOINTS):
            raise type(error)(error, f"; {CURE} ", resuming(path)) from error
        raise
    finally:
        if (path / CONFIG).exists():
            shutil.rmtree(path / CHECKPOINTS, ignore_errors=True)
            (path / TRAINING).unlink(missing_ok=True)
        resumable = (path / TRAINING).exists()
        lock.release()
        if not resumable:
            with suppress(OSError):
                (path / ".lock").unlink()


def tell_what_is_kept(path: Path, error: BaseException) -> None:
    """Add to an error in a training what is kept of it, and how to resume.

    An ElmanError is raised again with a longer message; `new_training` and `resumed_training` do so
    for a MachineError after a checkpoint. Other exceptions get a note.
    """
    kept = checkpoint.paths(path / CHECKPOINTS)
    if kept and isinstance(error, MachineError):
        return
    again = resuming(path)
    if isinstance(error, ElmanError):
        told = (f"{CURE} ", again) if kept else ("nothing was kept",)
        raise type(error)(error, "; ", *told) from error
    error.add_note(f"{CURE} {again.in_shell()}, or {again}" if kept else "nothing was kept")


def suggestion(path: Path) -> str:
    """End of a message that suggests a run in the folder of runs; "" if there is none."""
    run = Path(RUNS, path)
    return f"did you mean {run}?" if is_run(run) else ""
