"""Text and JSON on standard output."""

import json
import sys
from typing import Any

from elman.core.errors import escaped

LOWER_BOUND = "  (a lower bound: the spelling of unknown tokens is not counted)"


def show(text: str) -> None:
    """Print any text; on a terminal control characters are escaped."""
    print(escaped(text) if sys.stdout.isatty() else text)


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object; numbers that are not finite are null."""
    from elman.core.files import json_files

    print(json.dumps(json_files.finite(value), indent=2, allow_nan=False))
