"""The commands that use a trained model: they call and print."""

import logging
import sys
from collections.abc import Iterable
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elman.cli.output import Table, print_json, show, show_as_written
from elman.errors import (
    ElmanError,
    alternatives,
    require_at_least,
    require_at_most,
    require_one_of,
)
from elman.formats import FORMATS
from elman.inference.writing_options import Translating, Writing
from elman.runs.settings import check_text
from elman.server.access import ServerOptions

if TYPE_CHECKING:
    from elman.inference.translation import Row

log = logging.getLogger("elman")

LINE, TOKEN = "line", "token"
MAX_TOP = 1_000_000
LINE_COLUMNS = {"nats": ">12", "bits/char": ">9", "characters": ">10"}
TEXT_COLUMN = {"text": ""}
TOP_COLUMNS = LINE_COLUMNS | {"line": ">8"} | TEXT_COLUMN
TOKEN_COLUMNS = {"line": ">8", "token": "<12", "bits": ">9"}
TARGET_COLUMNS = {"nats": ">10", "score": ">9", "text": "", "target": ""}


def generate(
    run: Path,
    prefixes: list[str] | None = None,
    *,
    lines: int | None = None,
    unique: bool = False,
    new: bool = False,
    known: list[str] | None = None,
    framework: str | None = None,
    **options: Any,
) -> None:
    """Continue texts, or write lines.

    Only the texts go to standard output. A terminal shows them as they are written.
    """
    from elman.inference.writing import starts, write
    from elman.runs.loading import load_language_model
    from elman.runs.new_lines import LineOptions, write_wanted_lines

    asked = Writing(**options)  # checked before a run is read
    wanted = LineOptions(lines, unique, new, tuple(known or ()))
    model = load_language_model(run, framework)
    begun = starts(prefixes or (), model.codec.lines or wanted.any)
    if not wanted.any:
        show_as_written(write(model, begun, asked))
        return
    for line in write_wanted_lines(model, run, begun, asked, wanted):
        show(line)


def next_tokens(run: Path, prefix: str, *, top: int = 10, framework: str | None = None) -> None:
    """List the likeliest next tokens.

    A row contains the token, its probability in percent and its log-probability in nats. Control
    characters are escaped. A terminal shows a table, a pipe receives values separated by tabs.
    """
    from elman.runs.loading import load_language_model

    require_at_least(1, top=top)
    model = load_language_model(run, framework)
    found = model.next(prefix, top)
    tokens = [model.codec.spelling(each.id) for each in found]
    width = max(len("token"), *map(len, tokens))
    table = Table({"token": f"<{width}", "probability": ">11", "nats": ">9"})
    table.show(
        (token, f"{exp(each.log_probability):.2%}", f"{each.log_probability:.4f}")
        for token, each in zip(tokens, found, strict=True)
    )


def translate(
    run: Path,
    texts: list[str] | None = None,
    *,
    scores: bool = False,
    framework: str | None = None,
    **options: Any,
) -> None:
    """Write the targets of texts by a model of pairs.

    Prints the best target of each text on a line, or the N best. A blank line of standard input
    stays blank. --scores prints the log-probability of the target in nats, its score, the text and
    the target. The score is the log-probability over the length to the power of the length penalty.
    A terminal shows a table, a pipe receives values separated by tabs.
    """
    from elman.inference.translation import sources_of, translated
    from elman.runs.loading import load_pairs

    asked = Translating(**options)  # checked before a run is read
    blocks = sources_of(texts)
    batches = translated(load_pairs(run, framework), blocks, asked)
    table = Table(TARGET_COLUMNS) if scores else None
    for rows in batches:  # each as soon as it is finished
        if table is not None:
            table.show(_with_scores(rows))
        else:
            show("\n".join(_targets(rows)))
        sys.stdout.flush()


def _targets(rows: "Iterable[Row]") -> list[str]:
    return [text for _, found in rows for text in [each.text for each in found] or [""]]


def _with_scores(rows: "Iterable[Row]") -> list[tuple[str, ...]]:
    return [
        (f"{each.log_probability:.4f}", f"{each.score:.4f}", source, each.text)
        for source, found in rows
        for each in found
    ]


def evaluate(
    run: Path,
    text: str,
    *,
    framework: str | None = None,
    dynamic: bool = False,
    as_json: bool = False,
    edition: str | None = None,
) -> None:
    """Measure a model on a text or on pairs.

    Prints loss, perplexity, bits per character and bits per byte. Of a model of pairs it prints
    loss, exact matches, error rates and BLEU.
    """
    from elman.runs.loading import evaluate

    check_text(text, edition)
    result = evaluate(run, text, edition, framework, dynamic)
    if as_json:
        print_json(result.fields())
        return
    for name, value in result.in_lines().items():
        print(f"{name:<20}{value}")


def score(
    run: Path,
    file: str,
    *,
    by: str = LINE,
    top: int | None = None,
    text: bool = False,
    framework: str | None = None,
    dynamic: bool = False,
) -> None:
    """Score each line of a text.

    Prints log-probability in nats, bits per character and number of predicted characters of each
    line, including its line end, in the order of the text. --top adds the number and the text of
    the line. By token: the number of the line, the token and its surprise in bits. A terminal shows
    the names of the columns, a pipe receives values separated by tabs.
    """
    from elman.files.long_work import showing
    from elman.inference import scoring
    from elman.runs.loading import adapting, load_language_model
    from elman.text import text_files

    _check_rows(by, top, text)
    blocks = text_files.blocks_named(file)
    model = load_language_model(run, framework)
    scored = scoring.ScoredText(model, blocks, adapting(run, model) if dynamic else None)
    if top is not None:
        with showing("scoring"):  # other rows show themselves
            found = scoring.most_surprising(scored, top)
        _show(TOP_COLUMNS, [found])
    elif by == TOKEN:
        _show(TOKEN_COLUMNS, scoring.rows_of_tokens(scored, model.codec))
    else:
        columns = LINE_COLUMNS | TEXT_COLUMN if text else LINE_COLUMNS
        _show(columns, map(scoring.rows_with_text if text else scoring.rows, scored))
        scored.tell_of_empty()
    scored.warn_of_unknown()


def _check_rows(by: str, top: int | None, text: bool) -> None:
    """Raise an ElmanError for options that do not go together."""
    require_one_of((LINE, TOKEN), by=by)
    if top is not None:
        require_at_least(1, top=top)
        require_at_most(MAX_TOP, top=top)
        if by == TOKEN:
            raise ElmanError(f"the top is of lines, got {top} with by token: leave one of them out")
    if text and by == TOKEN:
        raise ElmanError("the text is of lines, got text with by token: leave one of them out")


def _show(columns: dict[str, str], parts: Iterable[list[tuple[str, ...]]]) -> None:
    table = Table(columns)
    for rows in parts:
        table.show(rows)


def export(run: Path, *, to: str | None = None, out: Path | None = None) -> None:
    """Write a model as a page, ONNX or PyTorch.

    html is a page that runs the model in any browser, from a disk or a web server. onnx is a folder
    of graphs for onnxruntime and speech recognizers. torch is a folder with a program in PyTorch.
    None of them needs elman.
    """
    from elman.formats import export

    if to is None:
        raise ElmanError(f"the format is missing: give --to {alternatives(tuple(FORMATS))}")
    path = export(run, to, out)
    files = path.iterdir() if path.is_dir() else [path]
    show(f"{path}  {sum(file.stat().st_size for file in files) / 1e6:.1f} MB")


def serve(runs: list[Path], **options: Any) -> None:
    """Serve models to clients of OpenAI's completions API.

    A model has the name of its run directory. Its page is at /.
    """
    from elman.api.serving import serving_module

    asked = ServerOptions(**options)
    serving = serving_module()
    models = serving.load_models(runs)

    def listening(address: str) -> None:
        log.info("serving %s at %s", ", ".join(models), address)

    serving.serve(models, asked, listening)
