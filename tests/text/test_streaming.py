"""Text that comes token by token is the text of all tokens, up to a stop text."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from elman.inference.writer import Decoder, StopFinder
from elman.text import bpe
from elman.text.codec import Codec
from elman.text.vocab import Vocab

TEXT = "Zo\xeb said: na\xefve \u2014 \U0001f600!"
CODECS = {
    "char": Codec(Vocab(list(TEXT)), "char", clean=False),
    "byte": Codec(Vocab(list(map(chr, range(256)))), "byte", clean=False),
}


def of_pairs() -> Codec:
    tokenizer = bpe.learn([TEXT * 20], 270)
    return Codec(tokenizer.vocab(()), tokenizer, clean=False)


CODECS["bpe"] = of_pairs()
cuts = st.lists(st.integers(0, 60), max_size=6)


@pytest.mark.parametrize("name", CODECS)
@given(st.lists(st.integers(0, 255), max_size=60), st.booleans(), cuts)
def test_the_pieces_of_a_text_are_the_text(
    name: str, numbers: list[int], whole: bool, places: list[int]
) -> None:
    codec = CODECS[name]
    ids = codec.prefix_ids(TEXT) if whole else [n % len(codec.vocab) for n in numbers]
    decoder, edges = Decoder(codec), [0, *sorted(min(place, len(ids)) for place in places)]
    pieces = [decoder.text(ids[a:b]) for a, b in pairwise(edges)]
    pieces.append(decoder.text(ids[edges[-1] :], final=True))
    assert "".join(pieces) == codec.text(ids)


def up_to_a_stop(text: str, stops: list[str]) -> str:
    """The text before the stop text that is complete first, the longest of two."""
    for end in range(len(text) + 1):
        if found := [stop for stop in stops if text[:end].endswith(stop)]:
            return text[: end - max(map(len, found))]
    return text


@given(
    st.text("ab", max_size=30),
    st.lists(st.text("ab", min_size=1, max_size=5), max_size=3),
    st.lists(st.integers(0, 30), max_size=8),
)
@example("aab", ["ab"], [1, 2])  # a beginning within a beginning
@example("aba", ["aba", "b"], [])
def test_a_text_ends_before_the_first_stop_text_however_it_comes(
    text: str, stops: list[str], places: list[int]
) -> None:
    finder, edges = StopFinder(stops), [0, *sorted(min(place, len(text)) for place in places)]
    wanted, passed = up_to_a_stop(text, stops), ""
    for a, b in pairwise(edges):
        passed += finder.text(text[a:b])
        assert wanted.startswith(passed)
        held = len(text[:b]) - len(passed)
        assert finder.found or held < max(map(len, stops), default=1)
    passed += finder.text(text[edges[-1] :], final=True)
    assert passed == wanted
    assert finder.found == (wanted != text)
