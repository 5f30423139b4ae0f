"""Sentence pairs that code generates: numbers in words of two languages, in the form of fra.txt."""

import random
from typing import Any

import pytest

WORDS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze
seize dix-sept dix-huit dix-neuf vingt trente quarante cinquante soixante
"""
NUMERALS = WORDS.split()
ENGLISH, ENGLISH_TENS = NUMERALS[:20], NUMERALS[20:28]
FRENCH, FRENCH_TENS = NUMERALS[28:48], NUMERALS[48:]


def english(number: int) -> str:
    """A number below 1,000 in English words."""
    if number >= 100:
        rest = f" {english(number % 100)}" if number % 100 else ""
        return f"{ENGLISH[number // 100]} hundred{rest}"
    if number < 20:
        return ENGLISH[number]
    ones = f" {ENGLISH[number % 10]}" if number % 10 else ""
    return ENGLISH_TENS[number // 10 - 2] + ones


def french(number: int) -> str:
    """A number below 1,000 in French words."""
    if number >= 100:
        hundreds = "" if number < 200 else f"{FRENCH[number // 100]} "
        rest = f" {french(number % 100)}" if number % 100 else ""
        return f"{hundreds}cent{rest}"
    if number < 20:
        return FRENCH[number]
    if number >= 80:  # four times twenty, and up to nineteen more
        return "quatre-vingts" if number == 80 else f"quatre-vingt {FRENCH[number - 80]}"
    tens = min(number // 10, 6)  # seventy is sixty and ten
    ones = number - 10 * tens
    joined = {0: "", 1: " et un", 11: " et onze"}.get(ones, f" {FRENCH[ones]}")
    return FRENCH_TENS[tens - 2] + joined


def sentences(seed: int = 0) -> list[tuple[str, str]]:
    """The numbers below 1,000 as sentences of both languages, in random order."""
    numbers = random.Random(seed).sample(range(1000), 1000)
    return [(f"{english(n).capitalize()}!", f"{french(n).capitalize()}\u202f!") for n in numbers]


def text(seed: int = 0) -> str:
    """The pairs as a text, a pair a line."""
    return "".join(f"{source}\t{target}\n" for source, target in sentences(seed))


def data_of(
    module: Any, patch: pytest.MonkeyPatch, raw_text: str | None = None, **sizes: Any
) -> Any:
    """The framework's MTFraEng, which reads these pairs instead of the book's."""
    patch.setattr(
        module.MTFraEng, "_download", lambda self: text() if raw_text is None else raw_text
    )
    return module.MTFraEng(**sizes)
