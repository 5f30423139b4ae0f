"""Feed spoilt runs, trainings, stores, texts and options to all that reads them.

    python tests/robustness/hostile.py [NUMBER] [SEED]

Each of NUMBER (10,000) inputs is a good one with one file or option changed. It must be read, or be
refused by an ElmanError of one line: any other exception, a warning, more than ten seconds, or
memory beyond a gibibyte is a failure, which is printed, and ends the command with 1. The table
that is printed counts the inputs by what was changed.
"""

import contextlib
import dataclasses
import io
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spoiling import FLOATS, NUMBERS, STORY, WORDS, Chance

import elman
from elman.book.data_sets import TextFile
from elman.cli import main as command_line
from elman.errors import ElmanError
from elman.experiments.train import Training
from elman.runs import results, run, run_folder, table
from elman.runs.settings import Settings
from elman.training import checkpoint
from elman.training.callback import Callback

SECONDS = 10
MEMORY = 1 << 30
SIZES = {"hidden": 4, "seq_len": 8, "batch_size": 16, "epochs": 2, "framework": "numpy"}
OPTIONS: dict[str, Any] = {"recipe": "book", "cell": "gru", "layers": 2, "embedding": 4} | SIZES
# Files that are changed, and the folders that they are in.
FILES = {
    "config.json": ("run", "run-bpe"),
    "vocab.json": ("run", "run-bpe"),
    "tokenizer.json": ("run-bpe", "store-bpe"),
    "model.safetensors": ("run",),
    "history.csv": ("run",),
    "training.json": ("training", "training-contiguous"),
    "*.safetensors": ("training", "training-contiguous"),
    "*": ("store", "store-bpe", "store-lines"),
    "*.txt": ("text",),
}
NAMES = {"*.safetensors": "a checkpoint", "*": "a store", "*.txt": "a text"}
KINDS = [*(NAMES.get(name, name) for name in FILES), "an option"]
# A training that is refused at its end, since it has diverged, has printed these before.
OF_A_TRAINING = "epoch ", *(f"elman: {line}: " for line in ("model", "training", "regularization"))


class EnoughError(Exception):
    """The training has got so far."""


class Until(Callback):
    """Ends a training after so many updates."""

    def __init__(self, updates: int) -> None:
        self.updates = updates

    def after_update(self, trainer: Any) -> None:
        """Count, and end."""
        self.updates -= 1
        if not self.updates:
            raise EnoughError


def make_good(folder: Path) -> None:
    """Runs, trainings that were stopped, and stores, all of one text."""
    text = folder / "text" / "text.txt"
    text.parent.mkdir()
    text.write_text(STORY)
    for name, tokenizer in {"": "char", "-bpe": "bpe"}.items():
        size = {"vocab_size": 300} if name else {}
        elman.prepare(text, out=folder / f"store{name}", tokenizer=tokenizer, quiet=True, **size)
        elman.train(folder / f"store{name}", out=folder / f"run{name}", quiet=True, **OPTIONS)
    elman.prepare(text, out=folder / "store-lines", lines=True, quiet=True)
    for name, more in {"": {}, "-contiguous": {"batching": "contiguous"}}.items():
        out = folder / f"training{name}"
        with contextlib.suppress(EnoughError):
            elman.train(text, out=out, callbacks=[Until(5)], quiet=True, **OPTIONS, **more)
        *older, _ = checkpoint.paths(out / "checkpoints")
        for path in older:
            path.unlink()


def read(folder: Path, good: Path, chance: Chance) -> None:
    """Read a folder by all that reads such; a part of the time by the command line."""
    told_instead, name = chance.random() < 0.1, folder.name
    if name.startswith(("store", "text")):
        path = str(folder / "text.txt" if name == "text" else folder)
        tokenizer = chance.choice(["char", "byte", "word", "bpe"]) if name == "text" else None
        if told_instead:
            told(["evaluate", str(good / "run"), path, "--framework", "numpy"])
        else:
            list(TextFile(path, 4, 8, tokenizer, lines=name == "store-lines").train_dataloader())
    elif name.startswith("training"):
        if told_instead:
            told(["train", "--resume", str(folder)])
        else:
            resume(folder)
    elif told_instead:
        told(["generate", str(folder), "Once", "--tokens", "3", "--framework", "numpy"])
    else:
        model = elman.load(folder)
        model.generate("Once", tokens=5, temperature=0.8, top_k=5, top_p=0.9, min_p=0.01)
        model.evaluate(folder.parent / "held-out.txt")
        found = results.result(folder, run.read_config(folder), run.read_history(folder))
        table.table([found, found])
        table.overview([found, found])


def resume(folder: Path) -> None:
    """Go on with a training, for a few updates."""
    with contextlib.suppress(EnoughError), run_folder.resumed_training(folder) as settings:
        newest = checkpoint.read_newest(folder / "checkpoints")
        Training.from_settings(settings).fit(Until(9), resume=newest)


def read_changed(kind: str, good: Path, place: Path, chance: Chance) -> None:
    """Change a file of a good folder, and read the folder."""
    pattern = list(FILES)[KINDS.index(kind)]
    folder = place / chance.choice(FILES[pattern])
    shutil.copytree(good / folder.name, folder)
    (place / "held-out.txt").write_text(STORY[:100])
    chance.spoil(chance.choice(sorted(folder.rglob(pattern))))
    read(folder, good, chance)


def read_option(good: Path, place: Path, chance: Chance) -> None:
    """Read a command with an option that has a value which it may not have."""
    fields = {field.name for field in dataclasses.fields(Settings)} - {"text", "epochs", "minutes"}
    trains = sorted({"out", "checkpoint-every", "sample-every"} | fields)
    writes = ["tokens", "temperature", "top-k", "top-p", "min-p", "seed"]
    numbers = [number for number in NUMBERS if not 7 < number < 1 << 31]  # which take long
    value = str(chance.choice([*numbers, *FLOATS, *WORDS[:2], "é", "\x1b[2J"]))
    options = [
        f"--{name.replace('_', '-')}={size}" for name, size in (SIZES | {"epochs": 1}).items()
    ]
    generate = ["generate", str(good / "run"), "Once", "--framework=numpy", "--tokens=3"]
    train = ["train", str(good / "text" / "text.txt"), *options, f"--out={place / 'made'}"]
    told(
        chance.choice(
            [
                [*train, f"--{chance.choice(trains).replace('_', '-')}={value}"],
                [*generate, f"--{chance.choice(writes)}={value}"],
                [*generate[:2], value, *generate[3:]],
                ["train", f"--resume={value}"],
            ]
        )
    )


def told(words: list[str]) -> None:
    """Run a command, which must not end with a traceback, and say what is wrong in a line."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    log, argv, before = logging.getLogger("elman"), sys.argv, signal.getsignal(signal.SIGTERM)
    sys.argv = ["elman", *words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            command_line()
    except SystemExit as ended:
        code = ended.code
    finally:
        signal.signal(signal.SIGTERM, before)
        sys.argv = argv
        log.handlers.clear()
        log.setLevel(logging.CRITICAL)
    err.seek(0)
    said = err.read()
    lines = [line for line in said.splitlines() if not line.startswith(OF_A_TRAINING)]
    if code:
        if code != 2 and not (code == 1 and "loss became" in said):
            raise AssertionError(f"exit code {code}: {said}")
        advice = ("elman: the checkpoint is damaged: ", "elman: an epoch has ")
        if len(lines) != 1 + sum(map(said.count, advice)):
            raise AssertionError(f"not one line: {said}")
        raise ElmanError(lines[-1])


class HangError(BaseException):
    """It took too long."""


@contextlib.contextmanager
def within_seconds() -> Iterator[None]:
    """End the block with a HangError where it does not end by itself."""

    def alarm(*_: Any) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def accepted(kind: str, good: Path, place: Path, chance: Chance) -> bool:
    """True if an input is read; False where it is refused as it should be."""
    try:
        with within_seconds():
            if kind == "an option":
                read_option(good, place, chance)
            else:
                read_changed(kind, good, place, chance)
    except ElmanError as error:
        if len(str(error).splitlines()) != 1:
            raise AssertionError(f"not one line: {error}") from error
        return False
    return True


def attempt(number: int, seed: int) -> tuple[Counter[tuple[str, bool]], list[str]]:
    """Try so many inputs: how many of each kind were accepted and not, and what failed."""
    counts: Counter[tuple[str, bool]] = Counter()
    failures = []
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        good, place = Path(name) / "good", Path(name) / "place"
        good.mkdir()
        make_good(good)
        for count in range(number):
            kind = KINDS[count % len(KINDS)]
            place.mkdir()
            try:
                counts[kind, accepted(kind, good, place, Chance(f"{seed} {count}"))] += 1
            except (Exception, HangError):
                failures.append(f"{kind}, number {count}:\n{traceback.format_exc(limit=-6)}")
            shutil.rmtree(place)
    return counts, failures


def bounded_memory() -> None:
    """From here on this process can have no more than a gibibyte beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main() -> int:
    """Try so many inputs; 0 where none failed."""
    number, seed = (int(word) for word in [*sys.argv[1:], "10000", "0"][:2])
    warnings.simplefilter("error")
    logging.getLogger("elman").setLevel(logging.CRITICAL)
    if sys.platform == "linux":
        bounded_memory()
    counts, failures = attempt(number, seed)
    if failures:
        print("\n".join(failures[:20]))
    print(f"{'kind':<20} {'tried':>7} {'refused':>8} {'accepted':>9}")
    for kind in KINDS:
        refused, taken = counts[kind, False], counts[kind, True]
        print(f"{kind:<20} {refused + taken:>7} {refused:>8} {taken:>9}")
    print(f"{len(failures)} failed of {number}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
