"""Tables of facts as HTML, for notebooks."""

import html
from collections.abc import Iterable, Mapping, Sequence


def of_facts(facts: Iterable[tuple[str, str]]) -> str:
    """A table of two columns: the name of each fact, and its value."""
    rows = "".join(
        f"<tr>{_cell('th', name, wrap='nowrap')}{_cell('td', text)}</tr>" for name, text in facts
    )
    return f"<table>{rows}</table>"


def of_columns(columns: Mapping[str, Sequence[str]], words: int) -> str:
    """A table of columns by heading; the first `words` are left-aligned, others right-aligned.

    Rows have the same order in all columns.
    """
    sides = ["left" if number < words else "right" for number in range(len(columns))]

    def row(tag: str, texts: Iterable[str]) -> str:
        found = zip(texts, sides, strict=True)
        return f"<tr>{''.join(_cell(tag, text, side, 'nowrap') for text, side in found)}</tr>"

    rows = "".join(row("td", texts) for texts in zip(*columns.values(), strict=True))
    return f"<table><thead>{row('th', columns)}</thead><tbody>{rows}</tbody></table>"


def paragraph(text: str) -> str:
    """A line of small text."""
    return f"<p style='font-size:90%;margin:.3em 0'>{html.escape(text)}</p>"


def _cell(tag: str, text: str, side: str = "left", wrap: str = "normal") -> str:
    style = f"vertical-align:top;text-align:{side};white-space:{wrap}"
    return f"<{tag} style='{style}'>{html.escape(text)}</{tag}>"
