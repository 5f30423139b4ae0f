"""The command line: parse, call, print. What is heavy is imported by the command that needs it."""

import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated, Any

import typer

import elman
from elman.core.errors import ElmanError, InterruptedWorkError, MachineError, escaped, printable
from elman.core.experiments.frameworks import FRAMEWORKS, framework_module
from elman.core.training import terminal

if TYPE_CHECKING:
    from elman.core.experiments.results import Result
    from elman.core.experiments.train import Training

log = logging.getLogger("elman")
app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        print(f"elman {elman.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Train, measure and sample recurrent language models."""


def _path(word: str) -> Path:
    """A path on the command line: what is empty would stand for the current folder."""
    if not word:
        raise typer.BadParameter("it is empty: give a path")
    return Path(word)


def _text(word: str) -> str:
    """A text on the command line: UTF-8, if it is, even where the locale has no such characters."""
    try:
        return os.fsencode(word).decode()
    except UnicodeError:
        return word


def _show(text: str) -> None:
    """Print what may hold anything: to a terminal without what would make it do anything else."""
    print(escaped(text) if sys.stdout.isatty() else text)


def _message(error: typer.TyperException) -> str:
    """The message of a word that Typer refuses, with the word where Typer leaves it out."""
    found: Any = getattr(error.__cause__, "errors", list)()  # as Pydantic has them
    return error.format_message() + (f", got {found[0]['input']!r}" if found else "")


_PATH: dict[str, Any] = {"parser": _path, "metavar": "PATH"}
_RUN, _RUNS = _PATH | {"metavar": "RUN"}, _PATH | {"metavar": "RUN..."}
Run = Annotated[Path, typer.Argument(help="A run directory, made by elman train.", **_RUN)]
Framework = Annotated[
    str, typer.Option(help="What computes: numba, numpy, torch, tensorflow, jax or mxnet.")
]
VocabSize = Annotated[
    int | None,
    typer.Option(
        help="Tokens of the vocabulary, the most frequent ones; bpe learns so many. [default: all; "
        "4096 for bpe]"
    ),
]
MinFreq = Annotated[
    int | None,
    typer.Option(
        help="Leave tokens that the training part has less often to <unk>. [default: 2 for word, "
        "1 for char]"
    ),
]
NEWLINES = "universal reads the line ends CR LF and CR as LF, keep takes them as they are."
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
LOWER_BOUND = "  (a lower bound: the spelling of unknown tokens is not counted)"
MOST_TOKENS = 10**7  # a text of these takes under a gigabyte
DEFAULT_LR = {"sgd": 1.0, "adam": 0.005}  # the book's, and one that suits models of this size


def main() -> None:
    """Run the command line; every failure is one line, and an exit code of its class."""
    terminal.set_up()
    os.environ["MPLBACKEND"] = "agg"  # curves go into files, whatever a notebook has set
    # Nobody's settings change what is drawn or computed.
    os.environ["MATPLOTLIBRC"] = os.environ["KERAS_HOME"] = os.devnull
    logging.getLogger("matplotlib").setLevel(logging.CRITICAL)  # as that it makes a cache
    log.setLevel(logging.INFO)
    log.addHandler(_Notices())
    _spare_threads()
    code = _run(sys.argv[1:] or ["--help"])
    terminal.release_signals()
    sys.exit(code)


def _run(words: list[str]) -> int:
    """The exit code of a command; what made it fail has been told."""
    try:
        code: int = app(words, standalone_mode=False) or 0
        sys.stdout.flush()
    except ElmanError as error:
        return _fail(str(error), error.exit_code)
    except typer.TyperException as error:
        return _fail(_message(error), 2)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        from elman.core.files import disk

        told = disk.cannot("use", error.filename or "standard output", error)
        return _fail(str(told), told.exit_code)
    except MemoryError:
        return _fail("out of memory: use a smaller batch, fewer steps or fewer hidden units", 1)
    except RuntimeError as error:
        if "start new thread" not in str(error):
            raise
        return _fail("no thread can be started: end others, or allow more (ulimit -u)", 1)
    except KeyboardInterrupt:  # while its output waits for a reader
        code = terminal.INTERRUPTED
    if code == terminal.INTERRUPTED:  # what Typer makes of Ctrl-C
        return _fail("interrupted, nothing kept", code)
    return code


def _spare_threads() -> None:
    """Have libraries start no threads where few can be started: without these they would end us.

    Two copies of OpenBLAS, NumPy's and SciPy's, want one for each core.
    """
    known = Event()
    threads = [Thread(target=known.wait, daemon=True) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        for thread in threads:
            thread.start()
    except RuntimeError:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    finally:
        known.set()


class _Notices(logging.Handler):
    """Log records of the package, a line each on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        print("elman:", printable(record.getMessage()), file=sys.stderr)


def _fail(message: str, code: int) -> int:
    print("elman:", printable(message), file=sys.stderr)
    return code


@app.command()
def train(
    context: typer.Context,
    text: Annotated[
        str,
        typer.Argument(
            help="time-machine, the path of a UTF-8 text file, gzip-compressed or not, or a "
            "store made by elman prepare."
        ),
    ] = "time-machine",
    edition: Annotated[
        str, typer.Option(help="The Time Machine's edition: gutenberg or d2l.")
    ] = "gutenberg",
    tokenizer: Annotated[
        str | None,
        typer.Option(help="A file's tokens: char, byte, word or bpe. [default: char]"),
    ] = None,
    vocab_size: VocabSize = None,
    min_freq: MinFreq = None,
    newlines: Annotated[
        str | None, typer.Option(help=f"{NEWLINES} [default: universal, or a store's]")
    ] = None,
    cell: Annotated[str, typer.Option(help="rnn, rnn-relu, gru or lstm.")] = "rnn",
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
        typer.Option(help="The run directory to make. [default: a new one in runs/]", **_PATH),
    ] = None,
    checkpoint_every: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 60,
    init: Annotated[
        Path | None,
        typer.Option(
            help="Begin with the model of this finished run: its weights, architecture and tokens.",
            **_RUN,
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with the interrupted training of this run directory.", **_RUN),
    ] = None,
) -> None:
    """Train a model on a text; with no further word, D2L's RNN on The Time Machine."""
    settings = dict(locals())
    del settings["context"], settings["resume"], settings["checkpoint_every"]
    from elman.core.experiments import run
    from elman.core.experiments.train import Job, Training
    from elman.core.files import disk

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
        disk.check_new(folder)
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
    with terminal.ending_with_a_batch(checkpoints):
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
            compare(runs, picture, _print_table)
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
    _show(training.sample())
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
    _show(f"run                    {folder}")


@app.command()
def prepare(
    texts: Annotated[
        list[str],
        typer.Argument(
            metavar="TEXT...",
            help="UTF-8 text files, one after the other, gzip-compressed or not; - is "
            "standard input.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The store to make, a folder.", **_PATH)],
    tokenizer: Annotated[str, typer.Option(help="char, byte, word or bpe.")] = "char",
    vocab_size: VocabSize = None,
    min_freq: MinFreq = None,
    newlines: Annotated[str, typer.Option(help=NEWLINES)] = "universal",
) -> None:
    """Read texts of any size once, and keep them as tokens that elman train can begin with."""
    from elman.core.data.prepare import prepare
    from elman.core.training.progress import reading

    with reading() as shown:
        facts = prepare(texts, out, tokenizer, vocab_size, min_freq, newlines, shown)
    print(f"tokens      {facts.tokens:,}")
    print(f"vocabulary  {facts.vocab:,}")
    _show(f"store       {out}")


@app.command()
def generate(
    run: Run,
    prefixes: Annotated[
        list[str],
        typer.Argument(metavar="PREFIX...", parser=_text, help="The texts to go on from."),
    ],
    tokens: Annotated[int, typer.Option(help="How many tokens to add.")] = 200,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Choose among the k likeliest.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Choose among the fewest that reach probability p.")
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Leave out what is below p times the likeliest.")
    ] = None,
    allow_unknown: Annotated[
        bool, typer.Option("--allow-unknown", help="Let <unk> be written too.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the first text's choices.")] = 0,
    framework: Framework = "numba",
) -> None:
    """Write the text that follows each prefix; only the texts go to standard output."""
    from elman.core.errors import require_at_least, require_at_most
    from elman.core.experiments.train import MOST
    from elman.core.model import language_model
    from elman.core.model.sampling import Sampler

    require_at_least(0, tokens=tokens, seed=seed)
    require_at_most(MOST_TOKENS, tokens=tokens)
    require_at_most(MOST["seed"], seed=seed)
    sampler = Sampler(temperature, top_k, top_p, min_p)  # refuses what is wrong before it reads
    model = elman.load(run, framework)
    if not allow_unknown:
        sampler = replace(sampler, excluded=(model.codec.vocab.unk,))
    known = [model.codec.prefix_ids(prefix) for prefix in prefixes]
    written = language_model.generate_all(model, known, tokens, sampler, seed)
    texts = [model.codec.text(chain(ids, more)) for ids, more in zip(known, written, strict=True)]
    _show("\n\n".join(texts))


@app.command()
def evaluate(
    run: Run,
    text: Annotated[
        str,
        typer.Argument(
            help="time-machine, the path of a UTF-8 text file, a store, or - for standard input."
        ),
    ],
    edition: Annotated[
        str, typer.Option(help="The Time Machine's edition: gutenberg or d2l.")
    ] = "gutenberg",
    framework: Framework = "numba",
    as_json: Json = False,
) -> None:
    """Tell how well a model predicts a text, read once from its start."""
    from elman.core.data import corpus, parts
    from elman.core.experiments.train import TIME_MACHINE, check_text
    from elman.core.model import language_model
    from elman.core.text import text_files

    check_text(text)
    corpus.check_edition(edition, of_file=text != TIME_MACHINE)
    model = elman.load(run, framework)
    if text == TIME_MACHINE:
        result = language_model.evaluate(model, corpus.time_machine(edition), model.codec)
    elif Path(text).is_dir():
        result = language_model.evaluate_store(model, Path(text), model.codec)
    elif text == text_files.STDIN:
        blocks = text_files.blocks_of_standard_input()
        result = language_model.evaluate(model, blocks, model.codec)
    else:
        result = language_model.evaluate(model, text_files.blocks([Path(text)]), model.codec)
    parts.warn_of_unknown({"text": (result.unknown, result.tokens + 1)})
    if as_json:
        _print_json(result.fields())
        return
    unknown = parts.described(result.unknown, result.tokens + 1)
    beside, bound = (f"  ({unknown})", LOWER_BOUND) if result.unknown else ("", "")
    print(f"loss                {result.loss:.4f} nats per token{beside}")
    print(f"perplexity          {result.perplexity:.3f}{beside}")
    print(f"bits per character  {result.bits_per_character:.4f}{bound}")
    print(f"bits per byte       {result.bits_per_byte:.4f}{bound}")
    print(f"tokens              {result.tokens}")
    print(f"unknown symbols     {result.unknown}")


def _print_json(value: dict[str, Any]) -> None:
    """Print one JSON object; numbers that are not finite are null."""
    from elman.core.files import json_files

    print(json.dumps(json_files.finite(value), indent=2, allow_nan=False))


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Run directories, made by elman train.", **_RUNS)
    ],
    plot: Annotated[
        Path, typer.Option(help="The picture to draw the curves into.", **_PATH)
    ] = Path("compare.png"),
    as_json: Json = False,
) -> None:
    """Show some runs side by side, and draw their curves into one picture."""
    from elman.core.experiments.compare import compare
    from elman.core.training.figures import load_matplotlib

    load_matplotlib()
    compare(runs, plot, _print_runs if as_json else _print_table)


def _print_table(runs: "Sequence[Result]") -> None:
    from elman.core.experiments.results import table

    print(table(runs))


def _print_runs(runs: "Sequence[Result]") -> None:
    _print_json({"runs": [asdict(run) for run in runs]})


@app.command()
def info(as_json: Json = False) -> None:
    """Show which frameworks, versions and devices are usable here."""
    python = sys.version.split()[0]
    found = {name: _framework(name) for name in FRAMEWORKS}
    if as_json:
        _print_json({"elman": elman.__version__, "python": python, "frameworks": found})
        return
    print(f"elman      {elman.__version__}  (Python {python})")
    for name, facts in found.items():
        told = facts.get("error") or f"{facts['version']}  {', '.join(facts['devices'])}"
        print(f"{name:<10} {told}")


def _framework(name: str) -> dict[str, Any]:
    """The version and the devices of a framework, or the error with which it does not load."""
    try:
        module = framework_module(name)
    except ElmanError as error:
        return {"error": str(error)}
    return {"version": module.version(), "devices": module.devices()}
