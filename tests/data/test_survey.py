"""Tokens are chosen by the size of a text, and lists of names and words are recognized."""

import gzip
import random
from pathlib import Path

import pytest

from elman.data import tokenization
from elman.data.parts import Sources
from elman.data.tokenization import separate_lines, suitable_tokens, training_characters

TEXT = "Grüße, 世界!\nagain\n" * 5000


@pytest.mark.parametrize("packed", [False, True])
def test_characters_of_a_text_are_counted_or_estimated_if_they_are_many(
    tmp_path: Path, packed: bool
) -> None:
    # Numbers in no order: gzip reads up to 128 KB ahead, much of a text that repeats itself.
    long = "".join(f"{number * 2654435761 % 2**32} Grüße, 世界!\n" for number in range(400_000))
    assert len(long) > tokenization.SAMPLE_CHARACTERS
    for text, rel in ((TEXT, 0), (long, 0.1)):
        path = tmp_path / "text.txt"
        path.write_bytes(gzip.compress(text.encode(), 1) if packed else text.encode())
        counted = training_characters(Sources.of(str(path)))
        assert counted == pytest.approx(round(0.8 * len(text)), rel=rel)
        twice = Sources.of([str(path)] * 2, validation=str(path))
        assert training_characters(twice) == pytest.approx(2 * len(text), rel=rel)


@pytest.mark.parametrize(
    ("characters", "pairs"),
    [(100, 0), (399_999, 0), (400_000, 1024), (799_999, 1024), (800_000, 2048), (10**8, 2048)],
)
def test_tokens_are_chosen_by_the_size_of_a_text(
    characters: int, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenization, "training_characters", lambda sources: characters)
    by_character = {"tokenizer": "char"}
    by_pairs = {"tokenizer": "bpe", "vocab_size": pairs}
    sources = Sources.of("text.txt")
    assert suitable_tokens(sources, False) == (by_pairs if pairs else by_character)
    assert suitable_tokens(sources, True) == by_character
    assert suitable_tokens(sources, False, most=characters - 1) == by_character


def words(number: int, most: int = 9) -> list[str]:
    """Random words of 3 to `most` letters."""
    rng = random.Random(0)
    return ["".join(rng.choices("etaoinshrdlu", k=rng.randint(3, most))) for _ in range(number)]


SMILES = ["CC(=O)OC1=CC=CC=C1C(=O)O", "CCO", "C1=CC=CC=C1", "CC(C)CC1=CC=C(C=C1)C(C)C(=O)O"]
SEPARATE = {
    "words": words(200),
    "names": [f"{word.title()} {word[:4].title()}" for word in words(200)],
    "molecules": ["".join(pair) for a in SMILES * 3 for pair in ((a, b) for b in SMILES * 2)],
    "of one length": words(200, 3),
}
VERSE = ["Because I could not stop for Death", "He kindly stopped for me;", ""]
CODE = ["for line in lines:", "    if line:", "        show(line)", "", "x = 1", "def f(x):"]
CONTINUED = {
    "prose": [" ".join(words(12)) + "," for _ in range(200)],
    "paragraphs": [*words(9), ""] * 20,
    "verse": VERSE * 60,
    "short verse": ["so much depends", "upon,", "a red wheel,", "barrow"] * 60,
    "code": CODE * 40,
    "tokens": [*words(9), ","] * 20,
    "a sequence in lines": [*["ACGTTGCA" * 8] * 200, "ACG"],
    "words of any length": [*words(150), *["a" * 200] * 50],
    "few words": words(9),
}


@pytest.mark.parametrize("name", [*SEPARATE, *CONTINUED])
def test_lists_of_names_words_and_molecules_have_separate_lines(tmp_path: Path, name: str) -> None:
    lines = (SEPARATE | CONTINUED)[name]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    found = separate_lines(Sources.of(str(tmp_path / "text.txt")))
    assert found == (lines[:3] if name in SEPARATE else [])
