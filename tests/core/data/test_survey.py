"""A survey tells a text's size and alphabet before it has tokens."""

import gzip
from pathlib import Path

import pytest

from elman.core.data import survey as module
from elman.core.data.parts import Sources
from elman.core.data.survey import Survey, survey
from elman.core.errors import ElmanError

TEXT = "Grüße, 世界!\nagain\n" * 5000


@pytest.mark.parametrize("name", ["text.txt", "text.txt.gz"])
def test_a_text_within_the_sample_is_counted(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(TEXT.encode()) if name.endswith("gz") else TEXT.encode())
    found = survey(Sources.of(str(path)))
    assert found == Survey(round(0.8 * len(TEXT)), len(set(TEXT)), len(TEXT) / 10_000)
    whole = survey(Sources.of([str(path)] * 2, validation=str(path)))
    assert whole.characters == 2 * len(TEXT)


@pytest.mark.parametrize("name", ["text.txt", "text.txt.gz"])
def test_a_longer_text_is_estimated(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAMPLE_CHARACTERS", 1 << 20)
    raw = "".join(f"{number} Grüße, 世界!\n" for number in range(400_000))
    path = tmp_path / name
    path.write_bytes(gzip.compress(raw.encode(), 1) if name.endswith("gz") else raw.encode())
    found = survey(Sources.of(str(path)))
    assert found.characters == pytest.approx(0.8 * len(raw), rel=0.1)
    assert found.line == pytest.approx(len(raw) / 400_000, rel=0.1)


def test_a_text_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ElmanError, match="there is no file"):
        survey(Sources.of(str(tmp_path / "none.txt")))
