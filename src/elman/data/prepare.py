"""Preparation of token stores, each in a hidden folder next to its path, renamed when complete."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from elman.data import store
from elman.data.parts import Sources, shares_of
from elman.data.store import StoreMetadata
from elman.data.token_writer import IDS
from elman.data.tokenization import TokenSettings, suitable_tokens, tokenize_sources
from elman.errors import ElmanError
from elman.files import atomic, regular
from elman.files.long_work import Report, no_report
from elman.text import text_files
from elman.text.text_files import STDIN
from elman.text.tokenizers import UNIVERSAL

COPY = "standard input"


def prepare(
    paths: Sequence[str],
    out: Path,
    tokenizer: str | None = None,
    vocab_size: int | None = None,
    min_freq: int | None = None,
    newlines: str = UNIVERSAL,
    report: Report = no_report,
    split: Sequence[float] | None = None,
    val: str | None = None,
    test: str | None = None,
    lines: bool = False,
) -> StoreMetadata:
    """Make a store of one or more texts, read in order; `-` is standard input.

    `vocab_size`, `min_freq`, `newlines`, `split`, `val`, `test` and `lines` are as in `TextFile`,
    and so is `tokenizer`; without it, the tokens are chosen for the text.
    """
    settings = TokenSettings(tokenizer, vocab_size, min_freq, newlines, lines)
    settings.complete()  # raises for invalid values
    shares = shares_of(split, val, test)
    _check([*paths, *(path for path in (val, test) if path is not None)])
    with atomic.new_folder(out) as folder:

        def path_of(text: str) -> Path:
            return _copy_stdin(folder, report) if text == STDIN else Path(text)

        sources = Sources(
            tuple(map(path_of, paths)),
            None if val is None else path_of(val),
            None if test is None else path_of(test),
            shares,
        )
        if tokenizer is None and vocab_size is None and min_freq is None:
            settings = replace(settings, **suitable_tokens(sources, lines))
        tokens = tokenize_sources(sources, settings, report, folder)
        if not len(tokens.ids):
            raise ElmanError("the input contains no text: give one of some thousand characters")
        with open(folder / IDS, "r+b", opener=regular.open_no_follow) as file:
            os.fsync(file.fileno())
        (folder / COPY).unlink(missing_ok=True)
        metadata = store.write(folder, tokens)
        del tokens  # Windows cannot rename a folder with a mapped file
        return metadata


def _check(paths: Sequence[str]) -> None:
    if list(paths).count(STDIN) > 1:
        raise ElmanError("standard input can only be read once, got - twice: give one")
    for path in paths:
        text_files.check_path(path)
    if STDIN in paths:
        text_files.standard_input()  # raises if it is closed


def _copy_stdin(folder: Path, report: Report) -> Path:
    """Copy standard input to a file."""
    path = folder / COPY
    done = 0
    with path.open("xb") as file:
        while content := text_files.standard_input().read(text_files.BLOCK_BYTES):
            file.write(content)
            done += len(content)
            report("copying", done, 0)
    if not done:
        raise ElmanError("standard input is empty: give a text of some thousand characters or more")
    return path
