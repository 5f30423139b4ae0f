"""Facts of a text before it has tokens, from a sample of its start."""

from dataclasses import dataclass

from elman.core.data.parts import Sources
from elman.core.data.tokenization import size_on_disk
from elman.core.text import text_files

SAMPLE_CHARACTERS = 4 << 20


@dataclass(frozen=True)
class Survey:
    """Size and alphabet of a training part.

    - `characters`: its characters, estimated for a text that is longer than the sample.
    - `distinct`: distinct characters of the sample.
    - `line`: mean characters of a line of the sample, with its end.
    """

    characters: int
    distinct: int
    line: float


def survey(sources: Sources) -> Survey:
    """Survey the training part of a text; an ElmanError for a file that cannot be read."""
    sampled = characters = lines = 0
    distinct: set[str] = set()

    def advance(read: int) -> None:
        nonlocal sampled
        sampled += read

    for block in text_files.blocks(sources.training, advance):
        if characters >= SAMPLE_CHARACTERS:
            break
        characters += len(block)
        lines += block.count("\n")
        distinct.update(block)
    share = sources.shares[0] * size_on_disk(sources.training) / max(1, sampled)
    return Survey(round(share * characters), len(distinct), characters / max(1, lines))
