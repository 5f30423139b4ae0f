"""What a training is made of: a text that is read once, and settings that are chosen once."""

import math
from pathlib import Path
from typing import Any

import pytest

from elman.data import tokenization
from elman.data.store import prepare
from elman.errors import ElmanError
from elman.experiments import choice, recipe
from elman.experiments.choice import choose
from elman.experiments.train import Training
from elman.runs.settings import check_given


def counted(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[str]:
    """Have calls of a function counted; returns a list that has an entry for each."""
    calls: list[str] = []
    called = getattr(module, name)

    def counting(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        return called(*arguments, **options)

    monkeypatch.setattr(module, name, counting)
    return calls


def test_a_text_is_read_once_and_its_settings_are_chosen_once(
    story: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = counted(monkeypatch, choice, "read_text")
    chosen = counted(monkeypatch, recipe, "choose")
    training = Training(choose({"text": str(story), "framework": "numpy", "epochs": 1}))
    assert len(read) == len(chosen) == 1
    settings, data = training.settings, training.data
    assert (data.batch_size, data.num_steps) == (settings.batch_size, settings.seq_len)


def test_reading_byte_pairs_takes_no_longer_than_the_training(
    story: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds: list[float] = []

    def suitable(sources: Any, lines: bool, most: float) -> dict[str, Any]:
        bounds.append(most)
        return {"tokenizer": "char"}

    monkeypatch.setattr(choice, "suitable_tokens", suitable)
    for time in ({}, {"minutes": 10}, {"epochs": 1}):
        choose({"text": str(story), "framework": "numpy", **time})
    assert bounds == [recipe.READ_AS_PAIRS * 180, recipe.READ_AS_PAIRS * 600, math.inf]


def test_a_store_of_byte_pairs_is_trained_on_as_its_text(tmp_path: Path) -> None:
    path, kept = tmp_path / "text.txt", tmp_path / "kept"
    path.write_text("".join(f"{number} bottles stand on the wall.\n" for number in range(18_000)))
    prepare([str(path)], kept)
    given = {"framework": "numpy", "epochs": 1}
    texts = [choose({"text": str(each), **given}) for each in (path, kept)]
    own, store = (vars(each.settings) for each in texts)
    assert own["tokenizer"] == "bpe"
    about_the_text = {"text": str(kept), "tokenizer": None, "vocab_size": None}
    assert store == own | about_the_text
    assert texts[0].reasons == texts[1].reasons


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"momentum": 0.9, "weight_decay": 0.1}, "weight decay requires adamw"),
        ({"tied": True, "embedding": 0}, "tied weights require an embedding"),
        ({"dropout": 0.5, "layers": 1}, "dropout requires two layers or more"),
        ({"input_dropout": 0.5, "embedding": 0}, "input dropout requires an embedding"),
        ({"lines": True, "batching": "contiguous"}, "lines= requires random batching"),
        ({"split": "0.5,0.5", "val": "other.txt"}, "with a validation file, the text must be used"),
    ],
)
def test_wrong_settings_are_refused_before_a_text_is_read(
    given: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = counted(monkeypatch, choice, "read_text")
    with pytest.raises(ElmanError, match=message):
        choose({"text": "none.txt", "framework": "numpy", **given})
    assert not read


def test_settings_that_are_still_to_be_chosen_are_not_checked() -> None:
    for given in ({"tied": True}, {"tied": True, "embedding": 8}, {"dropout": 0.5}):
        check_given({"text": "my.txt", **given})
    check_given({"text": "my.txt", "momentum": 0.9, "input_dropout": 0.5})


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, ("bpe", 300)),
        ({"lines": True}, ("char", None)),
        ({"tokenizer": "byte"}, ("byte", None)),
        ({"min_freq": 2}, (None, None)),
        ({"vocab_size": 9}, (None, 9)),
        ({"recipe": "book"}, (None, None)),
        ({"text": "store"}, (None, None)),
    ],
)
def test_a_long_text_has_byte_pairs_unless_its_tokens_are_given(
    given: dict[str, Any],
    wanted: tuple[str | None, int | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokenization, "PAIRS", {100: 300})
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("".join(f"line {number}\n" for number in range(300)))
    prepare(["text.txt"], Path("store"), "word")
    found = choose({"text": "text.txt", "framework": "numpy", "epochs": 1} | given)
    assert (found.settings.tokenizer, found.settings.vocab_size) == wanted
    assert not {"tokenizer", "vocab_size"} & {*(found.given or [])} - given.keys()
    assert found.text is not None
    assert found.text.codec.tokenizer.name == ("word" if "text" in given else wanted[0] or "char")
