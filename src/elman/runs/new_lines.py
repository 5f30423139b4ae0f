"""Generated lines that are all different, or new: not in the training text."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from elman.data import store
from elman.errors import ElmanError, require_at_least, require_at_most
from elman.files.memory import chunks
from elman.files.paths import exists
from elman.inference.writing import write
from elman.inference.writing_options import MAX_SAMPLES, Writing
from elman.runs import run
from elman.terms import Option
from elman.text import text_files
from elman.text.codec import Codec
from elman.text.text_files import LINE_END, nonempty_lines
from elman.text.tokenizers import with_newlines

MIN_DRAWN = 64  # lines drawn at a time
MAX_DRAWN = 1 << 14
DRAWS_PER_LINE, MORE_DRAWS = 100, 10_000  # limit before giving up
CHUNK_IDS = 1 << 20  # of a store, read at a time

log = logging.getLogger("elman")


class KnownLines:
    """Known lines: from the training text of a run, or from given files.

    The text is read again for each query, so that memory does not grow with it. Raises an
    ElmanError if the text has moved or changed since the training.
    """

    def __init__(self, folder: Path, codec: Codec, files: Sequence[str] = ()) -> None:
        self.codec = codec
        self.paths = [Path(each) for each in files]
        if not files:
            self.paths, sha256 = _texts_of(folder)
            if self._sha256() != sha256:
                raise ElmanError(
                    f"the training text of {folder} has changed: restore it, or give it with ",
                    Option("known"),
                )

    def _sha256(self) -> str:
        """Digest of the text, computed as in a training."""
        if self.paths[0].is_dir():
            return store.read(self.paths[0]).sources_sha256[0]
        digest = hashlib.sha256()
        for lines in self._lines():
            digest.update(LINE_END.join([*lines, ""]).encode())
        return digest.hexdigest()

    def among(self, lines: set[str]) -> set[str]:
        """Known lines among some lines."""
        found: set[str] = set()
        for some in self._lines():
            found |= lines.intersection(some)
        return found

    def _lines(self) -> Iterator[list[str]]:
        """Yield all known lines in chunks."""
        for path in self.paths:
            if path.is_dir():
                yield from nonempty_lines(_text_of(path))
            else:
                blocks = with_newlines(text_files.blocks([path]), self.codec.newlines)
                yield from nonempty_lines(blocks)


def _texts_of(folder: Path) -> tuple[list[Path], str]:
    """Paths and digest of the text that a run was trained on."""
    training, known_file = run.read_config(folder).training, Option("known", "FILE")
    if training is None:
        raise ElmanError(f"{folder} does not record its training text: give ", known_file)
    paths = [Path(text) for text in (training.settings.text, *training.settings.more_texts)]
    for path in paths:
        if not exists(path):
            raise ElmanError(
                f"the training text {path} of {folder} does not exist: give ", known_file
            )
    return paths, training.text_sha256


def _text_of(folder: Path) -> Iterator[str]:
    """Yield the text of a store, some lines at a time."""
    tokens = store.read(folder)
    codec, ids, rest = tokens.codec, tokens.ids, np.empty(0, np.int64)
    end = codec.line_end
    for some in chunks(ids, CHUNK_IDS):
        rest = np.concatenate([rest, some])
        ends = np.flatnonzero(rest == end)
        whole = int(ends[-1]) + 1 if len(ends) else 0
        yield codec.text(rest[:whole].tolist())
        rest = rest[whole:]
    yield codec.text(rest.tolist())


@dataclass(frozen=True)
class LineOptions:
    """Lines to write for each prefix.

    - `number`: number of lines; None for one.
    - `unique`: omit lines that were written before.
    - `new`: omit lines of the training text.
    - `known`: files whose lines are omitted instead of the training text's.
    """

    number: int | None = None
    unique: bool = False
    new: bool = False
    known: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.known and not self.new:
            raise ElmanError(
                Option("known"),
                " requires ",
                Option("new"),
                f", got known {self.known[0]} without it: add ",
                Option("new"),
            )

    @property
    def any(self) -> bool:
        """True if lines are requested."""
        return self.number is not None or self.unique or self.new


def write_wanted_lines(
    model: Any, run: Path, prefixes: Sequence[str], asked: Writing, wanted: LineOptions
) -> Iterator[str]:
    """Yield the requested lines for each prefix, from a run's model."""
    if asked.n != 1:
        n = Option("n")
        raise ElmanError(
            Option("lines"), " conflicts with ", n, f", got n {asked.n}: leave ", n, " out"
        )
    _check_lines(model)
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

    - `asked`: what to write. The first line uses its seed, and each further draw the next seed;
      omitted lines count, too.
    - `unique`: omit lines that were written before.
    - `known`: omit these lines.

    With either of them, empty lines are omitted, because no text of lines contains them.
    """
    _check_lines(model)
    require_at_least(1, lines=number)
    require_at_most(MAX_SAMPLES, lines=number)
    if asked.beams is not None:
        raise ElmanError(
            f"lines conflict with beams, got beams {asked.beams}: leave one of them out"
        )
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


def _check_lines(model: Any) -> None:
    if not model.codec.lines:
        raise ElmanError(
            "lines, unique and new require a model of lines: train one with ",
            Option("lines"),
            ", or leave them out",
        )


def _kept(
    model: Any,
    prefix: str,
    number: int,
    asked: Writing,
    unique: bool,
    known: KnownLines | None,
    written: set[str],
) -> Iterator[tuple[str, int]]:
    """Yield lines that are not omitted, each with the next seed; fill `written`."""
    found, drawn, most = 0, 0, DRAWS_PER_LINE * number + MORE_DRAWS
    while found < number:
        if drawn >= most:
            log.warning(
                "found %d of %d different lines in %d draws: use a higher temperature",
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
