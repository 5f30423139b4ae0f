"""`elman translate`: targets of sources, by a model of pairs."""

import sys
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elman.cli.options import Run, text, with_settings
from elman.cli.output import Table, show
from elman.errors import alternatives
from elman.inference.writing_options import Translating
from elman.valid_values import OF_PAIRS

if TYPE_CHECKING:
    from elman.inference.translation import Row

COLUMNS = {"nats": ">10", "score": ">9", "text": "", "target": ""}


@partial(with_settings, kind=Translating)
def translate(
    run: Run,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT",
            parser=text,
            help="Texts to translate. [default: lines of standard input]",
        ),
    ] = None,
    *,
    scores: Annotated[bool, typer.Option("--scores", help="Print scores and texts, too.")] = False,
    framework: Annotated[
        str | None,
        typer.Option(
            help=f"{alternatives(OF_PAIRS)}. [default: the first that is installed]",
            show_default=False,
        ),
    ] = None,
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
    blocks = sources_of(texts or None)
    _show(translated(load_pairs(run, framework), blocks, asked), scores)


def _show(batches: "Iterable[list[Row]]", scores: bool) -> None:
    """Print batches of targets, each as soon as it is finished."""
    table = Table(COLUMNS) if scores else None
    for rows in batches:
        if table is not None:
            table.show(_with_scores(rows))
        else:
            show("\n".join(_targets(rows)))
        sys.stdout.flush()


def _targets(rows: "Iterable[Row]") -> Iterator[str]:
    for _, found in rows:
        yield from (each.text for each in found) if found else [""]


def _with_scores(rows: "Iterable[Row]") -> Iterator[tuple[str, ...]]:
    for source, found in rows:
        for each in found:
            yield f"{each.log_probability:.4f}", f"{each.score:.4f}", source, each.text
