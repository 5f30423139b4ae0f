"""`elman train`: a run directory from a text, or one for each of several frameworks."""

import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elman.cli import signals
from elman.cli.compare import print_table
from elman.cli.options import NEWLINES, PATH, RUN, Edition, MinFreq, VocabSize
from elman.cli.output import LOWER_BOUND, show
from elman.core.errors import ElmanError, InterruptedWorkError, MachineError
from elman.core.experiments.frameworks import FRAMEWORKS, framework_module
from elman.core.model.cells import CELLS

if TYPE_CHECKING:
    from elman.core.experiments.train import Training

log = logging.getLogger("elman")
DEFAULT_LR = {"sgd": 1.0, "adam": 0.005}  # the book's, and one that suits models of this size


def train(
    context: typer.Context,
    text: Annotated[
        str,
        typer.Argument(
            help="time-machine, the path of a UTF-8 text file, gzip-compressed or not, or a "
            "store made by elman prepare."
        ),
    ] = "time-machine",
    edition: Edition = "gutenberg",
    tokenizer: Annotated[
        str | None,
        typer.Option(help="A file's tokens: char, byte, word or bpe. [default: char]"),
    ] = None,
    vocab_size: VocabSize = None,
    min_freq: MinFreq = None,
    newlines: Annotated[
        str | None, typer.Option(help=f"{NEWLINES} [default: universal, or a store's]")
    ] = None,
    cell: Annotated[str, typer.Option(help=f"One of {', '.join(CELLS)}.")] = "rnn",
    hidden: Annotated[int, typer.Option(help="Hidden units of a layer.")] = 32,
    layers: Annotated[int, typer.Option(help="Recurrent layers.")] = 1,
    embedding: Annotated[
        int, typer.Option(help="Size of a learnt input vector; 0 is one-hot.")
    ] = 0,
    tied: Annotated[
        bool, typer.Option("--tied", help="Let the embedding be the output layer's weight too.")
    ] = False,
    dropout: Annotated[
        float, typer.Option(help="Share of outputs dropped between layers while training.")
    ] = 0.0,
    steps: Annotated[int, typer.Option(help="Tokens of a window.")] = 32,
    batch_size: Annotated[int, typer.Option(help="Windows of an update.")] = 1024,
    windows: Annotated[
        str,
        typer.Option(help="random, or stream: each goes on from the state of the one before it."),
    ] = "random",
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes over the text; any number where minutes are given. [default: 100]"
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="End in so many minutes, whatever the epoch.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="End after so many epochs without a better one.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate. [default: 1 with sgd, 0.005 with adam]")
    ] = None,
    schedule: Annotated[
        str, typer.Option(help="The learning rate's: constant, cosine or plateau.")
    ] = "constant",
    warmup: Annotated[
        float, typer.Option(help="Share of the training in which the learning rate climbs.")
    ] = 0.0,
    clip: Annotated[float, typer.Option(help="Bound of the gradient's norm; 0 is none.")] = 1.0,
    optimizer: Annotated[str, typer.Option(help="sgd or adam.")] = "sgd",
    momentum: Annotated[float, typer.Option(help="Momentum of sgd.")] = 0.0,
    framework: Annotated[
        str,
        typer.Option(
            help="What computes: numba, numpy, torch, tensorflow, jax or mxnet; several with "
            "commas, or all, to compare; NAME=INTERPRETER for one of another environment."
        ),
    ] = "numba",
    device: Annotated[str, typer.Option(help="auto, cpu or gpu.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the weights and the batches.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="The run directory to make. [default: a new one in runs/]", **PATH),
    ] = None,
    checkpoint_every: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 60,
    init: Annotated[
        Path | None,
        typer.Option(
            help="Begin with the model of this finished run: its weights, architecture and tokens.",
            **RUN,
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with the interrupted training of this run directory.", **RUN),
    ] = None,
) -> None:
    """Train a model on a text; with no further word, D2L's RNN on The Time Machine."""
    settings = dict(locals())
    del settings["context"], settings["resume"], settings["checkpoint_every"]
    from elman.core.experiments import run
    from elman.core.experiments.train import Job, Training
    from elman.core.files import atomic

    if resume is not None:
        _resume(context, resume, checkpoint_every)
        return
    folder, numbered = settings.pop("out") or _folder(text), out is None
    settings["lr"] = DEFAULT_LR.get(optimizer, 1.0) if lr is None else lr
    if epochs is None and minutes is None:
        settings["epochs"] = 100
    if init is not None:
        arch = asdict(run.read_config(init).architecture)
        own = [name for name in arch if name in settings and name not in _given(context)]
        settings |= {name: arch[name] for name in own} | {"init": str(init)}
    job = Job(**settings)
    if framework not in FRAMEWORKS:
        _train_each(settings | {"checkpoint_every": checkpoint_every}, folder, numbered)
        return
    if not numbered:
        atomic.check_new(folder)
    training = Training(job, framework_module(framework))
    with run.new_training(folder, training.settings, numbered) as folder:
        _fit(training, folder, checkpoint_every)
    _report(training, folder)


def _given(context: typer.Context) -> list[str]:
    """The parameters that the command line names."""
    sources = {name: str(context.get_parameter_source(name)) for name in context.params}
    return [name for name, source in sources.items() if "COMMANDLINE" in source]


def _resume(context: typer.Context, folder: Path, checkpoint_every: float) -> None:
    """Go on with the training of a run directory."""
    from elman.core.experiments import run
    from elman.core.experiments.train import Settings, Training

    given = [name for name in _given(context) if name not in ("resume", "checkpoint_every")]
    if given:
        raise ElmanError(
            f"a training goes on with the settings it began with, got {', '.join(given)} beside "
            "--resume: leave that out"
        )
    with run.resumed_training(folder, Settings) as settings:
        training = Training.again(settings)
        _fit(training, folder, checkpoint_every)
    _report(training, folder)


def _fit(training: "Training", folder: Path, checkpoint_every: float) -> None:
    """Train from the newest checkpoint, if there is one, and write the run."""
    from elman.core.experiments import run
    from elman.core.training import checkpoint

    checkpoints = checkpoint.Checkpoints(folder / run.CHECKPOINTS, checkpoint_every)
    begun = checkpoint.read_newest(folder / run.CHECKPOINTS)
    with signals.ending_with_a_batch(checkpoints):
        training.fit(checkpoints, resume=begun)
        training.write(folder)


def _train_each(settings: dict[str, Any], folder: Path, numbered: bool) -> None:
    """Train in several frameworks, and compare."""
    from elman.core.experiments.compare import compare, new_group, places, train_each
    from elman.core.training.figures import load_matplotlib

    where = places(settings.pop("framework"))
    with new_group(folder, numbered) as (folder, picture):
        runs, failed = train_each(where, settings, folder)
    if runs:
        load_matplotlib()
        try:
            compare(runs, picture, print_table)
        except MachineError as error:  # the runs are there
            log.warning("%s", error)
    if failed:
        names = ", ".join(made.name for made in failed)
        users = all(code == ElmanError.exit_code for code in failed.values())
        kind = ElmanError if users else MachineError
        raise kind(f"no run of {names}, for the reasons above")


def _folder(text: str) -> Path:
    """The run directory of a training that is given none, if nothing has its name."""
    return Path("runs", Path(os.path.abspath(text)).stem or "run")  # . and .. have a name too


def _report(training: "Training", folder: Path) -> None:
    """Draw the curves of a run, and tell what came of it."""
    try:
        _draw_and_tell(training, folder)
    except KeyboardInterrupt as error:
        raise InterruptedWorkError(f"interrupted: {folder} is finished") from error


def _draw_and_tell(training: "Training", folder: Path) -> None:
    from elman.core.data import parts
    from elman.core.experiments import run
    from elman.core.training.figures import load_matplotlib
    from elman.core.training.history import best_epoch

    history = training.trainer.history
    load_matplotlib()
    run.draw(folder, history)
    best, last = best_epoch(history), history[-1]
    speed = sorted(epoch.tokens_per_second for epoch in history)
    test = training.test()
    if test is not None:
        run.add_test(folder, test)
    show(training.sample())
    print()
    unknown = {
        name: f"  ({parts.described(*counts)})" if counts[0] else ""
        for name, counts in training.unknown.items()
    }
    print(f"training perplexity    {best.train_ppl:.2f}{unknown.get('training part', '')}")
    print(f"validation perplexity  {best.val_ppl:.2f}{unknown.get('validation part', '')}")
    if test is not None:
        print(f"test perplexity        {test.perplexity:.2f}{unknown['test part']}")
        if test.characters:
            bound = LOWER_BOUND if test.unknown else ""
            print(f"test bits/character    {test.bits_per_character:.3f}{bound}")
    print(f"epoch                  {best.epoch} of {last.epoch}")
    print(f"seconds                {last.seconds:.1f}")
    print(f"tokens per second      {speed[len(speed) // 2]:,.0f}")
    show(f"run                    {folder}")
