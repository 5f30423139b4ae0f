"""The commands that train and that list what was trained: they call and print."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from elman import signals
from elman.cli.output import print_json, show
from elman.errors import ElmanError, InterruptedWorkError
from elman.runs.settings import Settings, check_text
from elman.terms import in_shell
from elman.valid_values import FRAMEWORKS, TIME_MACHINE

if TYPE_CHECKING:
    from elman.experiments.session import Session
    from elman.model.metrics import Evaluation
    from elman.runs.results import Result


def train(
    context: typer.Context,
    *,
    out: Path | None = None,
    checkpoint_every: float = 60,
    sample_every: float | None = None,
    resume: Path | None = None,
    **options: Any,
) -> None:
    """Train a model on a text.

    Every setting marked [book: ...] is chosen for your text, this machine and the time, unless you
    give it. With --recipe book, and without a text, it has the value shown, from Dive into Deep
    Learning.
    """
    from elman.experiments import session

    conduct = session.Conduct(checkpoint_every, sample_every, ending=signals.ending_with_a_batch)
    try:
        if resume is not None:
            trained = session.resume(resume, conduct)
        else:
            folder = out or session.default_folder(options.get("text", Settings.text))
            numbered = out is None
            frameworks = options.get("framework", Settings.framework)
            if frameworks not in FRAMEWORKS:
                from elman.experiments import compare

                every = {"checkpoint_every": checkpoint_every, "sample_every": sample_every}
                cells = context.find_root().params["cells"]
                compare.train_in(frameworks, options, every, folder, numbered, _print_table, cells)
                return
            trained = session.begin(options, folder, numbered, conduct)
    except session.FirstWorkerFailedError as error:
        raise typer.Exit(error.exit_code) from error
    if trained is not None:
        _report(trained)


def _report(trained: "Session") -> None:
    """Finish a run, and print its results, a sample and a command to type."""
    from elman.experiments.report import LAST_TEMPERATURE, LAST_TOKENS, results_in_words
    from elman.training.curve_files import load_matplotlib

    training = trained.training
    try:
        load_matplotlib()
        test = trained.finish()
        print("\n".join(results_in_words(training, test)))
        show(f"{'run':23}{trained.folder}")
        samples, run = training.samples, shlex.quote(str(trained.folder))
        sample = samples.written(LAST_TOKENS, LAST_TEMPERATURE)
        show(f"\n{sample.strip()}\n\nnext: {samples.command(run)}")
    except KeyboardInterrupt as error:
        raise InterruptedWorkError(f"interrupted: {trained.folder} is finished") from error


def prepare(
    texts: list[str],
    *,
    out: Path,
    tokenizer: str | None = None,
    vocab_size: int | None = None,
    min_freq: int | None = None,
    newlines: str = "universal",
    split: str | None = None,
    val: str | None = None,
    test: str | None = None,
    lines: bool = False,
) -> None:
    """Tokenize texts of any size once, into a store.

    `elman train` and `elman evaluate` read the store instead of the texts.
    """
    from elman.data.parts import parse_split
    from elman.data.store import prepare
    from elman.training.progress import reading

    with reading() as shown:
        facts = prepare(
            *(texts, out, tokenizer, vocab_size, min_freq, newlines, shown),
            *(parse_split(split), val, test, lines),
        )
    print(f"tokens      {facts.tokens:,}")
    print(f"vocabulary  {facts.vocab:,}")
    show(f"store       {out}")


def sweep(
    *,
    space: str | None = None,
    trials: int = 50,
    storage: str | None = None,
    out: Path | None = None,
    resume: Path | None = None,
    **options: Any,
) -> None:
    """Search for the settings with the lowest validation loss.

    Every trial is a training with the options that you give here; --minutes or --epochs bounds
    each. Trials that fall behind end early. Settings marked [book: ...] are chosen for your text
    unless you give or search them.
    """
    from elman.experiments.choice import with_origin
    from elman.sweeps import report
    from elman.sweeps import sweep as sweeps
    from elman.training.curve_files import load_matplotlib

    asked = None
    if resume is None:
        given, _ = with_origin(options)
        asked = sweeps.Sweep(given, space, trials, given.get("seed", Settings.seed), storage)
    folder = resume or out or Path("sweeps", Path(options.get("text", "")).stem or "sweep")
    worker = sweeps.open_sweep(folder, asked)
    load_matplotlib()
    with sweeps.answering():
        try:
            worker.run(partial(sweeps.train_trial, ending=signals.ending_with_a_batch))
        except (InterruptedWorkError, KeyboardInterrupt) as error:
            cure = f"go on with elman sweep --resume {folder}"
            raise InterruptedWorkError(f"interrupted: {cure}") from error
        for line in report.lines(worker):
            show(line)


def plan(
    *, workers: int = 8, tokens: int | None = None, as_json: bool = False, **options: Any
) -> None:
    """Predict memory and speed of a training with workers, without starting it.

    A worker is a process with a machine like this one, or a GPU. The options describe a training of
    `elman train`. The speed is measured here; the time of an exchange between workers is left out.
    """
    from elman.experiments import planning

    made = planning.plan(options, workers, tokens)
    if as_json:
        print_json(made.to_dict())
    else:
        print(made.table(in_shell))


def compare(
    runs: list[Path],
    *,
    on: str | None = None,
    everything: bool = False,
    plot: Path | None = None,
    as_json: bool = False,
) -> None:
    """Compare runs in a table."""
    from elman.experiments import compare
    from elman.training.curve_files import load_matplotlib

    if on is not None:
        _check_on(on)
    if plot is not None:
        load_matplotlib()

    def shown(results: "Sequence[Result]") -> None:
        if as_json:
            _print_results(results)
            return
        _print_table(results, everything)
        if on is not None:
            show(f"evaluated on {on}")

    compare.compare(runs, plot, shown, None if on is None else partial(_evaluate, text=on))


def _check_on(text: str) -> None:
    """Raise an ElmanError unless several runs can be evaluated on a text."""
    from elman.files import regular
    from elman.text.text_files import STDIN

    check_text(text, None)
    if text == STDIN:
        raise ElmanError("each run reads the text again, got -: give the path of a file")
    if text != TIME_MACHINE:
        regular.check_exists(Path(text))


def _evaluate(run: Path, text: str) -> "Evaluation":
    from elman.inference.evaluation import evaluate_on
    from elman.runs.loading import load_language_model

    return evaluate_on(load_language_model(run), text)


def _print_table(results: "Sequence[Result]", everything: bool = False) -> None:
    from elman.runs.table import table

    print(table(results, everything))


def _print_results(results: "Sequence[Result]", **others: Any) -> None:
    print_json({"runs": [asdict(each) for each in results], **others})


def runs(folder: Path = Path("runs"), *, as_json: bool = False) -> None:
    """List the runs in a folder and their bits per character."""
    from elman.runs import run_folder
    from elman.runs.results import in_folder, readable, result
    from elman.runs.table import overview

    if not folder.is_dir():
        raise ElmanError(f"there is no folder {folder}: give one that has runs")
    found = list(in_folder(folder))
    unfinished = [path for path in found if run_folder.is_unfinished(path)]
    results = [result(*each) for each in readable(sorted({*found} - {*unfinished}))]
    if as_json:
        _print_results(results, in_training=[str(path) for path in unfinished])
        return
    if results:
        print(overview(results))
    for path in unfinished:
        show(f"{path}  in training: elman train --resume {path}")
    if not found:
        show(f"no run is in {folder}")


def info(run: Path | None = None, *, speed: bool = False, as_json: bool = False) -> None:
    """Describe a run, or the installed frameworks.

    Without a run it lists the frameworks that can be used, their versions and devices.
    """
    from elman.api import commands

    facts = commands.info(run, speed)
    if as_json:
        print_json(facts)
    else:
        show(repr(facts))
