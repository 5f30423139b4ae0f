"""The size of a text before it has tokens, from a sample of its start."""

from elman.core.data.parts import Sources
from elman.core.data.tokenization import size_on_disk
from elman.core.text import text_files

SAMPLE_CHARACTERS = 4 << 20


def training_characters(sources: Sources) -> int:
    """Characters of the training part of a text, estimated if it is longer than the sample.

    An ElmanError is raised for a file that cannot be read.
    """
    sampled = characters = 0

    def advance(read: int) -> None:
        nonlocal sampled
        sampled += read

    for block in text_files.blocks(sources.training, advance):
        if characters >= SAMPLE_CHARACTERS:
            break
        characters += len(block)
    share = sources.shares[0] * size_on_disk(sources.training) / max(1, sampled)
    return round(share * characters)
