"""What the tests of data share."""

import pytest


@pytest.fixture(autouse=True)
def _few_byte_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte pairs are learned at once."""
    monkeypatch.setattr("elman.text.bpe.DEFAULT_VOCAB_SIZE", 300)
