"""Lines that a model writes, all different or new: not in the text it was trained on."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from elman.core.data import store
from elman.core.errors import ElmanError, require_at_least, require_at_most
from elman.core.experiments import run
from elman.core.files.mapped import drop_pages
from elman.core.files.paths import exists
from elman.core.model.writing import write
from elman.core.model.writing_options import MAX_SAMPLES, Writing
from elman.core.text import text_files
from elman.core.text.codec import Codec
from elman.core.text.line_blocks import LINE_END, line_blocks
from elman.core.text.tokenizers import with_newlines

MIN_DRAWN = 64  # lines drawn at a time
MAX_DRAWN = 1 << 14
DRAWS_PER_LINE, MORE_DRAWS = 100, 10_000  # before it is given up
CHUNK_IDS = 1 << 20  # of a store that are read at a time

log = logging.getLogger("elman")


class KnownLines:
    """Lines that are not new: those of the text of a run, or of given files.

    The text is read again for each question, so that memory does not grow with it. An ElmanError
    tells of a text that is not where the training found it, or has changed.
    """

    def __init__(self, folder: Path, codec: Codec, files: Sequence[str] = ()) -> None:
        self.codec = codec
        self.paths = [Path(each) for each in files]
        if not files:
            self.paths, sha256 = _texts_of(folder)
            if self._sha256() != sha256:
                raise ElmanError(
                    f"the text that {folder} was trained on has changed: bring it back, or give it "
                    "with --known"
                )

    def _sha256(self) -> str:
        """Digest of the text, as a training takes it."""
        if self.paths[0].is_dir():
            return store.read(self.paths[0]).tokens.sources_sha256[0]
        digest = hashlib.sha256()
        for lines in self._lines():
            digest.update(LINE_END.join([*lines, ""]).encode())
        return digest.hexdigest()

    def among(self, lines: set[str]) -> set[str]:
        """Lines that are known, of some."""
        found: set[str] = set()
        for some in self._lines():
            found |= lines.intersection(some)
        return found

    def _lines(self) -> Iterator[list[str]]:
        """Yield all known lines, some at a time."""
        for path in self.paths:
            if path.is_dir():
                yield from line_blocks(_text_of(path))
            else:
                blocks = with_newlines(text_files.blocks([path]), self.codec.newlines)
                yield from line_blocks(blocks)


def _texts_of(folder: Path) -> tuple[list[Path], str]:
    """Paths of the text that a run was trained on, and its digest."""
    training = run.read_config(folder).training
    if training is None:
        raise ElmanError(f"{folder} does not say which text it was trained on: give --known FILE")
    paths = [Path(text) for text in (training.settings.text, *training.settings.more_texts)]
    for path in paths:
        if not exists(path):
            raise ElmanError(
                f"{path}, which {folder} was trained on, is not there: give --known FILE"
            )
    return paths, training.text_sha256


def _text_of(folder: Path) -> Iterator[str]:
    """Yield the text of a store, some lines at a time."""
    text = store.read(folder)
    codec, ids, rest = text.codec, text.tokens.ids, np.empty(0, np.int64)
    end = codec.line_end
    for start in range(0, len(ids), CHUNK_IDS):
        rest = np.concatenate([rest, ids[start : start + CHUNK_IDS]])
        drop_pages(ids)
        ends = np.flatnonzero(rest == end)
        whole = int(ends[-1]) + 1 if len(ends) else 0
        yield codec.text(rest[:whole].tolist())
        rest = rest[whole:]
    yield codec.text(rest.tolist())


@dataclass(frozen=True)
class LineOptions:
    """Lines to write for each prefix.

    - `number`: number of lines; None for one.
    - `unique`: leave out lines that were written before.
    - `new`: leave out lines that are in the text of the training.
    - `known`: files whose lines are left out instead of the training's.
    """

    number: int | None = None
    unique: bool = False
    new: bool = False
    known: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.known and not self.new:
            raise ElmanError(
                f"known lines matter for new ones, got {self.known[0]} without new: add --new"
            )

    @property
    def any(self) -> bool:
        """True if lines are asked for."""
        return self.number is not None or self.unique or self.new


def write_wanted_lines(
    model: Any, run: Path, prefixes: Sequence[str], asked: Writing, wanted: LineOptions
) -> Iterator[str]:
    """Yield the wanted lines for each prefix, by the model of a run."""
    if asked.n != 1:
        raise ElmanError(
            f"lines are texts for each prefix, got {asked.n} of them, too: leave --n out"
        )
    known = KnownLines(run, model.codec, wanted.known) if wanted.new else None
    number = 1 if wanted.number is None else wanted.number
    return write_lines(model, prefixes, number, asked, wanted.unique, known)


def write_lines(
    model: Any,
    prefixes: Sequence[str],
    number: int,
    asked: Writing,
    unique: bool = False,
    known: KnownLines | None = None,
) -> Iterator[str]:
    """Yield `number` lines for each prefix.

    - `asked`: what is to be written; the first line is drawn with its seed, each next one with one
      more, those that are left out included.
    - `unique`: leave out lines that were written before.
    - `known`: leave out these lines.

    With either, empty lines are left out, since no text of lines has them as sequences.
    """
    if not model.codec.lines:
        raise ElmanError(
            "lines are written by a model of lines, which elman train --lines makes: leave lines, "
            "unique and new out"
        )
    require_at_least(1, lines=number)
    require_at_most(MAX_SAMPLES, lines=number)
    if asked.beams is not None:
        raise ElmanError(f"lines are drawn, got {asked.beams} beams: leave one of them out")
    if not unique and known is None:
        for pieces in write(model, prefixes, replace(asked, n=number)):
            yield "".join(pieces)
        return
    written: set[str] = set()
    for prefix in prefixes:
        seed = asked.seed
        for line, seed in _kept(model, prefix, number, asked, unique, known, written):  # noqa: B007
            yield line
        asked = replace(asked, seed=seed)


def _kept(
    model: Any,
    prefix: str,
    number: int,
    asked: Writing,
    unique: bool,
    known: KnownLines | None,
    written: set[str],
) -> Iterator[tuple[str, int]]:
    """Yield lines that are not left out, each with the seed that follows; fill `written`."""
    found, drawn, most = 0, 0, DRAWS_PER_LINE * number + MORE_DRAWS
    while found < number:
        if drawn >= most:
            log.warning(
                "%d of %d lines that differ were found among %d: use a higher temperature",
                *(found, number, drawn),
            )
            return
        size = min(max(MIN_DRAWN, 2 * (number - found)), MAX_DRAWN, most - drawn)
        texts = write(model, [prefix], replace(asked, n=size, seed=asked.seed + drawn))
        lines = ["".join(pieces) for pieces in texts]
        left_out = known.among(set(lines)) if known else set()
        for place, line in enumerate(lines, 1):
            if not line or line in left_out or (unique and line in written):
                continue
            written.add(line)
            found += 1
            yield line, asked.seed + drawn + place
            if found == number:
                return
        drawn += size
