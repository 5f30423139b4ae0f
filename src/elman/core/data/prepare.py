"""Preparation of token stores. It can be resumed after an interrupt.

The store is made in a hidden folder next to its path, and renamed when complete. If the process is
interrupted or killed, the hidden folder remains, and the same command resumes from it.
"""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from elman.core.data import store
from elman.core.data.parts import Sources, shares_of
from elman.core.data.store import StoreMetadata, TokenizedText
from elman.core.data.survey import suitable_tokens
from elman.core.data.token_writer import IDS, TokenWriter, WriterState, files
from elman.core.data.tokenization import TokenizerSettings, progress
from elman.core.errors import ElmanError, InterruptedWorkError
from elman.core.files import atomic, json_files, regular
from elman.core.files.long_work import Report, no_report
from elman.core.text import known_tokenizers, text_files
from elman.core.text.codec import TOKENIZER_FILE
from elman.core.text.text_files import STDIN
from elman.core.text.tokenizers import UNIVERSAL, Tokenizer
from elman.core.valid_values import CHAR

LOCK, STATE, COPY, FINISHED = ".lock", "state.json", "standard input", "finished"
WRITER_FILES = tuple(path.name for path, _ in files(Path(), WriterState()))
OWN_FILES = (LOCK, STATE, COPY, FINISHED, TOKENIZER_FILE, *WRITER_FILES)
SECONDS_BETWEEN_SAVES = 5.0
MAX_STATE_BYTES = 1 << 24  # of state.json; it contains the path of every file


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
    settings = TokenizerSettings(
        CHAR if tokenizer is None else tokenizer, vocab_size, min_freq, newlines, lines
    )
    shares = shares_of(split, val, test)
    own = [path for path in (val, test) if path is not None]
    _check([*paths, *own])
    if out.name and out.is_dir() and _working_path(out).is_dir():
        with _working_folder(out, resumable=False):
            pass  # removes the folder of a process that was killed after renaming the store
    atomic.check_new(out)
    resumable = STDIN not in (*paths, *own)
    with atomic.make_parents(out), _working_folder(out, resumable) as folder:

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
        command = _command(sources, settings)
        state = _saved_state(folder, command)
        used = _tokenizer(folder, sources, settings, report)
        advance = progress("reading", sources.files, report)
        writer = TokenWriter(used, folder, state, shares)
        writer.read(settings.texts(sources, used, advance), _Saving(folder, command))
        return _finish(folder, writer, newlines, out)


def _check(paths: Sequence[str]) -> None:
    if list(paths).count(STDIN) > 1:
        raise ElmanError("standard input can only be read once, got - twice: give one")
    for path in paths:
        text_files.check_path(path)
    if STDIN in paths:
        text_files.standard_input()  # raises if it is closed


def _working_path(out: Path) -> Path:
    return out.with_name(f".{out.name}.part")


@contextmanager
def _working_folder(out: Path, resumable: bool) -> Iterator[Path]:
    """Folder to make a store in, locked for this process.

    It is removed at the end, unless the work was interrupted and can be resumed.
    """
    folder = _working_path(out)
    kept = False
    try:
        folder.mkdir(0o700)
    except FileExistsError:
        _take_over(folder)
    lock = atomic.lock(folder / LOCK, f"{out} is being made by another process: wait for it")
    try:
        yield folder
    except KeyboardInterrupt as error:
        if out.exists():
            raise InterruptedWorkError(f"interrupted: {out} is finished") from error
        kept = resumable and (folder / STATE).exists()
        if not kept:
            raise
        message = "interrupted: run the same command again to resume"
        raise InterruptedWorkError(message) from error
    finally:
        if os.name == "nt":  # Windows cannot remove an open file
            lock.release()
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _take_over(folder: Path) -> None:
    """Make an existing working folder private to this user.

    Raises an ElmanError if the folder or anything in it belongs to another user or was not made by
    this module: all of it may be removed or overwritten.
    """
    if folder.is_symlink():
        raise ElmanError(f"{folder} is a symbolic link: remove it")
    if not folder.is_dir():
        raise ElmanError(f"{folder} was not made by elman: move it elsewhere")
    regular.check_owner(folder)
    folder.chmod(0o700)
    for parent, names in ((folder, OWN_FILES), (folder / FINISHED, store.FILES)):
        if not parent.exists():
            continue
        regular.check_folder(parent)
        own = {*names, *(f".{name}.part" for name in names)}  # temporary names of atomic.write
        for path in parent.iterdir():
            regular.check_owner(path)
            if path.name not in own or path.is_dir() != (path.name == FINISHED):
                raise ElmanError(f"{path} was not made by elman: move it elsewhere")


def _copy_stdin(folder: Path, report: Report) -> Path:
    """Copy standard input to a file."""
    path = folder / COPY
    done = 0
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        while content := text_files.standard_input().read(text_files.BLOCK_BYTES):
            file.write(content)
            done += len(content)
            report("copying", done, 0)
    if not done:
        raise ElmanError("standard input is empty: give a text of some thousand characters or more")
    return path


def _command(sources: Sources, settings: TokenizerSettings) -> dict[str, Any]:
    """Settings and inputs of the work, saved to determine whether another command resumes it."""
    inputs = [list(map(_identity, paths)) for paths in sources.by_part]
    own = {"block": text_files.BLOCK_BYTES, "format": store.FORMAT, "inputs": inputs}
    return asdict(settings) | own | {"shares": list(sources.shares)}


def _identity(path: Path) -> list[Any]:
    """Path, size and modification time of a file."""
    with regular.open_regular(path, follow_links=True) as file:
        status = os.fstat(file.fileno())
    return [str(path.absolute()), status.st_size, status.st_mtime_ns]


def _saved_state(folder: Path, command: dict[str, Any]) -> WriterState | None:
    """State to resume from, or None. Files of other work are removed."""
    with suppress(ElmanError, KeyError, TypeError, ValueError):  # missing or damaged
        saved = json_files.read(folder / STATE, MAX_STATE_BYTES)
        state = json_files.record(WriterState, saved["state"], STATE)
        written = all(
            path.exists() and path.stat().st_size >= size
            for path, size in files(folder, state)
            if size
        )
        possible = min(state.pieces, state.first_seen, *state.lengths) >= 0
        if saved["command"] == command and written and possible:
            return state
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (LOCK, COPY):
            path.unlink()
    return None


def _tokenizer(
    folder: Path, sources: Sources, settings: TokenizerSettings, report: Report
) -> Tokenizer:
    """Make the tokenizer, or read the one that was learned before an interrupt."""
    model = folder / TOKENIZER_FILE
    if known_tokenizers.is_learned(settings.tokenizer) and model.exists():
        return known_tokenizers.read(settings.tokenizer, model)
    made = settings.make(sources, report)
    if made.model:
        atomic.write(model, made.model.encode())
    return made


class _Saving:
    """Saves the state every few seconds."""

    def __init__(self, folder: Path, command: dict[str, Any]) -> None:
        self.folder = folder
        self.command = command
        self.last = time.monotonic()

    def __call__(self, writer: TokenWriter) -> None:
        if time.monotonic() - self.last >= SECONDS_BETWEEN_SAVES:
            saved = {"command": self.command, "state": asdict(writer.save())}
            json_files.write(self.folder / STATE, saved)
            self.last = time.monotonic()


def _finish(folder: Path, writer: TokenWriter, newlines: str, out: Path) -> StoreMetadata:
    """Write the store, sync it and rename it to `out`."""
    finished = folder / FINISHED
    shutil.rmtree(finished, ignore_errors=True)
    finished.mkdir()
    tokens = writer.translate(finished)
    with open(finished / IDS, "r+b", opener=regular.open_no_follow) as file:
        os.fsync(file.fileno())
    if not len(tokens.ids):
        raise ElmanError("the input contains no text: give one of some thousand characters")
    text = TokenizedText(tokens, writer.tokenizer, newlines)
    metadata = store.write(finished, text)
    del tokens, text  # Windows cannot rename a folder with a mapped file
    finished.rename(out)
    atomic.fsync_dir(out.absolute().parent)
    return metadata
