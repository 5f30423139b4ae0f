"""Lines of any number, translated in batches as they come."""

from collections.abc import Iterable, Iterator, Sequence

from elman.errors import ElmanError
from elman.inference.pair_model import (
    AT_ONCE,
    PairModel,
    SourceWarnings,
    Translation,
    check_line,
)
from elman.inference.writing_options import Translating
from elman.text.text_files import arriving_lines

MAX_CHARACTERS = 1 << 16  # of a text
Row = tuple[str, list[Translation]]  # a source and its targets


def blocks_of(texts: Sequence[str] | None) -> Iterator[Sequence[str]]:
    """Texts that were given, checked, or the lines of standard input as they arrive."""
    if texts is None:
        return arriving_lines(MAX_CHARACTERS)
    for text in texts:
        check_line(text)
        if len(text) > MAX_CHARACTERS:
            raise ElmanError(
                f"a text to translate must have {MAX_CHARACTERS:,} characters or fewer, got "
                f"{len(text):,}"
            )
    return iter([texts])


class TranslatedLines:
    """Lines with their targets, in batches. A blank line has none.

    Warnings name sources that the model does not read as they are.

    - `blocks`: lines, some at a time; what comes together is translated together.
    """

    def __init__(
        self, model: PairModel, blocks: Iterable[Sequence[str]], asked: Translating
    ) -> None:
        self.model = model
        self.blocks = blocks
        self.asked = asked
        self._warnings = SourceWarnings(model)

    def __iter__(self) -> Iterator[list[Row]]:
        for block in self.blocks:
            for start in range(0, len(block), AT_ONCE):
                yield self._rows(block[start : start + AT_ONCE])

    def _rows(self, lines: Sequence[str]) -> list[Row]:
        sources = [line for line in lines if line.strip()]
        for source in sources:
            check_line(source)
        self._warnings.warn(sources)
        found = self.model.translations(sources, self.asked)
        return [(line, next(found) if line.strip() else []) for line in lines]
