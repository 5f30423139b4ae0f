"""Settings that are not given are chosen for a text: always valid ones, and sensible ones."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.data.orders import Contiguous
from elman.errors import ElmanError
from elman.experiments.recipe import (
    MAX_BATCH,
    STEPS,
    UPDATES,
    Facts,
    Source,
    check_time,
    choose,
)
from elman.model.weights import OPERATIONS, Architecture, products
from elman.runs.settings import CHOSEN, Settings

OWN = {"text": "my-text.txt"}
NOVEL = Facts(
    tokens=500_000,
    characters=500_000,
    vocab=90,
    shortest=60_000,
    line=0.0,
    speed=1e11,
    precision="bf16",
)

texts = st.builds(
    lambda tokens, size, vocab, share, line, speed: Facts(
        tokens, int(size * tokens), vocab, max(2, int(share * tokens)), line, speed
    ),
    st.integers(16, 10**10),
    st.floats(1, 6),
    st.integers(2, 1 << 17),
    st.floats(1e-6, 1),
    st.sampled_from([0.0, 1.0, 8.5, 300.0]),
    st.floats(1e7, 1e14),
)
choices = st.fixed_dictionaries(
    {},
    optional={
        "cell": st.sampled_from(["rnn", "rnn-relu", "gru", "lstm", "mingru"]),
        "hidden": st.integers(1, 2000),
        "layers": st.integers(1, 5),
        "embedding": st.integers(0, 300),
        "output_dropout": st.floats(0, 0.9),
        "batch_size": st.integers(1, 4096),
        "seq_len": st.integers(1, 1000),
        "minutes": st.floats(0.01, 1e4),
        "epochs": st.integers(1, 10_000),
        "lr": st.floats(1e-6, 10),
        "schedule": st.sampled_from(["constant", "cosine", "plateau"]),
        "optimizer": st.sampled_from(["sgd", "adam", "adamw"]),
        "patience": st.integers(1, 10),
    },
)


def chosen(facts: Facts, **given: Any) -> Settings:
    kind: dict[str, Any] = {"lines": True} if facts.line else {}
    if facts.source is not None:
        kind = {"pairs": True, "framework": "torch"}
    return choose(OWN | kind | given, facts)[0]


def text(characters: int) -> Facts:
    """Facts of a text of so many characters."""
    return replace(
        NOVEL, tokens=characters, characters=characters, shortest=max(2, characters // 8)
    )


def lengthened(facts: Facts, times: float) -> Facts:
    """Facts of a longer text of the same kind."""
    tokens = int(times * facts.tokens) + 1
    characters = facts.characters * tokens // facts.tokens + 1
    return replace(facts, tokens=tokens, characters=characters)


def model(settings: Settings, facts: Facts) -> Architecture:
    return Architecture(
        settings.cell,
        facts.vocab,
        settings.hidden,
        settings.layers,
        settings.embedding,
        settings.tied,
    )


@given(texts, choices)
def test_every_text_has_a_choice_that_keeps_what_is_given(
    facts: Facts, wanted: dict[str, Any]
) -> None:
    settings = chosen(facts, **wanted)
    assert {name: getattr(settings, name) for name in wanted} == wanted
    assert settings.recipe == "auto"
    assert None not in (settings.lr, settings.hidden, settings.batch_size, settings.seq_len)
    assert settings.epochs or settings.minutes


def test_the_settings_that_are_chosen_are_listed() -> None:
    book, found = vars(Settings(**OWN)), set()
    for wanted in ({}, {"layers": 2}, {"dropout": 0.1}):
        own = vars(chosen(replace(NOVEL, speed=1e14), **wanted))
        found |= {name for name in own if own[name] != book[name] and name not in wanted}
    assert found - {"recipe"} | {"tokenizer", "vocab_size"} == CHOSEN


FAST, PAIRS = replace(text(160_000), speed=1e12), replace(text(10**6), tokenizer="bpe", vocab=2048)
LINES, OF_PAIRS = replace(text(160_000), line=9.4), replace(NOVEL, source=Source(60, 50_000, 20))
MODEL, RATES = ("hidden", "embedding"), ("lr", "recurrent_lr")
DROPOUT = ("input_dropout", "output_dropout")
LARGE = {"hidden": 512, "epochs": 1}


@pytest.mark.parametrize(
    ("facts", "wanted", "names", "values"),
    [
        (text(1_600), {}, MODEL, (32, 32)),
        (text(40_000), {}, MODEL, (224, 64)),
        (text(10**9), {"minutes": 0.5}, MODEL, (224, 64)),
        (replace(text(10**6), vocab=512), LARGE, MODEL, (512, 64)),
        (replace(text(10**6), vocab=513), LARGE, MODEL, (512, 512)),
        (replace(text(10**6), characters=5_600_000, vocab=20_000), {}, MODEL, (64, 64)),
        # passes that are of use: of 600 updates; 60 over 2.4 products for each character; the least
        (text(1_600), {"hidden": 32}, ["epochs"], [48]),
        (text(160_000), {"minutes": 1e4, "hidden": 320}, ["epochs"], [25]),
        (text(160_000), {"minutes": 1e4, "hidden": 4096}, ["epochs"], [17]),
        (text(160_000), {"minutes": 1e4, "hidden": 1}, ["epochs"], [150]),
        (LINES, {"minutes": 1e4, "hidden": 512}, ["epochs"], [25]),
        (NOVEL, {}, ["epochs", "minutes"], [None, 3.0]),
        # about 3,000 updates, of 512 to 2,048 tokens
        (text(10**6), {"minutes": 0.5}, ["batch_size", "seq_len"], [16, 64]),
        (text(10**6), {}, ["batch_size"], [32]),
        (text(10**6), {"minutes": 0.5, "seq_len": 256}, ["batch_size"], [8]),
        (replace(text(10**6), line=150.0), {"minutes": 0.5}, ["batch_size"], [8]),
        (replace(text(10**6), line=9.4), {"minutes": 0.5}, ["batch_size"], [80]),
        (FAST, {"hidden": 128, "epochs": 1}, ["batch_size"], [8]),
        (FAST, {"hidden": 128, "epochs": 60}, ["batch_size"], [32]),
        (text(1_600), {}, ["batch_size"], [2]),
        # several sequences for each shard up to a bound, and at least one
        (text(10**6), {"minutes": 0.3, "hidden": 512, "shards": 4}, ["batch_size"], [32]),
        (text(10**6), {"minutes": 0.3, "hidden": 512, "shards": 8}, ["batch_size"], [32]),
        (text(10**6), {"minutes": 0.3, "shards": 64}, ["batch_size"], [64]),
        (text(10**6), {"minutes": 0.5, "seq_len": 1024, "shards": 2}, ["batch_size"], [2]),
        (replace(text(5_000), line=9.4), {"minutes": 0.3, "shards": 64}, ["batch_size"], [64]),
        # the rate grows with the text; half of it in recurrent layers of a long one
        (text(20_000), LARGE, RATES, (0.004, 0.004)),
        (text(100_000), LARGE, RATES, (0.008, 0.00553)),
        (text(160_000), LARGE, RATES, (0.011, 0.0055)),
        (text(10**6), LARGE | {"hidden": 32}, RATES, (0.022, 0.011)),
        (text(10**6), LARGE | {"hidden": 32, "optimizer": "adam"}, RATES, (0.016, None)),
        (text(10**6), LARGE | {"cell": "rnn"}, RATES, (0.004, 0.004)),
        (text(10**6), LARGE | {"lr": 0.3}, RATES, (0.3, 0.15)),
        (text(10**6), LARGE | {"recurrent_lr": 0.001}, RATES, (0.011, 0.001)),
        # weight decay
        (text(40_000), {"minutes": 0.5}, ["weight_decay"], [0.1]),
        (NOVEL, {"minutes": 10.0}, ["weight_decay"], [0.073]),
        (PAIRS, {"lr": 1e-4}, ["weight_decay"], [0.3]),
        # dropout, with 3.44 products for each character
        (text(160_000), {"hidden": 384, "epochs": 5}, DROPOUT, (0.01, 0.31)),
        (text(160_000), {"hidden": 384, "epochs": 18}, DROPOUT, (0.15, 0.45)),
        (text(160_000), {"hidden": 384, "epochs": 150}, DROPOUT, (0.3, 0.5)),
        (PAIRS, {"hidden": 256, "epochs": 6}, DROPOUT, (0.11, 0.26)),
        # what needs something else gets it
        (NOVEL, {"dropout": 0.3, "minutes": 0.01}, ["layers"], [2]),
        (NOVEL, {"layers": 2, "epochs": 20}, ["dropout", "output_dropout"], [0.33, 0.33]),
        (NOVEL, {"layers": 1}, ["dropout"], [0]),
        (NOVEL, {"momentum": 0.9}, ["optimizer"], ["sgd"]),
        (NOVEL, {"embedding": 0, "epochs": 20}, ["input_dropout"], [0]),
        (NOVEL, {"tied": True, "hidden": 48}, MODEL, (48, 48)),
        (NOVEL, {"tied": True, "embedding": 100}, MODEL, (100, 100)),
        (NOVEL, {"lines": True}, ["batching"], ["random"]),
        # pairs
        (OF_PAIRS, {}, (*MODEL, "lr", "batch_size", "epochs"), (256, 64, 0.004, 64, None)),
        (OF_PAIRS, {"layers": 2}, ("hidden", "lr", "dropout"), (192, 0.0046, 0.3)),
        (OF_PAIRS, {"minutes": 1e4, "hidden": 32}, ("lr", "epochs"), (0.008, 60)),
        (replace(OF_PAIRS, source=Source(60, 500, 20)), {}, ["batch_size"], [31]),
    ],
)
def test_the_choice_is_that_of_the_formulas(
    facts: Facts, wanted: dict[str, Any], names: Sequence[str], values: Sequence[Any]
) -> None:
    """Those of docs/recipe.md."""
    settings = chosen(facts, **wanted)
    assert [getattr(settings, name) for name in names] == pytest.approx([*values])


@given(texts, st.floats(0.01, 10))
def test_a_time_limit_has_room_for_many_updates(facts: Facts, minutes: float) -> None:
    """So that one update more or less hardly matters, and a limit can be kept."""
    settings = chosen(replace(facts, line=0.0), minutes=minutes)
    speed = facts.speed / 6 / products(model(settings, facts))
    batch = settings.batch_size * settings.seq_len
    assert batch <= 1.1 * STEPS or 1.5 * 60 * minutes * speed / batch >= UPDATES / 1.5


@given(texts)
def test_no_part_of_a_text_is_too_short_for_the_batches(facts: Facts) -> None:
    settings = chosen(replace(facts, line=0.0))
    assert settings.batch_size * settings.seq_len <= 1.1 * MAX_BATCH
    assert settings.batch_size < facts.shortest
    if facts.shortest < 10**5:
        Contiguous(facts.shortest, settings.batch_size, settings.seq_len)


@given(texts, st.floats(1.1, 100))
def test_more_time_or_text_or_a_faster_machine_never_makes_the_model_smaller(
    facts: Facts, times: float
) -> None:
    small = products(model(chosen(facts, minutes=1.0), facts))
    for larger in (
        chosen(facts, minutes=times),
        chosen(replace(facts, speed=times * facts.speed), minutes=1.0),
        chosen(lengthened(facts, times), minutes=1.0),
    ):
        assert products(model(larger, facts)) >= small


def test_a_time_in_which_nothing_can_be_learned_is_refused() -> None:
    large = replace(NOVEL, vocab=1_000_000)
    check_time(chosen(large, minutes=0.5), large)
    check_time(chosen(large, epochs=1), large)
    for wanted in ({"minutes": 0.0001}, {"batch_size": 512, "hidden": 256, "minutes": 0.5}):
        with pytest.raises(ElmanError, match=r"minutes for .* of 1,000,000: give"):
            check_time(chosen(large, **wanted), large)


def test_any_time_that_is_enough_for_a_short_text_has_the_same_training() -> None:
    three, ten = (chosen(FAST, minutes=minutes) for minutes in (3.0, 10.0))
    assert replace(three, minutes=10.0) == ten


@pytest.mark.parametrize("minutes", [0.5, 1.5, 3.0, 10.0])
@pytest.mark.parametrize(("schedule", "mean"), [("cosine", 0.5), ("constant", 1)])
def test_weights_of_byte_pairs_decay_as_much_in_any_training(
    minutes: float, schedule: str, mean: float
) -> None:
    settings = chosen(PAIRS, minutes=minutes, schedule=schedule)
    tokens = 60 * minutes * PAIRS.speed / (OPERATIONS * products(model(settings, PAIRS)))
    updates = tokens / (settings.batch_size * settings.seq_len)
    assert settings.weight_decay * settings.lr * mean * updates == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize(
    ("wanted", "model", "training", "read"),
    [
        (
            {"layers": 2, "hidden": 256},
            "gru, 2 layers of 256 units, an embedding of 64, bf16 precision",
            "3 minutes, adamw, learning rate 0.0156, 0.0078 in recurrent layers, cosine schedule",
            "decay 0.073, for 500,000 tokens",
        ),
        (
            {"minutes": 1.0, "epochs": 1, "optimizer": "adam", "embedding": 0, "hidden": 256},
            "gru, 1 layer of 256 units, one-hot input, bf16 precision",
            "1 minute, at most 1 epoch, adam, learning rate 0.0113, cosine schedule",
            "decay 0, for at most 1 times the 500,000 tokens",
        ),
        (
            {"epochs": 7, "hidden": 128, "batching": "contiguous"},
            "gru, 1 layer of 128 units, an embedding of 64, bf16 precision",
            "at most 7 epochs, adamw, learning rate 0.022, 0.011 in recurrent layers, cosine",
            "decay 0.073, for 7 times the 500,000 tokens",
        ),
    ],
)
def test_three_lines_describe_the_choice(
    wanted: dict[str, Any], model: str, training: str, read: str
) -> None:
    sizes = {"batch_size": 8, "seq_len": 16}
    settings, lines = choose(OWN | sizes | wanted, NOVEL)
    assert lines[0] == f"model: {model}"
    assert lines[1].startswith(f"training: {training}")
    assert lines[1].endswith(f"{settings.batching} batches of 8 sequences of 16 tokens")
    assert lines[2].startswith("regularization: dropout ")
    assert lines[2].endswith(read)


def test_batches_of_lines_are_described_as_such() -> None:
    _, lines = choose(OWN | {"lines": True, "batch_size": 8}, replace(NOVEL, line=10.0))
    assert lines[1].endswith("cosine schedule, batches of 8 lines")
