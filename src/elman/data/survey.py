"""Tokens that suit a text, and whether its lines are separate, based on its start."""

import math
from typing import Any

import numpy as np

from elman.data.parts import Sources
from elman.data.tokenization import size_on_disk
from elman.text import text_files
from elman.valid_values import BPE, CHAR

SAMPLE_CHARACTERS = 4 << 20
# Byte pairs by minimum number of characters in a text. Shorter texts, and lines, are read by
# character. Measured with benchmarks/tokens.py; docs/trials.md lists the measurements.
PAIRS = {400_000: 1024, 800_000: 2048}
# Lines seem to be separate if they are many, of a few words, and of similar length, as in lists of
# names, words and molecules. Prose, verse and code have longer lines, empty or indented ones, or
# lines that end a clause. A sequence broken into lines has most of them of one length, a long one.
MIN_LINES, SAMPLE_LINES = 50, 20_000
MAX_WORDS, MAX_MEAN, MAX_SPREAD = 3, 100, 0.75  # spread: standard deviation by the mean length
MAX_EXCEPTIONS = 0.05  # share of the lines
CLAUSE_ENDS = tuple(",.;:!?{}\u2026\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f")
MIN_BROKEN, EXAMPLES = 30, 3


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


def separate_lines(sources: Sources) -> list[str]:
    """The first lines of a text if its lines seem to be separate, otherwise an empty list."""
    lines = next(text_files.blocks(sources.training), "").splitlines()[:SAMPLE_LINES]
    if len(lines) < MIN_LINES:
        return []
    lengths = np.array(list(map(len, lines)))
    exceptions = sum(map(_continues, lines)) / len(lines)
    is_short = lengths.mean() <= MAX_MEAN and lengths.std() <= MAX_SPREAD * lengths.mean()
    usual, longest = np.quantile(lengths, (0.5, 0.9))
    is_broken = usual == longest >= MIN_BROKEN
    separate = exceptions <= MAX_EXCEPTIONS and is_short and not is_broken
    return lines[:EXAMPLES] if separate else []


def _continues(line: str) -> bool:
    """True for a line as in prose, verse or code."""
    is_odd = not line or line[0].isspace() or line.rstrip().endswith(CLAUSE_ENDS)
    return is_odd or len(line.split()) > MAX_WORDS
