"""Settings that are not given are chosen for a text: always valid ones, and sensible ones."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.data.orders import Contiguous
from elman.errors import ElmanError
from elman.experiments.recipe import (
    HIDDEN,
    MAX_BATCH,
    MAX_LR,
    MAX_PASSES,
    MIN_LINE_PASSES,
    MIN_PASSES,
    STEPS,
    UPDATES,
    Facts,
    check_time,
    choose,
)
from elman.model.weights import OPERATIONS, Architecture, products
from elman.runs.settings import CHOSEN, Settings, check_given

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
    lines = {"lines": True} if facts.line else {}
    return choose(OWN | lines | given, facts)[0]


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


@given(st.integers(10**5, 10**9), st.integers(1, 50))
def test_byte_pairs_have_a_wide_embedding_and_no_less_dropout(tokens: int, epochs: int) -> None:
    facts = replace(NOVEL, tokens=tokens, characters=4 * tokens, vocab=512)
    pairs, characters = (
        chosen(replace(facts, tokenizer=name), epochs=epochs, hidden=256)
        for name in ("bpe", "char")
    )
    assert (pairs.embedding, characters.embedding) == (256, 64)
    assert pairs.output_dropout >= characters.output_dropout
    assert pairs.input_dropout >= characters.input_dropout


def test_recurrent_layers_have_half_of_the_rate_of_a_long_text() -> None:
    for size, factor in {10_000: 1, 40_000: 1, 100_000: 0.692, 10**6: 0.5}.items():
        assert chosen(text(size)).recurrent_factor == pytest.approx(factor, rel=0.01)
        assert chosen(text(size), lr=0.01).recurrent_factor == pytest.approx(factor, rel=0.01)
        assert chosen(text(size), optimizer="adam").recurrent_factor == 1
    assert chosen(text(10**6), cell="rnn").recurrent_factor == 1


def test_a_rate_of_recurrent_layers_that_is_given_changes_no_other() -> None:
    settings = chosen(NOVEL, recurrent_lr=0.001)
    assert (settings.lr, settings.recurrent_lr) == (chosen(NOVEL).lr, 0.001)


@given(texts, st.floats(0.01, 10))
def test_a_time_limit_has_room_for_many_updates(facts: Facts, minutes: float) -> None:
    """So that one update more or less hardly matters, and a limit can be kept."""
    settings = chosen(replace(facts, line=0.0), minutes=minutes)
    speed = facts.speed / 6 / products(model(settings, facts))
    batch = settings.batch_size * settings.seq_len
    assert batch <= 1.1 * STEPS or 1.5 * 60 * minutes * speed / batch >= UPDATES / 1.5


@given(texts, st.floats(0.01, 10), st.floats(1.1, 100))
def test_a_longer_training_has_no_smaller_batches(
    facts: Facts, minutes: float, times: float
) -> None:
    one, two = (chosen(facts, hidden=128, minutes=each) for each in (minutes, times * minutes))
    assert two.batch_size >= one.batch_size


@pytest.mark.parametrize("line", [0.0, 9.4])
@pytest.mark.parametrize("minutes", [0.5, 1.5, 3.0])
def test_a_training_of_minutes_has_thousands_of_updates(line: float, minutes: float) -> None:
    facts = replace(text(10**6), line=line, speed=1e11)
    settings = chosen(facts, minutes=minutes)
    speed = facts.speed / 6 / products(model(settings, facts))
    updates = 60 * minutes * speed / (settings.batch_size * (line or settings.seq_len))
    assert 2000 < updates < 4500
    assert settings.batch_size % 8 == 0


def test_lines_and_sequences_of_any_length_have_batches_of_several() -> None:
    assert chosen(replace(text(10**6), line=150.0), minutes=0.5).batch_size == 8
    assert chosen(text(10**6), minutes=0.5, seq_len=256).batch_size == 8
    assert chosen(text(10**6), minutes=0.5, seq_len=1024, shards=2).batch_size == 2


def test_every_shard_of_a_batch_has_several_sequences_up_to_a_bound() -> None:
    facts = replace(text(10**6), speed=1e11)
    for shards, sequences in {1: 8, 2: 8, 4: 8, 8: 4, 64: 1}.items():
        settings = chosen(facts, minutes=0.3, hidden=512, shards=shards)
        assert settings.batch_size == sequences * shards


def test_every_shard_has_a_sequence_of_the_shortest_text() -> None:
    for facts in (text(5_000), replace(text(5_000), line=9.4)):
        assert chosen(facts, minutes=0.3, shards=64).batch_size == 64


@pytest.mark.parametrize("characters", [100_000, 160_000, 400_000])
def test_a_text_that_is_learned_in_less_time_has_thousands_of_updates(characters: int) -> None:
    settings = chosen(replace(text(characters), speed=1e12), minutes=10.0)
    assert settings.epochs is not None
    updates = settings.epochs * characters / (settings.batch_size * settings.seq_len)
    assert 2000 < updates < 4500


@pytest.mark.parametrize("lines", [0.0, 9.4])
def test_batches_suit_the_epochs_that_are_given(lines: float) -> None:
    facts = replace(text(160_000), line=lines, speed=1e12)
    few, useful, many = (chosen(facts, hidden=128, epochs=epochs) for epochs in (1, 60, 1000))
    assert few.batch_size < useful.batch_size == many.batch_size
    assert chosen(facts, hidden=128, epochs=1, minutes=10.0) == replace(few, minutes=10.0)
    assert chosen(facts, hidden=1).batch_size == chosen(facts, hidden=1, epochs=150).batch_size


def test_a_very_short_text_has_batches_of_several_sequences() -> None:
    assert chosen(replace(text(40_000), speed=1e11), minutes=1.0).batch_size == 8


def test_a_time_in_which_nothing_can_be_learned_is_refused() -> None:
    large = replace(NOVEL, vocab=1_000_000)
    check_time(chosen(large, minutes=0.5), large)
    for given_, minutes in (({}, 0.0001), ({"batch_size": 512, "hidden": 256}, 0.5)):
        with pytest.raises(ElmanError, match=r"minutes for .* of 1,000,000: give"):
            check_time(chosen(large, minutes=minutes, **given_), large)
    check_time(chosen(large, epochs=1), large)


@given(texts)
def test_no_part_of_a_text_is_too_short_for_the_batches(facts: Facts) -> None:
    settings = chosen(replace(facts, line=0.0))
    assert settings.batch_size * settings.seq_len <= 1.1 * MAX_BATCH
    assert settings.batch_size < facts.shortest
    if facts.shortest < 10**5:
        Contiguous(facts.shortest, settings.batch_size, settings.seq_len)


@given(texts, st.floats(1.1, 100))
def test_more_time_or_a_faster_machine_never_makes_the_model_smaller(
    facts: Facts, times: float
) -> None:
    small = products(model(chosen(facts, minutes=1.0), facts))
    for larger in (
        chosen(facts, minutes=times),
        chosen(replace(facts, speed=times * facts.speed), minutes=1.0),
    ):
        assert products(model(larger, facts)) >= small


@given(texts, st.floats(1.1, 100))
def test_a_longer_text_has_no_smaller_model(facts: Facts, times: float) -> None:
    one, two = (chosen(each) for each in (facts, lengthened(facts, times)))
    assert products(model(two, facts)) >= products(model(one, facts))


@given(texts, st.floats(1.1, 100))
def test_a_model_that_reads_a_longer_text_as_often_has_no_more_dropout(
    facts: Facts, times: float
) -> None:
    one, two = (chosen(each, hidden=128, epochs=20) for each in (facts, lengthened(facts, times)))
    assert two.output_dropout <= one.output_dropout
    assert two.input_dropout <= one.input_dropout


def test_a_larger_model_that_reads_a_text_as_often_has_more_dropout() -> None:
    small, large = (chosen(text(160_000), hidden=hidden, epochs=15) for hidden in (128, 256))
    assert small.output_dropout < large.output_dropout
    assert small.input_dropout < large.input_dropout


def test_dropout_of_a_short_text_is_that_of_the_formulas() -> None:
    """Those of docs/recipe.md, with 3.44 products for each character."""
    few, usual = (chosen(text(160_000), hidden=384, epochs=epochs) for epochs in (5, 18))
    assert (few.input_dropout, few.output_dropout) == (0.01, 0.31)
    assert (usual.input_dropout, usual.output_dropout) == (0.15, 0.45)


@pytest.mark.parametrize(
    ("facts", "hidden", "embedding"),
    [
        (text(1_600), (32, 64), (32, 64)),
        (text(160_000), (256, 512), (64, 64)),
        (text(10**9), (256, 512), (64, 64)),
        (replace(text(10**6), characters=5_600_000, vocab=20_000), (64, 160), (64, 160)),
    ],
    ids=["2 KB", "200 KB", "1 GB", "20,000 words"],
)
def test_the_model_suits_the_text(
    facts: Facts, hidden: tuple[int, int], embedding: tuple[int, int]
) -> None:
    settings = chosen(facts)
    assert hidden[0] <= settings.hidden <= hidden[1]
    assert embedding[0] <= settings.embedding <= embedding[1]


def test_a_short_text_is_not_read_for_longer_than_it_is_of_use() -> None:
    for size, hidden, passes in (
        (1_600, 32, [48]),  # of 12.5 updates
        (160_000, 320, [25]),  # 60 over 2.4 products for each character
        (160_000, 512, range(17, 20)),
        (160_000, 1, [MAX_PASSES]),
        (160_000, 4096, [MIN_PASSES]),
    ):
        wanted = {"minutes": 10_000.0, "hidden": hidden}
        settings, lines = choose(OWN | wanted, text(size))
        assert settings.epochs in passes
        assert settings.minutes == 10_000.0
        assert f"at most {settings.epochs} epochs" in lines[1]
    lines = replace(text(160_000), line=9.4)
    assert chosen(lines, minutes=10_000.0, hidden=512).epochs == MIN_LINE_PASSES
    assert chosen(text(1_600), epochs=1000).epochs == 1000
    assert chosen(NOVEL).epochs is None


def test_any_time_that_is_enough_for_a_short_text_has_the_same_training() -> None:
    short = replace(text(160_000), speed=1e12)
    three, ten = (chosen(short, minutes=minutes) for minutes in (3.0, 10.0))
    assert replace(three, minutes=10.0) == ten


def test_settings_that_need_others_get_them() -> None:
    assert chosen(NOVEL, dropout=0.3, minutes=0.01).layers == 2
    assert chosen(NOVEL, momentum=0.9).optimizer == "sgd"
    assert chosen(NOVEL, weight_decay=0.1).optimizer == "adamw"
    assert chosen(NOVEL, input_dropout=0.1).embedding > 0
    tied = chosen(NOVEL, tied=True)
    assert tied.embedding == tied.hidden
    assert chosen(NOVEL, tied=True, embedding=100).hidden == 100
    assert chosen(NOVEL, lines=True).batching == "random"
    assert chosen(NOVEL, layers=1).dropout == 0
    assert chosen(NOVEL, layers=2, epochs=20).dropout > 0
    assert chosen(NOVEL, embedding=0, epochs=20).input_dropout == 0


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"hidden": 0}, "hidden must be 1 or more, got 0"),
        ({"minutes": -1.0}, "minutes must be a finite number above 0, got -1.0"),
        ({"dropout": 0.3, "layers": 1}, "dropout requires two layers or more, got 0.3 with one"),
        ({"momentum": 0.9, "optimizer": "adam"}, "momentum requires sgd, got 0.9 with adam"),
        ({"tied": True, "embedding": 8, "hidden": 9}, "tied weights require an embedding as large"),
        ({"precision": "bf16", "framework": "jax"}, "bf16 requires numba or numpy"),
        ({"text": "time-machine"}, "The Time Machine is trained as in the book, got recipe auto"),
    ],
)
def test_what_does_not_go_together_is_refused(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(ElmanError, match=f"^{re.escape(message)}"):
        check_given(OWN | wanted)
        choose(OWN | wanted, NOVEL)


@pytest.mark.parametrize("minutes", [0.5, 1.5, 3.0, 10.0])
@pytest.mark.parametrize("speed", [1e11, 3e11])
def test_weights_of_byte_pairs_decay_as_much_in_any_training(minutes: float, speed: float) -> None:
    pairs = replace(text(1_000_000), characters=4_000_000, vocab=2048, tokenizer="bpe", speed=speed)
    settings = chosen(pairs, minutes=minutes)
    arch = Architecture("gru", 2048, settings.hidden, 1, settings.embedding)
    tokens = 60 * minutes * speed / (OPERATIONS * products(arch))
    updates = tokens / (settings.batch_size * settings.seq_len)
    assert settings.weight_decay * settings.lr / 2 * updates == pytest.approx(2.0, rel=0.02)
    assert chosen(NOVEL, minutes=minutes).weight_decay == 0.073
    assert chosen(text(40_000), minutes=minutes).weight_decay == 0.1
    assert chosen(pairs, minutes=minutes, weight_decay=0.01).weight_decay == 0.01


def test_weights_decay_as_much_with_a_constant_rate_as_with_a_cosine() -> None:
    pairs = replace(text(1_000_000), characters=4_000_000, vocab=2048, tokenizer="bpe")
    cosine, constant = chosen(pairs, minutes=3), chosen(pairs, minutes=3, schedule="constant")
    assert constant.weight_decay == pytest.approx(cosine.weight_decay / 2, abs=0.001)


def test_a_low_learning_rate_has_the_highest_weight_decay() -> None:
    pairs = replace(text(1_000_000), vocab=2048, tokenizer="bpe")
    assert chosen(pairs, lr=1e-4).weight_decay == 0.3
    assert chosen(pairs, epochs=1, lr=1e-4).weight_decay == 0.3


def test_three_lines_describe_the_choice() -> None:
    settings, lines = choose(OWN | {"layers": 2, "hidden": 256}, NOVEL)
    assert len(lines) == 3
    assert lines[0].startswith(
        "model: gru, 2 layers of 256 units, an embedding of 64, bf16 precision"
    )
    rates = f"learning rate {settings.lr:g}, {settings.recurrent_lr:g} in recurrent layers"
    assert f"{rates}, cosine schedule" in lines[1]
    adam = choose(OWN | {"optimizer": "adam"}, NOVEL)
    assert f"adam, learning rate {adam[0].lr:g}, cosine schedule" in adam[1][1]
    assert "3 minutes, " in lines[1]
    one = choose(OWN | {"minutes": 1.0, "epochs": 1}, NOVEL)[1][1]
    assert one.startswith("training: 1 minute, at most 1 epoch, adamw")
    assert one_of(OWN | {"epochs": 7, "minutes": 1.0}).endswith(
        "at most 7 times the 500,000 tokens"
    )
    assert one_of(OWN | {"epochs": 7}).endswith(
        "weight decay 0.073, for 7 times the 500,000 tokens"
    )
    assert lines[2].endswith("weight decay 0.073, for 500,000 tokens")


@pytest.mark.parametrize("order", ["shuffled", "contiguous", "random"])
def test_the_choice_names_the_order_of_the_text(order: str) -> None:
    wanted = OWN | {"batching": order, "batch_size": 8, "seq_len": 16}
    line = choose(wanted, NOVEL)[1][1]
    assert line.endswith(f"cosine schedule, {order} batches of 8 sequences of 16 tokens")
    by_line = choose(OWN | {"lines": True, "batch_size": 8}, replace(NOVEL, line=10.0))[1][1]
    assert by_line.endswith("cosine schedule, batches of 8 lines")


def one_of(wanted: dict[str, Any]) -> str:
    """The last of the lines of a choice."""
    return choose(wanted, NOVEL)[1][2]


@pytest.mark.parametrize("given_", [{}, {"minutes": 1.0}, {"epochs": 7}])
@pytest.mark.parametrize("speed", [1e9, 1e11])
def test_the_lines_have_no_number_that_was_not_measured(
    given_: dict[str, Any], speed: float
) -> None:
    """The speed of the machine is that of another model, or of no measurement."""
    own = OWN | given_ | {"hidden": 64, "batch_size": 8, "seq_len": 16, "dropout": 0.0}
    own |= {"input_dropout": 0.0, "output_dropout": 0.0}
    lines = [choose(own, replace(NOVEL, speed=times * speed))[1] for times in (1, 1.5)]
    assert lines[0] == lines[1]


def test_the_sizes_to_choose_from_grow() -> None:
    assert list(HIDDEN) == sorted(set(HIDDEN))


def test_the_learning_rate_grows_with_the_text_up_to_a_bound() -> None:
    texts = [replace(NOVEL, tokens=size, characters=size) for size in (20_000, 160_000, 10**6)]
    small, novel, long = (chosen(facts, hidden=512, epochs=1).lr for facts in texts)
    assert (small, novel, long) == (0.004, 0.011, 0.011)
    assert chosen(texts[2], hidden=32, epochs=1).lr == MAX_LR
    assert chosen(texts[2], hidden=32, epochs=1, optimizer="adam").lr == 0.016
    assert chosen(texts[2], hidden=32, epochs=1, lr=0.3).lr == 0.3
    assert chosen(texts[2], hidden=512, epochs=1, cell="rnn").lr == 0.004
