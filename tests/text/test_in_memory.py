"""Texts in memory are read as files are."""

import pytest

from elman.text import in_memory


def test_lines_come_in_blocks_as_those_of_a_file_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_memory, "BLOCK_CHARACTERS", 10)
    found = [*in_memory.blocks_of([*["abc"] * 5, "d\n"])]
    assert found == ["abc\nabc\nabc\nabc\n", "abc\nd\n"]


def test_no_lines_have_no_block() -> None:
    assert [*in_memory.blocks_of([])] == []
