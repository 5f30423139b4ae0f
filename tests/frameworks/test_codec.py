"""In every module a model keeps the tokens that it was trained with, and so do its copies."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elman
from elman.errors import ElmanError
from elman.model.weights import Architecture, initial

IMPORTS = {
    **{"numba": "import numpy", "torch": "import torch", "tensorflow": "import tensorflow as tf"},
    **{"jax": "import flax", "mxnet": "from mxnet import npx"},
}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two texts of as many symbols, which are not the same."""
    folder = tmp_path_factory.mktemp("texts")
    lower, upper = folder / "lower.txt", folder / "upper.txt"
    lower.write_text("once upon a time\n" * 60)
    upper.write_text("ONCE UPON A TIME\n" * 60)
    return str(lower), str(upper)


@pytest.fixture(scope="module")
def model(module: Any, texts: tuple[str, str]) -> Any:
    """A model of the first text."""
    data = module.TextFile(texts[0], 64, 8)
    arch = Architecture("rnn", len(data.vocab), 4)
    model = module.build(arch, initial(arch), lr=1)
    module.Trainer(1).fit(model, data)
    return model


def test_a_model_keeps_its_vocabulary_and_refuses_another(
    module: Any, framework: str, model: Any, texts: tuple[str, str], tmp_path: Path
) -> None:
    tokens = module.TextFile(texts[0], 64, 8).vocab.idx_to_token
    assert model.codec.vocab.idx_to_token == tokens
    elman.save(tmp_path / "run", model)
    loaded = elman.load(tmp_path / "run", framework)
    assert loaded.predict("once", 1) == loaded.predict("once", 1, loaded.codec.vocab)
    size = len(tokens)
    wrong = np.array([[0, size]])
    for name, call in {
        r"TextFile\(\.\.\., codec=model.codec\)": lambda: module.Trainer(1).fit(
            loaded, module.TextFile(texts[1], 64, 8)
        ),
        "the vocab must be the one": lambda: model.predict(
            "o", 1, module.Vocab([*tokens[:-1], "~"])
        ),
        f"ids must be from 0 to {size - 1}, got 0 to {size}": lambda: model.step(wrong),
        f"ids must be from 0 to {size - 1}, got -1": lambda: model.step(wrong[:, :1] - 1),
    }.items():
        with pytest.raises(ElmanError, match=name):
            call()
    assert model.step(wrong - 1 + np.array([[1, 0]]))[0].shape == (1, 2, size)


def test_a_copied_and_a_pickled_model_go_on_as_the_model_does(
    module: Any, framework: str, model: Any, texts: tuple[str, str]
) -> None:
    if framework == "tensorflow":
        for failing in (copy.deepcopy, pickle.dumps):
            with pytest.raises(ElmanError):
                failing(model)
        return
    raw = pickle.dumps(model)
    assert len(raw) < 50_000  # without the trainer, and the text
    models = [model, pickle.loads(raw)]
    assert copy.deepcopy(model).codec == model.codec
    for each in models:
        module.Trainer(1).fit(each, module.TextFile(texts[0], 64, 8, codec=model.codec))
    values, again = map(module.export_weights, models)
    np.testing.assert_equal(again, values)


def test_saving_a_custom_model_is_refused_with_a_cure_that_works(
    module: Any, framework: str, model: Any, tmp_path: Path
) -> None:
    if hasattr(module, "RNNLMScratch"):
        own = module.RNNLMScratch(module.RNNScratch(9, 5), 9)
    else:
        own = type("Own", (module.Module,), {"parameters": {"weight": np.ones(3)}})()
    own.codec = model.codec
    with pytest.raises(ElmanError) as told:
        elman.save(tmp_path / "run", own)
    cure = str(told.value).partition("save it with ")[2]
    names = {"model": own, "path": str(tmp_path / "kept")}
    exec(f"{IMPORTS[framework]}\nkept = {cure}", names)
    assert names["kept"] or any(tmp_path.glob("kept*"))
