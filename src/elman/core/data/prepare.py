"""A token store is made: in a hidden folder beside its name, which it has only when it is whole.

The folder is kept when the work is interrupted, or ends in whatever way that leaves no time to
remove it, and the same command goes on from there.
"""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from elman.core.data import store
from elman.core.data.store import Facts, Reading, Report
from elman.core.data.token_writer import IDS, Draft, Place, ends_of, files
from elman.core.errors import ElmanError, InterruptedWorkError
from elman.core.files import disk, json_files
from elman.core.text import bpe, text_files
from elman.core.text.codec import MODEL
from elman.core.text.text_files import STDIN
from elman.core.text.tokenizers import UNIVERSAL, Tokenizer, pieces

LOCK, PLACE, COPY, WHOLE = ".lock", "place.json", "standard input", "whole"
OWN = (LOCK, PLACE, COPY, WHOLE, MODEL, *(path.name for path, _ in files(Path(), Place())))
SECONDS = 5.0  # between two moments at which the work so far is kept
LARGEST_PLACE = 1 << 24  # bytes; it names every file


def prepare(
    paths: Sequence[str],
    out: Path,
    tokenizer: str,
    vocab_size: int | None = None,
    min_freq: int | None = None,
    newlines: str = UNIVERSAL,
    report: Report = store.silent,
) -> Facts:
    """Make a store of some texts, one after the other; `-` is standard input.

    How they are read is told as in `TextFile`.
    """
    how = Reading(tokenizer, vocab_size, min_freq, newlines)
    _check(paths)
    if out.name and out.is_dir() and _name(out).is_dir():
        with _part(out, keep=False):
            pass  # which removes what a process has left that was killed when it had finished
    disk.check_new(out)
    with disk.parents(out), _part(out, keep=STDIN not in paths) as part:
        texts = [_copied(part, report) if path == STDIN else Path(path) for path in paths]
        command = _command(texts, how)
        begun = _begun(part, command)
        used = _tokenizer(part, texts, how, report)
        text = how.blocks(texts, store.progress("reading", texts, report))
        draft = Draft(used, part, begun)
        draft.read(pieces(text, used.cut), _Keeping(part, command))
        return _finish(part, draft, newlines, out)


def _check(paths: Sequence[str]) -> None:
    if list(paths).count(STDIN) > 1:
        raise ElmanError("standard input can be read once, got - twice")
    if "" in paths:
        raise ElmanError("a text is the path of a file, or - for standard input, got nothing")
    for path in paths:
        text_files.check_path(path)
    if STDIN in paths:
        text_files.standard_input()  # raises where there is none


def _name(out: Path) -> Path:
    return out.with_name(f".{out.name}.part")


@contextmanager
def _part(out: Path, keep: bool) -> Iterator[Path]:
    """The folder to work in, for this process alone.

    It is removed at the end, unless the work was interrupted and may go on.
    """
    part, kept = _name(out), False
    try:
        part.mkdir(0o700)
    except FileExistsError:
        _take_over(part)
    lock = disk.lock(part / LOCK, f"{out} is being made by another process: wait for it")
    try:
        yield part
    except KeyboardInterrupt as error:
        if out.exists():
            raise InterruptedWorkError(f"interrupted: {out} is finished") from error
        kept = keep and (part / PLACE).exists()
        if not kept:
            raise
        message = "interrupted: the same command goes on where this one stopped"
        raise InterruptedWorkError(message) from error
    finally:
        if os.name == "nt":  # where an open file cannot be removed
            lock.release()
        if not kept:
            shutil.rmtree(part, ignore_errors=True)
        lock.release()


def _take_over(part: Path) -> None:
    """Keep others out of a folder to work in, of which all may be removed and written to.

    An ElmanError tells where it, or anything in it, is another user's, or was not put there by this
    module.
    """
    if part.is_symlink():
        raise ElmanError(f"{part} is a symbolic link: remove it")
    if not part.is_dir():
        raise ElmanError(f"{part} is in the way, and none of elman's: move it elsewhere")
    disk.check_owner(part)
    part.chmod(0o700)
    for folder, names in ((part, OWN), (part / WHOLE, store.FILES)):
        if not folder.exists():
            continue
        disk.check_folder(folder)
        own = {*names, *(f".{name}.part" for name in names)}  # as disk.write calls them at first
        for path in folder.iterdir():
            disk.check_owner(path)
            if path.name not in own or path.is_dir() != (path.name == WHOLE):
                raise ElmanError(f"{path} is in the way, and none of elman's: move it elsewhere")


def _copied(part: Path, report: Report) -> Path:
    """Standard input as a file."""
    path, done = part / COPY, 0
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        while content := text_files.standard_input().read(text_files.BLOCK):
            file.write(content)
            done += len(content)
            report("copying", done, 0)
    if not done:
        raise ElmanError("standard input is empty: give a text of some thousand characters or more")
    return path


def _command(texts: Sequence[Path], how: Reading) -> dict[str, Any]:
    """Description of the work to do, by which it is told from other work."""
    inputs = []
    for path in texts:
        with disk.opened(path, links=True) as file:
            status = os.fstat(file.fileno())
        inputs.append([str(path.absolute()), status.st_size, status.st_mtime_ns])
    return asdict(how) | {"block": text_files.BLOCK, "format": store.FORMAT, "inputs": inputs}


def _begun(part: Path, command: dict[str, Any]) -> Place | None:
    """The place that the same work has come to; what is left of other work is removed."""
    with suppress(ElmanError, KeyError, TypeError, ValueError):  # there is none, or it is damaged
        kept = json_files.read(part / PLACE, LARGEST_PLACE)
        place = json_files.record(Place, kept["place"], PLACE)
        written = all(
            path.exists() and path.stat().st_size >= size
            for path, size in files(part, place)
            if size
        )
        possible = min(place.pieces, place.seen, *place.lengths) >= 0
        if kept["command"] == command and written and possible:
            return place
    for path in part.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (LOCK, COPY):
            path.unlink()
    return None


def _tokenizer(part: Path, texts: Sequence[Path], how: Reading, report: Report) -> Tokenizer:
    """The tokeniser; what bpe has learnt is kept."""
    model = part / MODEL
    if how.tokenizer == bpe.NAME and model.exists():
        return bpe.read(model)
    made = how.made(texts, store.SPLIT[0], report)
    if made.model:
        disk.write(model, made.model.encode())
    return made


class _Keeping:
    """Keeps the work so far from time to time."""

    def __init__(self, part: Path, command: dict[str, Any]) -> None:
        self.part, self.command, self.last = part, command, time.monotonic()

    def __call__(self, draft: Draft) -> None:
        if time.monotonic() - self.last >= SECONDS:
            kept = {"command": self.command, "place": asdict(draft.keep())}
            json_files.write(self.part / PLACE, kept)
            self.last = time.monotonic()


def _finish(part: Path, draft: Draft, newlines: str, out: Path) -> Facts:
    """Give the store its name, once it is whole."""
    whole = part / WHOLE
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    tokens = draft.translate(store.SPLIT, whole)
    with open(whole / IDS, "r+b", opener=disk.no_links) as file:
        os.fsync(file.fileno())
    if not len(tokens.ids):
        raise ElmanError("there is no text in what was given: give one of some thousand characters")
    training = ends_of(len(tokens.ids), store.SPLIT)[0]
    facts = store.write(whole, store.Text(tokens, draft.tokenizer, newlines, training))
    del tokens  # Windows moves no folder with a file that is mapped
    whole.rename(out)
    disk.keep_names(out.absolute().parent)
    return facts
