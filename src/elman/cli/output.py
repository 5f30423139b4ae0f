"""Text and JSON on standard output."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from elman.errors import escaped


def show(text: str) -> None:
    """Print any text; on a terminal control characters are escaped."""
    print(escaped(text) if sys.stdout.isatty() else text)


def show_as_written(texts: Iterable[Iterable[str]]) -> None:
    """Print texts that come in pieces, with an empty line between two.

    A terminal shows each piece at once, its control characters escaped.
    """
    terminal = sys.stdout.isatty()
    for number, pieces in enumerate(texts):
        for place, piece in enumerate(pieces):
            before = "\n\n" if number and not place else ""
            sys.stdout.write(before + (escaped(piece) if terminal else piece))
            if terminal:
                sys.stdout.flush()
    print()


class Table:
    """Rows on standard output: aligned below a header on a terminal, else separated by tabs.

    - `columns`: the name of each column, and its format on a terminal, such as ">9".
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._formats = tuple(columns.values())
        self._terminal = sys.stdout.isatty()
        if self._terminal:
            self.show([tuple(columns)])

    def show(self, rows: Iterable[Sequence[str]]) -> None:
        """Print some rows; on a terminal control characters are escaped."""
        if lines := [self._line(row) for row in rows]:
            show("\n".join(lines))

    def _line(self, row: Sequence[str]) -> str:
        if not self._terminal:
            return "\t".join(row)
        return "  ".join(map(format, row, self._formats))


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object; numbers that are not finite are null."""
    from elman.files import json_files

    print(json.dumps(json_files.finite(value), indent=2, allow_nan=False))
