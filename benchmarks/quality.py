"""Models that elman, a bare LSTM, a small GPT and a bare GRU learn in the same minutes.

    python benchmarks/quality.py texts
    python benchmarks/quality.py search KIND TEXT [--contenders NAME ...] [--trials N] [--minutes M]
        [--table FILE]
    python benchmarks/quality.py compare [TEXT ...] [--minutes M ...] [--table FILE]
        [--before FOLDER]

`texts` makes all texts from installed packages (quality_texts.py names them) in data/quality and
prints their sizes. `search` draws settings at random, the same ones every time, for the bare
contenders, or for those that are named, trains each on a text of the kind (short, long or lines)
and adds a line of JSON to the table for each; trials that are in it are not run again. Those of
elman are options around its own choice. `compare` has elman without any option but the minutes, and
the bare contenders with the best settings of their kind of text in the table, train one after the
other on each text, and prints the validation losses in nats per character, and how much lower
elman's is than the lowest of the others. Texts that no setting was chosen with are compared only if
they are named. `--before src` adds another version of elman: the folder that contains its package,
such as that of `git worktree add`.

All have the same two parts of a text and the same minutes on all cores, and keep the weights that
were best in validation while they trained. The LSTM and elman read the validation part as one
stream; the GPT's context slides over it by half of its length, and so predicts each character from
at least half of the context, where there is so much before it. The GRU, for texts of lines, and
elman there read each line by itself.

A contender works in a process of its own: `quality.py contender NAME TRAINING VALIDATION MINUTES
SETTINGS`, with SETTINGS as JSON. Its loss counts all characters but the first, which nothing
predicts; characters that TRAINING lacks are one symbol for each contender.
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from measuring import ENVIRONMENT, print_header, print_machine, print_row
from quality_texts import HELD_OUT, TEXTS, parts

BARE = ("lstm", "gpt", "gru")


# Options of elman around those that it chooses for a text that is one stream.
AROUND: dict[str, tuple[Any, ...]] = {
    "tokenizer": ("char", "bpe", "bpe", "bpe", "bpe"),
    "vocab-size": (1024, 2048, 2048, 4096),
    "cell": ("gru", "gru", "gru", "lstm"),
    "layers": (1, 1, 1, 2),
    "hidden": (96, 128, 160, 192, 256),
    "dropout": (0.0, 0.1),
    "output-dropout": (0.0, 0.05, 0.1),
    "batch-size": (4, 8, 16, 32),
    "seq-len": (32, 48, 64, 96),
    "lr": (0.008, 0.011, 0.016, 0.022),
    "weight-decay": (0.03, 0.1, 0.3),
}


@dataclass
class Outcome:
    """A contender's validation loss in nats per character, and what it is about.

    - `updates`: 0 for elman, which does not tell.
    """

    loss: float
    characters: int
    updates: int
    seconds: float


def choices(contender: str) -> dict[str, tuple[Any, ...]]:
    """Settings of a contender, and the values that a search draws from."""
    if contender == "elman":
        return AROUND
    return import_module(f"bare.torch_{contender}").CHOICES


def unused(options: dict[str, Any]) -> set[str]:
    """Options that a training does not use beside others, and refuses."""
    found = set()
    if options.get("layers") == 1:
        found.add("dropout")  # it acts between layers
    if options.get("tokenizer") == "char":
        found.add("vocab-size")
    return found


def elman(
    training: Path, validation: Path, minutes: float, options: dict[str, Any]
) -> tuple[float, int, int]:
    """Train with the command line; nats of the validation part, characters, and updates.

    The parts are files, so that a change of elman's own split changes nothing here.
    """
    program = [sys.executable, "-m", "elman"]
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder, "run"))
        given = ["--val", str(validation), "--minutes", str(minutes), "--out", run]
        left_out = unused(options)
        for name, value in options.items():
            if name not in left_out:
                given.append(f"--{name}" if value is True else f"--{name}={value}")
        subprocess.run(
            [*program, "train", str(training), *given], check=True, stdout=subprocess.DEVNULL
        )
        command = [*program, "evaluate", run, str(validation), "--json"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    bits = found["bits_per_character"] * found["characters"]
    return bits * math.log(2), found["characters"], 0


def outcome(
    contender: str,
    parts: tuple[Path, Path],
    minutes: float,
    settings: dict[str, Any],
    source: Path | None = None,
) -> Outcome:
    """The outcome of a contender that works in a new process.

    - `parts`: files of the training and the validation part.
    - `settings`: options of elman, or settings of a bare contender.
    - `source`: folder to import elman from; by default that of this process.
    """
    words = contender, *map(str, parts), str(minutes), json.dumps(settings)
    command = [sys.executable, __file__, "contender", *words]
    env = os.environ | ENVIRONMENT  # which makes PyTorch faster
    if source is not None:
        env["PYTHONPATH"] = str(source)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
    return Outcome(**json.loads(done.stdout.splitlines()[-1]))


def be_contender(
    contender: str, training: str, validation: str, minutes: str, options: str
) -> None:
    """Train on a file, read the other, print an outcome as a line of JSON."""
    began = time.perf_counter()
    run = elman if contender == "elman" else import_module(f"bare.torch_{contender}").run
    nats, characters, updates = run(
        Path(training), Path(validation), float(minutes), json.loads(options)
    )
    seconds = time.perf_counter() - began
    print(json.dumps(asdict(Outcome(nats / characters, characters, updates, seconds))))


KINDS = {"short": ("lstm", "gpt"), "long": ("lstm", "gpt"), "lines": ("lstm", "gpt", "gru")}
OPTIONS = {"short": {}, "long": {}, "lines": {"lines": True}}  # of `elman train`
FOLDER = Path(__file__).parents[1] / "data" / "quality"
TABLE = Path(__file__).with_name("quality_search.jsonl")
LONGEST_TOKEN = 64  # characters
BEFORE = "elman before"
COMPARED = TEXTS | HELD_OUT
KEYS = ("contender", "kind", "text", "minutes", "trial")


def drawn(contender: str, trial: int) -> dict[str, Any]:
    """The settings of a trial, which are the same for any number of trials."""
    rng = random.Random(f"{contender} {trial}")
    return {name: rng.choice(values) for name, values in choices(contender).items()}


def rows_of(table: Path) -> list[dict[str, Any]]:
    """The trials in a table."""
    return [json.loads(line) for line in table.read_text().splitlines()] if table.exists() else []


def best_settings(table: Path, kind: str, contender: str) -> dict[str, Any]:
    """The settings of the lowest loss in a table; a SystemExit if there are none."""
    of_kind = [
        row
        for row in rows_of(table)
        if (row["kind"], row["contender"]) == (kind, contender) and math.isfinite(row["loss"])
    ]
    if not of_kind:
        raise SystemExit(f"{table} has no trial of {contender} for {kind} texts: search first")
    return min(of_kind, key=lambda row: row["loss"])["settings"]


def search(
    kind: str, text: str, contenders: Sequence[str], trials: int, minutes: float, table: Path
) -> None:
    """Run the trials that a table lacks, and add them to it."""
    known = {tuple(row[key] for key in KEYS) for row in rows_of(table)}
    files = parts(text, FOLDER)
    print_header([*KEYS, "settings", "nats/character", "updates", "seconds"])
    for trial in range(trials):
        for contender in contenders:
            values = contender, kind, text, minutes, trial
            if values in known:
                continue
            settings = drawn(contender, trial)
            if contender == "elman":
                settings |= OPTIONS[kind]
            found = outcome(contender, files, minutes, settings)
            row = dict(zip(KEYS, values, strict=True)) | {"settings": settings} | asdict(found)
            with table.open("a") as file:
                print(json.dumps(row), file=file)
            shown = " ".join(f"{name}={value}" for name, value in settings.items())
            print_row([*values, shown, f"{found.loss:.4f}", found.updates, f"{found.seconds:.0f}"])


def lead(found: dict[str, Outcome]) -> float:
    """How much lower elman's loss is than the lowest of the others.

    A ValueError tells of contenders that have not read the same number of characters, but for those
    of a first token, which nothing predicts.
    """
    counts = {name: one.characters for name, one in found.items()}
    if max(counts.values()) - min(counts.values()) > LONGEST_TOKEN:
        raise ValueError(f"the contenders have read different numbers of characters: {counts}")
    return min(found[name].loss for name in BARE if name in found) - found["elman"].loss


def compare(
    texts: Sequence[str], budgets: Sequence[float], table: Path, before: Path | None
) -> None:
    """Print a row for each text and budget."""
    kinds = {COMPARED[text].kind for text in texts}
    best = {
        (kind, name): best_settings(table, kind, name) for kind in kinds for name in KINDS[kind]
    }
    print_machine({"numba": sys.executable, "torch": sys.executable})
    columns = ("elman", *([] if before is None else [BEFORE]), *BARE)
    print_header(["text", "minutes", "characters read", *columns, "elman's lead"])
    for text in texts:
        kind, files = COMPARED[text].kind, parts(text, FOLDER)
        for minutes in budgets:
            found = {"elman": outcome("elman", files, minutes, OPTIONS[kind])}
            if before is not None:
                found[BEFORE] = outcome("elman", files, minutes, OPTIONS[kind], before)
            for name in KINDS[kind]:
                found[name] = outcome(name, files, minutes, best[kind, name])
            losses = [f"{found[n].loss:.3f}" if n in found else "-" for n in columns]
            read = f"{found['elman'].characters:,}"
            print_row([text, minutes, read, *losses, f"{lead(found):+.3f}"])


def print_texts() -> None:
    """Make all texts, and print their sizes."""
    print_header(["text", "kind", "bytes", "characters", "lines", "distinct", "validation"])
    for name, text in TEXTS.items():
        training, validation = (path.read_text(encoding="utf-8") for path in parts(name, FOLDER))
        whole = training + validation
        counts = len(whole.encode()), len(whole), whole.count("\n"), len({*whole}), len(validation)
        print_row([name, text.kind, *(f"{count:,}" for count in counts)])


def parsed() -> argparse.Namespace:
    """The arguments of the command line, checked."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("texts")
    searching, comparing = (commands.add_parser(name) for name in ("search", "compare"))
    searching.add_argument("kind", choices=KINDS)
    searching.add_argument("text", choices=TEXTS)
    searching.add_argument("--trials", type=int, default=12)
    searching.add_argument("--minutes", type=float, default=1.5)
    searching.add_argument("--contenders", nargs="+", choices=("elman", *BARE))
    comparing.add_argument("texts", nargs="*", metavar="TEXT", help=f"of {', '.join(COMPARED)}")
    comparing.add_argument("--minutes", type=float, nargs="+", default=[1.5, 3.0])
    comparing.add_argument("--before", type=Path, help="folder of another version of elman")
    for command in (searching, comparing):
        command.add_argument("--table", type=Path, default=TABLE)
    asked = parser.parse_args()
    if asked.command == "search" and TEXTS[asked.text].kind != asked.kind:
        parser.error(f"{asked.text} is a text of the kind {TEXTS[asked.text].kind}")
    if asked.command == "compare" and not {*asked.texts} <= {*COMPARED}:
        parser.error(f"a text is one of {', '.join(COMPARED)}, got {', '.join(asked.texts)}")
    return asked


def main() -> None:
    """Make texts, search or compare, or be a contender."""
    if sys.argv[1:2] == ["contender"]:
        be_contender(*sys.argv[2:])
        return
    asked = parsed()
    if asked.command == "texts":
        print_texts()
    elif asked.command == "search":
        contenders = asked.contenders or KINDS[asked.kind]
        search(asked.kind, asked.text, contenders, asked.trials, asked.minutes, asked.table)
    else:
        compare(asked.texts or list(TEXTS), asked.minutes, asked.table, asked.before)


if __name__ == "__main__":
    main()
