"""In every module a model keeps the tokens that it was trained with."""

from pathlib import Path
from typing import Any

import pytest

import elman
from elman.core.errors import ElmanError
from elman.core.weights import Architecture, initial


@pytest.fixture
def texts(tmp_path: Path) -> tuple[str, str]:
    """Two texts of as many symbols, which are not the same."""
    lower, upper = tmp_path / "lower.txt", tmp_path / "upper.txt"
    lower.write_text("once upon a time\n" * 60)
    upper.write_text("ONCE UPON A TIME\n" * 60)
    return str(lower), str(upper)


def trained(module: Any, text: str) -> Any:
    data = module.TextFile(text, 64, 8)
    of = Architecture("rnn", len(data.vocab), 4)
    model = module.build(of, initial(of), lr=1)
    module.Trainer(1).fit(model, data)
    return model


def test_a_model_is_trained_on_no_text_that_numbers_tokens_otherwise(
    module: Any, framework: str, texts: tuple[str, str], tmp_path: Path
) -> None:
    model = trained(module, texts[0])
    tokens = module.TextFile(texts[0], 64, 8).vocab.idx_to_token
    assert model.codec.vocab.idx_to_token == tokens
    elman.save(tmp_path / "run", model)
    loaded = elman.load(tmp_path / "run", framework)
    for known in (model, loaded):
        with pytest.raises(ElmanError, match=r"TextFile\(\.\.\., codec=model.codec\)"):
            module.Trainer(1).fit(known, module.TextFile(texts[1], 64, 8))
    assert loaded.predict("once", 1) == loaded.predict("once", 1, loaded.codec.vocab)
    with pytest.raises(ElmanError, match="the vocab is not the one that the model was trained"):
        loaded.predict("once", 1, module.Vocab([*tokens[:-1], "~"]))
