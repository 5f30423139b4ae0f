"""A text that has been read serves for any batches."""

from pathlib import Path

import numpy as np
import pytest

from elman.data.parts import Sources
from elman.data.text import BatchSettings, read_text
from elman.data.tokenization import TokenSettings
from elman.numpy import TextFile


@pytest.mark.parametrize("batching", ["random", "contiguous", "shuffled"])
def test_batches_of_a_text_that_was_read_are_those_of_a_text_file(
    story: Path, batching: str
) -> None:
    text = read_text(Sources.of(str(story)), TokenSettings("word"))
    made = TextFile.of(text, BatchSettings(8, 16, batching, seed=3))
    data = TextFile(str(story), 8, 16, "word", seed=3, batching=batching)
    assert made.codec == data.codec
    assert (made.trained(), made.validated(2)) == (data.trained(), data.validated(2))
    for train in (True, False):
        for one, two in zip(made.get_dataloader(train), data.get_dataloader(train), strict=True):
            assert all(map(np.array_equal, one, two))
