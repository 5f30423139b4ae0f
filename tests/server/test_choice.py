"""A text is the same however its tokens come, and its tokens are those of the text."""

import codecs
import json
from itertools import accumulate, chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman import numpy as specification
from elman.model.weights import Architecture, initial
from elman.server import completion_request
from elman.server.access import Limits
from elman.server.choice import Choice, Part, ReadPrompt
from elman.text import bpe
from elman.text.codec import Codec
from elman.text.tokenizers import tokenizer
from tests.server.conftest import model_of

MODELS = {name: model_of(specification, tokenizer=name) for name in ("char", "byte")}
SAMPLE = "Zoë said: it has €2 … 😀\n" * 9


def read_as(name: str, clean: bool = False, lines: bool = False) -> Any:
    """A model that knows the tokens of SAMPLE."""
    used = bpe.learn([SAMPLE], 300) if name == "bpe" else tokenizer(name)
    codec = Codec(used.vocab(used.split(SAMPLE)), used, clean=clean, lines=lines)
    arch = Architecture("rnn", len(codec.vocab), 3)
    model = specification.build(arch, initial(arch))
    model.codec = codec
    return model


BYTES = {name: read_as(name) for name in ("byte", "bpe")}
READERS = BYTES | {
    "char": read_as("char"),
    "word": read_as("word"),
    "cleaned": read_as("char", clean=True),
    "lines": read_as("char", lines=True),
}
PIECES = st.lists(st.lists(st.integers(1, 15), max_size=6), max_size=6)


def characters(raw: bytes) -> list[int]:
    """Index of the character of each byte in the text of some bytes, UTF-8 or not."""
    broken: dict[int, int] = {}

    def note(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeDecodeError)
        broken[error.start] = error.end
        return "\ufffd", error.end

    codecs.register_error("note", note)
    text, found, at = raw.decode("utf-8", "note"), list[int](), 0
    for place, character in enumerate(text):
        size = broken[at] - at if at in broken else len(character.encode())
        found += [place] * size
        at += size
    return found


def check_offsets(model: Any, parts: list[Part], raws: list[bytes]) -> None:
    """Each token is at the character of its first byte."""
    tokens = [token for part in parts for token in part.tokens]
    text = "".join(part.text for part in parts)
    places = characters(b"".join(raws))
    starts = [0, *accumulate(map(len, raws))][:-1]
    assert len(tokens) == len(raws)
    assert text.encode() == b"".join(raws).decode(errors="replace").encode()
    assert [token.offset for token in tokens] == [places[start] for start in starts]


def taken(model: Any, pieces: list[list[int]], **options: Any) -> list[Part]:
    """Parts of a text whose tokens come in pieces, up to its end."""
    total = sum(map(len, pieces))
    body = json.dumps({"model": "m", "prompt": "a", "max_tokens": total, "stream": True} | options)
    asked = completion_request.parse(body.encode(), Limits(max_tokens=10**6))
    (prompt,) = asked.prompts
    made = Choice(model, asked, ReadPrompt(model.codec, prompt, scored=True), 0)
    parts = [made.begin()]
    for piece in filter(None, pieces):
        if not made.ended:
            logits = np.zeros((len(piece), len(model.codec.vocab)))
            ids = [index % len(model.codec.vocab) for index in piece]
            parts.append(made.take(ids, logits))
    return [part for part in parts if part]


@pytest.mark.parametrize("name", MODELS)
@given(PIECES, st.sampled_from([[], ["a"], ["é"], ["b", "ca"]]), st.booleans())
def test_a_text_is_the_same_however_its_tokens_come(
    name: str, pieces: list[list[int]], stop: list[str], echo: bool
) -> None:
    options: dict[str, Any] = {"stop": stop, "echo": echo, "logprobs": 1}
    whole = taken(MODELS[name], [list(chain.from_iterable(pieces))], **options)
    found = taken(MODELS[name], pieces, **options)
    for parts in (whole, found):
        assert [part.finish_reason for part in parts[:-1]] == [None] * (len(parts) - 1)
        assert parts[-1].finish_reason
    assert "".join(part.text for part in found) == "".join(part.text for part in whole)
    offsets = [
        [(token.id, token.offset) for part in parts for token in part.tokens]
        for parts in (whole, found)
    ]
    assert offsets[0] == offsets[1]
    assert not any(text in "".join(part.text for part in found)[echo:] for text in stop)


# Starts of characters, bytes that go on with some of them, and bytes that are in none.
TELLING = st.sampled_from(b"A\x80\x8f\x90\x9f\xa0\xbf\xc2\xe0\xe2\xed\xf0\xf4\xff")
PIECES_OF_BYTES = st.lists(st.lists(TELLING, max_size=4).map(bytes) | st.binary(max_size=4))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", BYTES)
@given(PIECES_OF_BYTES, st.data())
def test_offsets_are_places_in_the_text_however_its_bytes_are_broken(
    name: str, stream: bool, some: list[bytes], data: st.DataObject
) -> None:
    model = BYTES[name]
    ids_of = {model.codec.raw(index): index for index in range(len(model.codec.vocab))}
    sampled = st.lists(st.lists(st.sampled_from([*ids_of.values()]), max_size=4), max_size=4)
    pieces = [[ids_of[bytes([byte])] for byte in piece] for piece in some] + data.draw(sampled)
    parts = taken(model, pieces, logprobs=0, stream=stream)
    check_offsets(model, parts, [model.codec.raw(index) for index in chain.from_iterable(pieces)])


TEXTS = st.text(
    st.one_of(st.sampled_from("Zoë said:€…😀\n\r %\u2028"), st.characters(codec="utf-8")),
    min_size=1,
)


@pytest.mark.parametrize("name", READERS)
@given(TEXTS)
def test_an_echo_is_the_prompt_as_it_was_sent(name: str, prompt: str) -> None:
    """Unknown words too, line ends of any kind, and what the model's texts are cleaned of."""
    model = READERS[name]
    if name == "lines":
        prompt = prompt.replace("\n", "")
    parts = taken(model, [[1, 2]], prompt=prompt, echo=True, logprobs=0)
    assert "".join(part.text for part in parts).startswith(prompt)
    tokens = model.codec.tokenizer.split(prompt)
    raws = [model.codec.tokenizer.raw(token) for token in tokens]
    written = [model.codec.raw(index) for index in (1, 2)]
    check_offsets(model, parts, [*raws, *written])
    if name in BYTES:  # which have the tokens of any text
        ids = model.codec.prefix_ids(prompt)
        assert taken(model, [[1, 2]], prompt=ids, echo=True, logprobs=0) == parts
