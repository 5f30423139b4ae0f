"""A table of runs: what differs is a column, what is the same a line, what misleads a note."""

import re
import shutil
import sys
from dataclasses import replace
from os import terminal_size
from typing import Any

import pytest

from elman.runs.results import Part, Result
from elman.runs.table import overview, table

ONE = Result(
    "runs/one",
    "0" * 64,
    {"text": "a/story.txt", "tokenizer": "char", "vocab": 40, "lr": 1.0, "tied": False},
    {
        **{"train_ppl": 5.0, "val_ppl": 6.0, "val_bits_per_character": 2.5},
        **{"test_loss": 1.8, "test_bits_per_character": 2.6, "test_unknown_share": 0.0},
        **{"tokens_per_second": 1e6, "seconds": 9.0, "peak_memory_mb": None, "test_read": 1.0},
    },
    {"val": Part("a", 800, 1000), "test": Part("b", None, 1000)},
    "the tokens",
    "2026-11-29 02:41",
)


def another(text_sha256: str = "0" * 64, unknown: float = 0.0, **settings: Any) -> Result:
    """Another run, with other settings."""
    results = ONE.results | {"test_unknown_share": unknown}
    own = {"run": "runs/two", "settings": ONE.settings | settings, "results": results}
    return replace(ONE, text_sha256=text_sha256, **own)  # type: ignore[arg-type]


def test_settings_that_differ_are_columns_and_equal_ones_a_line() -> None:
    assert "common" not in table([ONE, another(lr=0.5)])
    heads, *rows, below = table([ONE, another(lr=0.5)], everything=True).splitlines()
    assert below == "common settings: text story.txt, tokenizer char, vocab 40"
    assert re.split("  +", heads) == [
        *("run", "lr", "train ppl", "val ppl", "val bits/char", "test loss", "test bits/char"),
        *("tokens/s", "seconds"),
    ]
    numbers = ["5.00", "6.00", "2.500", "1.8000", "2.600", "1,000,000", "9.0"]
    assert [row.split() for row in rows] == [
        ["runs/one", "1", *numbers],
        ["runs/two", "0.5", *numbers],
    ]


def test_numbers_that_do_not_compare_are_left_out_or_noted() -> None:
    tokens = "the tokens differ: compare bits/char, not losses or perplexities"
    texts = "the texts differ: --on FILE evaluates all runs on one text"
    for other in (
        replace(another(tokenizer="byte"), tokens="others"),
        replace(another(), tokens="as many others"),
    ):
        lines = table([ONE, other]).splitlines()
        assert lines[-1] == tokens
        assert "ppl" not in lines[0]
        assert "loss" not in lines[0]
    assert table([ONE, another("1" * 64, text="other.txt")]).splitlines()[3:] == [texts]
    assert "differ" not in table([ONE, another(text="a copy.txt")])
    same_name = table([ONE, another("1" * 64)]).splitlines()
    assert same_name[3:] == [texts]
    assert "story.txt 11111111" in same_name[2]


def test_unknown_tokens_are_a_column_where_there_are_some() -> None:
    assert "unknown" not in table([ONE, another()])
    assert "3.10%" in table([ONE, another(unknown=0.031)]).splitlines()[2]


def test_results_on_a_share_of_the_test_part_are_marked() -> None:
    partial = replace(ONE, run="runs/two", results=ONE.results | {"test_read": 0.3})
    _, one, two, note = table([ONE, partial]).splitlines()
    assert one.split()[4:6] == ["1.8000", "2.600"]
    assert two.split()[4:6] == ["1.8000*", "2.600*"]
    assert note == "* on a share of the test part: evaluation time was limited"


@pytest.mark.parametrize(
    ("part", "mark"),
    [
        *((Part("b", None, 1010), ""), (Part("b"), ""), (Part("b", 7, 1000), "")),
        *((Part("b", None, 1100), "+"), (Part("c", None, 1000), "+")),
    ],
)
def test_results_on_other_characters_than_those_of_the_first_run_are_marked(
    part: Part, mark: str
) -> None:
    """A part is cut between tokens, so a few characters more or fewer are the same part."""
    other = replace(ONE, run="runs/two", parts=ONE.parts | {"test": part})
    _, _, row, *notes = table([ONE, other]).splitlines()
    assert row.split()[3:6] == ["2.500", f"1.8000{mark}", f"2.600{mark}"]
    note = "+ on other characters than the first run: --on FILE evaluates all runs on one text"
    assert notes == [note] * len(mark)


def test_a_result_has_one_mark_and_a_cure_is_said_once() -> None:
    """A run on a share of another test part, and a run on another text."""
    other = ONE.parts | {"test": Part("c", None, 300)}
    partial = replace(ONE, run="runs/two", results=ONE.results | {"test_read": 0.3}, parts=other)
    for run, mark in ((partial, "*"), (replace(another("1" * 64), parts=other), "+")):
        assert [line[0] for line in table([ONE, run]).splitlines()[3:]] == [mark]


def test_of_other_tokens_even_a_few_characters_are_another_part() -> None:
    """Models so close may swap places on them."""
    parts = ONE.parts | {"val": Part("a", 800, 1010)}
    for tokens, mark in (("the tokens", ""), ("others", "+")):
        other = replace(ONE, run="runs/two", parts=parts, tokens=tokens)
        assert f"2.500{mark}" in table([ONE, other]).split("runs/two")[1].split()


def test_a_model_of_a_cleaned_text_is_marked_on_a_text_that_it_reads_as_another() -> None:
    on = {"on_loss": 1.5, "on_perplexity": 4.5, "on_bits_per_character": 2.0, "on_unknown_share": 0}
    one, two = (
        replace(ONE, run=name, results=ONE.results | on, parts=ONE.parts | {"on": Part(reading)})
        for name, reading in (("runs/one", "as it is"), ("runs/two", "cleaned"))
    )
    *_, first, second, note = table([one, two]).splitlines()
    assert "2.000" in first.split()
    assert "2.000+" in second.split()
    assert note.startswith(
        "+ on other characters than the first run: its text was cleaned, or split"
    )
    assert "+" not in table([one, replace(one, run="runs/two")])


def test_an_overview_has_a_row_for_each_run() -> None:
    one = replace(ONE, settings=ONE.settings | {"cell": "gru", "hidden": 64})
    missing = dict.fromkeys(ONE.results)
    two = replace(another("1" * 64), results=missing)
    assert [" ".join(line.split()) for line in overview([one, two]).splitlines()[1:]] == [
        "runs/one story.txt 00000000 char gru 64 2.500 2.600 9.0 2026-11-29 02:41",
        "runs/two story.txt 11111111 char - - - - - 2026-11-29 02:41",
    ]


@pytest.mark.parametrize(("width", "blocks"), [(None, 2), (80, 4), (1000, 1)])
def test_a_table_is_no_wider_than_a_screen_and_shows_strangers_words_on_one_line(
    monkeypatch: pytest.MonkeyPatch, width: int | None, blocks: int
) -> None:
    if width is not None:  # a terminal
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setattr(shutil, "get_terminal_size", lambda: terminal_size((width, 24)))
    settings = {f"setting_{n}": "x" * 100 + "\n" for n in range(4)}
    both = [replace(ONE, settings=ONE.settings | settings), another()]
    lines = table(both, everything=True).splitlines()
    assert max(map(len, lines)) <= (width or 120)
    assert [line.split()[0] for line in lines if line and "common settings" not in line] == [
        *["run", "runs/one", "runs/two"] * blocks
    ]
