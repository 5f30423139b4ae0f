"""Tokens are chosen by the size of a text."""

import gzip
from pathlib import Path

import pytest

from elman.core.data import survey
from elman.core.data.parts import Sources
from elman.core.data.survey import suitable_tokens, training_characters
from elman.core.errors import ElmanError

TEXT = "Grüße, 世界!\nagain\n" * 5000


@pytest.mark.parametrize("name", ["text.txt", "text.txt.gz"])
def test_a_text_within_the_sample_is_counted(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(TEXT.encode()) if name.endswith("gz") else TEXT.encode())
    assert training_characters(Sources.of(str(path))) == round(0.8 * len(TEXT))
    twice = Sources.of([str(path)] * 2, validation=str(path))
    assert training_characters(twice) == 2 * len(TEXT)


@pytest.mark.parametrize("name", ["text.txt", "text.txt.gz"])
def test_a_longer_text_is_estimated(tmp_path: Path, name: str) -> None:
    # Numbers in no order: gzip reads up to 128 KB ahead, much of a text that repeats itself.
    raw = "".join(f"{number * 2654435761 % 2**32} Grüße, 世界!\n" for number in range(400_000))
    assert len(raw) > survey.SAMPLE_CHARACTERS
    path = tmp_path / name
    path.write_bytes(gzip.compress(raw.encode(), 1) if name.endswith("gz") else raw.encode())
    assert training_characters(Sources.of(str(path))) == pytest.approx(0.8 * len(raw), rel=0.1)


def test_a_text_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ElmanError, match="there is no file"):
        training_characters(Sources.of(str(tmp_path / "none.txt")))


@pytest.mark.parametrize(
    ("characters", "pairs"), [(100, 0), (10**5, 0), (500_000, 1024), (10**7, 2048), (10**8, 2048)]
)
def test_tokens_are_chosen_by_the_size_of_a_text(
    characters: int, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "training_characters", lambda sources: characters)
    by_character = {"tokenizer": "char"}
    by_pairs = {"tokenizer": "bpe", "vocab_size": pairs}
    sources = Sources.of("text.txt")
    assert suitable_tokens(sources, False) == (by_pairs if pairs else by_character)
    assert suitable_tokens(sources, True) == by_character
    assert suitable_tokens(sources, False, most=characters - 1) == by_character
