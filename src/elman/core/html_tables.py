"""Tables of facts as HTML, for notebooks."""

import html
from collections.abc import Iterable, Mapping, Sequence

CELL = "vertical-align:top;white-space:normal;text-align"


def of_facts(facts: Iterable[tuple[str, str]]) -> str:
    """A table of two columns: what each fact is called, and what it says."""
    rows = "".join(f"<tr>{_cell('th', name)}{_cell('td', text)}</tr>" for name, text in facts)
    return f"<table>{rows}</table>"


def of_columns(columns: Mapping[str, Sequence[str]], words: int) -> str:
    """A table of columns by heading; the first `words` are aligned to the left, the others right.

    Rows have the same order in all columns.
    """
    sides = ["left" if number < words else "right" for number in range(len(columns))]
    head = "".join(_cell("th", name, side) for name, side in zip(columns, sides, strict=True))
    rows = "".join(
        f"<tr>{''.join(_cell('td', text, side) for text, side in zip(row, sides, strict=True))}"
        "</tr>"
        for row in zip(*columns.values(), strict=True)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def paragraph(text: str) -> str:
    """A line of small text."""
    return f"<p style='font-size:90%;margin:.3em 0'>{html.escape(text)}</p>"


def _cell(tag: str, text: str, side: str = "left") -> str:
    return f"<{tag} style='{CELL}:{side}'>{html.escape(text)}</{tag}>"
