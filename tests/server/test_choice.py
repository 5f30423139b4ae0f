"""A text is the same however its tokens come, and its tokens are those of the text."""

import json
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman import numpy as specification
from elman.server import completion_request
from elman.server.choice import Choice, Part
from elman.server.limits import Limits
from tests.server.conftest import model_of

MODELS = {name: model_of(specification, tokenizer=name) for name in ("char", "byte")}
PIECES = st.lists(st.lists(st.integers(1, 15), max_size=6), max_size=6)


def taken(model: Any, pieces: list[list[int]], **options: Any) -> list[Part]:
    """Parts of a text whose tokens come in pieces, up to its end."""
    total = sum(map(len, pieces))
    body = json.dumps({"model": "m", "prompt": "a", "max_tokens": total, "stream": True} | options)
    asked = completion_request.parse(body.encode(), Limits(max_tokens=10**6))
    made = Choice(model, asked, model.codec.prefix_ids("a"), 0)
    parts = [made.begin()]
    for piece in filter(None, pieces):
        if not made.ended:
            parts.append(made.take([index % len(model.codec.vocab) for index in piece]))
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
        [(token.chances.id, token.offset) for part in parts for token in part.tokens]
        for parts in (whole, found)
    ]
    assert offsets[0] == offsets[1]
    assert not any(text in "".join(part.text for part in found)[echo:] for text in stop)


@pytest.mark.parametrize("name", MODELS)
@given(PIECES)
def test_a_text_that_no_stop_ends_has_all_its_tokens(name: str, pieces: list[list[int]]) -> None:
    model = MODELS[name]
    parts = taken(model, pieces, echo=True, logprobs=0)
    tokens = [token for part in parts for token in part.tokens]
    text = "".join(part.text for part in parts)
    ids = [token.chances.id for token in tokens]
    assert model.codec.text(ids) == text
    assert np.all(np.diff([token.offset for token in tokens]) >= 0)
    for n, token in enumerate(tokens):
        before = model.codec.text(ids[:n]).rstrip("\ufffd")
        assert text[: token.offset].startswith(before[: token.offset])
