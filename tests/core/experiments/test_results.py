"""A table of runs: what differs is a column, what is the same a line, what misleads a note."""

from dataclasses import replace
from typing import Any

from elman.core.experiments.results import Result, table

ONE = Result(
    "runs/one",
    "0" * 64,
    {"text": "a/story.txt", "tokenizer": "char", "vocab": 40, "lr": 1.0, "tied": False},
    {
        **{"train_ppl": 5.0, "val_ppl": 6.0, "test_loss": 1.8, "test_bits_per_character": 2.6},
        **{"test_unknown_share": 0.0, "tokens_per_second": 1e6, "seconds": 9.0},
        **{"peak_memory_mb": None, "test_read": 1.0},
    },
)


def another(text_sha256: str = "0" * 64, unknown: float = 0.0, **settings: Any) -> Result:
    """Another run, with other settings."""
    results = ONE.results | {"test_unknown_share": unknown}
    return Result("runs/two", text_sha256, ONE.settings | settings, results)


def test_settings_that_differ_are_columns_and_equal_ones_a_line() -> None:
    assert table([ONE, another(lr=0.5)]).splitlines() == [
        "the same in all: text story.txt, tokenizer char, vocab 40",
        "run       lr   train ppl  val ppl  test loss  bits/char   tokens/s  seconds  peak MB",
        "runs/one  1         5.00     6.00     1.8000      2.600  1,000,000      9.0        -",
        "runs/two  0.5       5.00     6.00     1.8000      2.600  1,000,000      9.0        -",
    ]


def test_numbers_that_do_not_compare_are_noted() -> None:
    tokens = "the tokens differ: compare bits/char, not losses and perplexities"
    texts = "the texts differ: losses and perplexities cannot be compared"
    bound = "bits/char are lower bounds where tokens are unknown"
    assert table([ONE, another(tokenizer="byte")]).splitlines()[4:] == [tokens]
    assert table([ONE, another(text="other.txt")]).splitlines()[4:] == [texts]
    same_name = table([ONE, another("1" * 64)]).splitlines()
    assert same_name[4:] == [texts]
    assert "story.txt 11111111" in same_name[3]
    unknown = table([ONE, another(tokenizer="word", vocab=900, unknown=0.031)]).splitlines()
    assert unknown[4:] == [tokens, bound]
    assert "3.10%" in unknown[3]


def test_results_on_a_part_of_the_test_part_are_marked() -> None:
    partial = replace(ONE, run="runs/two", results=ONE.results | {"test_read": 0.3})
    _, _, one, two, note = table([ONE, partial]).splitlines()
    assert one.split()[3:5] == ["1.8000", "2.600"]
    assert two.split()[3:5] == ["1.8000*", "2.600*"]
    assert note == "* of a part of the test part, since time was bounded"


def test_a_table_is_no_wider_than_a_screen_and_shows_strangers_words_on_one_line() -> None:
    settings = {f"setting_{n}": "x" * 100 + "\n" for n in range(4)}
    lines = table([replace(ONE, settings=ONE.settings | settings), another()]).splitlines()
    assert max(map(len, lines)) <= 120
    assert [line.split()[0] for line in lines if line and "same in all" not in line] == [
        *["run", "runs/one", "runs/two"] * 2
    ]
