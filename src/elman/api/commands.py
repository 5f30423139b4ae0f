"""`elman.evaluate`, `score`, `translate`, `export`, `info` and others: functions of commands."""

import os
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack

from elman.api.options import TrainOptions
from elman.api.run import scores_of
from elman.api.signatures import with_options
from elman.api.training import settings_of
from elman.data.parts import parse_split
from elman.errors import ElmanError, printable
from elman.files.paths import as_path
from elman.inference.evaluation import PairEvaluation
from elman.inference.text_model import Score
from elman.inference.translation import PairModel, Translation
from elman.model.metrics import Evaluation
from elman.runs.frameworks import framework_module
from elman.runs.settings import CHOSEN, Settings
from elman.text import in_memory
from elman.text.in_memory import PairsLike, TextLike
from elman.valid_values import FRAMEWORKS, TIME_MACHINE, VERSION

TITLE_WIDTH, WIDTH = 16, 100  # characters of the first column of facts, and of a line
RunLike = str | os.PathLike[str]


def evaluate(
    run: RunLike,
    text: TextLike | PairsLike,
    edition: str | None = None,
    framework: str | None = None,
    dynamic: bool = False,
) -> Evaluation | PairEvaluation:
    """Loss, perplexity and bits of a run's model on a text: a path or a text in memory.

    Of a run of pairs it measures loss, exact matches, error rates and BLEU on pairs: the path of
    their file, or a list of (source, target).

    - `edition`: edition of The Time Machine, for the text `time-machine`.
    - `framework`: the framework that computes; None is the default of `elman.load`.
    - `dynamic`: the model adapts to what it has read (dynamic evaluation).
    """
    from elman.runs import loading
    from elman.runs.settings import check_text

    in_memory.check(text)
    folder = as_path(run, "a run directory")
    if in_memory.is_named(text):
        check_text(os.fspath(text), edition)  # type: ignore[arg-type]
    return loading.evaluate(folder, text, edition, framework, dynamic)


def translate(
    run: RunLike,
    texts: Iterable[str],
    *,
    beams: int = 1,
    n: int = 1,
    length_penalty: float = 1.0,
    framework: str | None = None,
) -> list[list[Translation]]:
    """The `n` best targets of each text, best first, by the model of a run of pairs.

    - `beams`: beam width; with 1 each token is the likeliest.
    - `length_penalty`: beams are compared by their log-probability over their length to this power.
    - `framework`: the framework that computes; None is the first that is installed.

    `elman.load_pairs` loads the model once for many calls of its method `translate`.
    """
    model = load_pairs(run, framework)
    return model.translate(texts, beams=beams, n=n, length_penalty=length_penalty)


def load_pairs(run: RunLike, framework: str | None = None) -> PairModel:
    """Load the model of a run of pairs into a framework, by default the first that is installed.

    The first of `model.translate(["recurrent"], beams=5)[0]` has the likeliest `text`, and its
    `log_probability`.
    """
    from elman.runs import loading

    return loading.load_pairs(as_path(run, "a run directory"), framework)


def score(
    run: RunLike, text: TextLike, framework: str | None = None, dynamic: bool = False
) -> list[Score]:
    """Score each line of a text as a separate text: its log-probability, its bits, its tokens.

    - `text`: the path of a file, a string with line breaks, or lines.
    - `dynamic`: the model adapts to each line after scoring it.
    """
    from elman.runs.loading import adapting, load_language_model

    in_memory.check(text)
    folder = as_path(run, "a run directory")
    model = load_language_model(folder, framework)
    used = adapting(folder, model) if dynamic else None
    return scores_of(model, text, used)


@dataclass(frozen=True)
class Store:
    """A token store made by `prepare`; `elman.train` accepts it as a text.

    - `tokens`: number of tokens in the text.
    - `vocabulary`: number of tokens in the vocabulary.
    """

    path: Path
    tokens: int
    vocabulary: int

    def __fspath__(self) -> str:
        return str(self.path)


def prepare(
    text: TextLike,
    *more_texts: TextLike,
    out: "str | os.PathLike[str]",
    tokenizer: str | None = None,
    vocab_size: int | None = None,
    min_freq: int | None = None,
    newlines: str = "universal",
    split: str | Sequence[float] | None = None,
    val: TextLike | None = None,
    test: TextLike | None = None,
    lines: bool = False,
    quiet: bool = False,
) -> Store:
    """Tokenize a text of any size into a store. The options are those of `elman prepare`.

    - `text`, `more_texts`: as in `elman.train`; an iterator is read once.
    - `out`: folder of the store to make.
    """
    from elman.data import store
    from elman.files.long_work import no_report
    from elman.training.progress import reading

    path = as_path(out, "a store")
    shows = nullcontext(no_report) if quiet else reading()
    parts = {"val": val, "test": test, "split": split}
    with tempfile.TemporaryDirectory(prefix="elman-") as folder, shows as report:
        given = settings_of(text, more_texts, parts, Path(folder))
        facts = store.prepare(
            [given["text"], *given.get("more_texts", ())],
            *(path, tokenizer, vocab_size, min_freq, newlines, report),
            *(parse_split(given.get("split")), given.get("val"), given.get("test"), lines),
        )
    return Store(path, facts.tokens, facts.vocab)


def export(run: RunLike, to: str, out: "str | os.PathLike[str] | None" = None) -> Path:
    """Write the model of a run in a format that does not need elman, and return the path.

    - `to`: html, a page that runs the model; onnx, a folder of graphs; torch, a program.
    - `out`: the file or folder to write; by default the run's name in the current folder.
    """
    from elman import formats

    return formats.export(as_path(run, "a run directory"), to, out)


@with_options(Settings, TrainOptions, CHOSEN)
def plan(
    text: TextLike = TIME_MACHINE,
    *more_texts: TextLike,
    workers: int = 8,
    tokens: int | None = None,
    **options: Unpack[TrainOptions],
) -> Any:
    """Predict memory and speed of a training with workers, without starting it.

    - `workers`: largest number of workers.
    - `tokens`: tokens of a training part that does not exist yet; `vocab_size` is its vocabulary.
    - `options`: options of the training.

    Returns a plan that prints as a table; `to_dict()` returns its numbers.
    """
    from elman.experiments import planning

    with tempfile.TemporaryDirectory(prefix="elman-") as folder:
        given = settings_of(text, more_texts, options, Path(folder))
        return planning.plan(given, workers, tokens)


class Facts(dict[str, Any]):
    """Facts by name, printed as lines."""

    def __init__(self, facts: dict[str, Any], lines: Iterable[str]) -> None:
        super().__init__(facts)
        self._text = "\n".join(lines)

    def __repr__(self) -> str:
        return self._text


def info(run: RunLike | None = None, speed: bool = False) -> Facts:
    """Facts about a run; without a run, the usable frameworks, their versions and devices.

    - `speed`: measure how fast the engine trains on this machine instead, in two seconds.
    """
    if speed:
        if run is not None:
            raise ElmanError(
                f"a speed must be measured without a run, got {run}: leave one of them out"
            )
        from elman.experiments import speed as speeds

        measured = speeds.measure()
        return Facts(asdict(measured), _columns(speeds.in_lines(measured)))
    if run is None:
        found = {name: describe_framework(name) for name in FRAMEWORKS}
        facts = {"elman": VERSION, "python": sys.version.split()[0], "frameworks": found}
        return Facts(facts, _frameworks(found))
    from elman.runs.table import describe, in_lines

    facts = describe(as_path(run, "a run directory"))
    return Facts(facts, _columns(in_lines(facts)))


def _columns(lines: Iterable[tuple[str, str]]) -> Iterator[str]:
    for title, words in lines:
        yield from textwrap.wrap(
            printable(words),
            WIDTH,
            initial_indent=title.ljust(TITLE_WIDTH),
            subsequent_indent=" " * TITLE_WIDTH,
        )


def _frameworks(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    yield f"elman      {VERSION}  (Python {sys.version.split()[0]})"
    for name, facts in found.items():
        line = facts.get("error") or f"{facts['version']}  {', '.join(facts['devices'])}"
        yield f"{name:<10} {line}"


def describe_framework(name: str) -> dict[str, Any]:
    """Version and devices of a framework, or the error on loading it."""
    try:
        module = framework_module(name)
    except ElmanError as error:
        return {"error": str(error)}
    return {"version": module.version(), "devices": module.devices()}
