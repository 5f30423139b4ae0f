"""Search spaces are read as written, and refuse what no training could have."""

from typing import Any

import pytest

from elman.errors import ElmanError
from elman.sweeps.space import Range, applicable, check_effects, parse


def test_a_space_has_ranges_and_choices() -> None:
    text = "hidden=64..512:log, dropout=0..0.5, cell=gru|lstm, lr = 1e-3..1e-2:log, tied=true|false"
    assert parse(text) == {
        "hidden": Range(64, 512, log=True),
        "dropout": Range(0.0, 0.5),
        "cell": ("gru", "lstm"),
        "lr": Range(0.001, 0.01, log=True),
        "tied": (True, False),
    }
    assert isinstance(parse("hidden=64..512")["hidden"].low, int)  # type: ignore[union-attr]
    assert parse("batch-size=8|16") == {"batch_size": (8, 16)}
    assert parse("layers=2") == {"layers": (2,)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a space must contain a setting, as in"),
        ("hidden=", r"settings and values, as in .*, got 'hidden='"),
        ("hidden=8..16, hidden=8..32", "a space must name each setting once, got hidden twice"),
        ("siez=8..16", r"a space may contain tokenizer, .*, hidden, .*, got 'siez'"),
        ("hiden=8..16", "got 'hiden': did you mean hidden"),
        ("text=a|b", r"a space may contain .*, got 'text'"),
        ("framework=numba|torch", r"got 'framework'"),
        ("hidden=64-256", "got '64-256': write a range as hidden=64..256"),
        ("hidden=64:256:log", "got '64:256:log': write a range as hidden=64..256:log"),
        ("lr=1e-4-1e-2", "got '1e-4-1e-2': write a range as lr=1e-4..1e-2"),
        ("dropout=0 to 0.5", "got '0 to 0.5': write a range as dropout=0..0.5"),
        ("hidden=0.5..8", "hidden must be a whole number, got '0.5'"),
        ("lr=small|large", "lr must be a number, got 'small'"),
        ("tied=yes|no", "tied must be true or false, got 'yes'"),
        ("cell=gru..lstm", r"cell must have choices, such as a\|b, not a range, got 'gru..lstm'"),
        ("hidden=0..8", "hidden must be 1 or more, got 0"),
        ("hidden=8..8", "from a lower number to a higher, got '8..8'"),
        ("dropout=0..0.5:log", "from a lower number above 0 to a higher, got '0..0.5:log'"),
        ({"hidden": [4, 8]}, "a space must be a str"),
        ("optimizer=sgd|adam, recurrent_lr=0.1..0.2", "with optimizer sgd or adam: leave it"),
        ("dropout=0..0.5", "dropout has no effect with layers 1"),
        ("embedding=0, input_dropout=0..0.5", "input_dropout has no effect with embedding 0"),
        ("min_freq=1|2", "or change tokenizer"),
    ],
)
def test_what_no_training_could_have_is_told(text: Any, message: str) -> None:
    with pytest.raises(ElmanError, match=message):
        check_effects(parse(text), {"layers": 1, "tokenizer": "bpe"})


def test_settings_that_act_on_nothing_are_left_out() -> None:
    found = {"layers": 1, "dropout": 0.3, "embedding": 0, "input_dropout": 0.1, "momentum": 0.9}
    assert applicable(found | {"optimizer": "adam"}) == {
        "layers": 1,
        "embedding": 0,
        "optimizer": "adam",
    }
    of_adamw = {"weight_decay": 0.1, "recurrent_lr": 0.1}
    assert applicable({"layers": 2, "dropout": 0.3, "optimizer": "sgd"} | of_adamw) == {
        "layers": 2,
        "dropout": 0.3,
        "optimizer": "sgd",
    }
    sizes = {"vocab_size": 512, "min_freq": 2}
    for tokenizer, acting in (("bpe", {"vocab_size": 512}), ("byte", {}), ("word", sizes)):
        assert applicable({"tokenizer": tokenizer} | sizes) == {"tokenizer": tokenizer} | acting


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("optimizer=sgd|adamw, recurrent_lr=0.1..0.2", {}),
        ("layers=1..2, dropout=0..0.5", {}),
        ("dropout=0..0.5, vocab_size=257..512", {}),
        ("min_freq=1|2", {"tokenizer": "word", "layers": 1}),
    ],
)
def test_a_setting_with_an_effect_in_some_trials_is_searched(
    text: str, given: dict[str, Any]
) -> None:
    check_effects(parse(text), given)
