"""The tokens that suit a text, based on its length as estimated from its start."""

import math
from typing import Any

from elman.core.data.parts import Sources
from elman.core.data.tokenization import size_on_disk
from elman.core.text import text_files
from elman.core.valid_values import BPE, CHAR

SAMPLE_CHARACTERS = 4 << 20
# Byte pairs by minimum number of characters in a text. Shorter texts, and lines, are read by
# character. Measured with benchmarks/tokens.py; docs/trials.md lists the measurements.
PAIRS = {400_000: 1024, 800_000: 2048}


def suitable_tokens(sources: Sources, lines: bool, most: float = math.inf) -> dict[str, Any]:
    """Settings of the tokens that suit a text: byte pairs for a long text, otherwise characters.

    - `lines`: each line is a sequence.
    - `most`: maximum number of characters to read as byte pairs.
    """
    characters = 0 if lines else training_characters(sources)
    sizes = [size for least, size in PAIRS.items() if least <= characters <= most]
    return {"tokenizer": BPE, "vocab_size": sizes[-1]} if sizes else {"tokenizer": CHAR}


def training_characters(sources: Sources) -> int:
    """Characters of the training part of a text, estimated if it is longer than the sample.

    Raises an ElmanError for a file that cannot be read.
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
