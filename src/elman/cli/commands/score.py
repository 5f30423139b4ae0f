"""`elman score`: log-probability of each line of a text."""

from collections.abc import Iterable
from typing import Annotated

import typer

from elman.cli.options import Dynamic, Framework, Run
from elman.cli.output import Table
from elman.errors import ElmanError, require_at_least, require_at_most, require_one_of

LINE, TOKEN = "line", "token"
MAX_TOP = 1_000_000
LINE_COLUMNS = {"nats": ">12", "bits/char": ">9", "characters": ">10"}
TEXT_COLUMN = {"text": ""}
TOP_COLUMNS = LINE_COLUMNS | {"line": ">8"} | TEXT_COLUMN
TOKEN_COLUMNS = {"line": ">8", "token": "<12", "bits": ">9"}


def score(
    run: Run,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="UTF-8 text file, or - for standard input.")
    ],
    by: Annotated[str, typer.Option(help="Print a row for each line or for each token.")] = LINE,
    top: Annotated[
        int | None,
        typer.Option(help="Print only the N most surprising lines, each once."),
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="Add the text of each line.")] = False,
    framework: Framework = None,
    dynamic: Dynamic = False,
) -> None:
    """Score each line of a text.

    Prints log-probability in nats, bits per character and number of predicted characters of each
    line, including its line end, in the order of the text. --top adds the number and the text of
    the line. By token: the number of the line, the token and its surprise in bits. A terminal shows
    the names of the columns, a pipe receives values separated by tabs.
    """
    from elman.files.long_work import showing
    from elman.inference import scoring
    from elman.runs.adapting import adapting
    from elman.runs.loading import load_language_model

    _check(by, top, text)
    blocks = scoring.blocks_of(file)
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


def _check(by: str, top: int | None, text: bool) -> None:
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
