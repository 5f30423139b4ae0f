"""Text and JSON on standard output."""

import json
import sys
from collections.abc import Iterable
from typing import Any

from elman.core.errors import escaped


def show(text: str) -> None:
    """Print any text; on a terminal control characters are escaped."""
    print(escaped(text) if sys.stdout.isatty() else text)


def show_as_written(texts: Iterable[Iterable[str]]) -> None:
    """Print texts, an empty line between two, of which each comes in pieces.

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


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object; numbers that are not finite are null."""
    from elman.core.files import json_files

    print(json.dumps(json_files.finite(value), indent=2, allow_nan=False))
