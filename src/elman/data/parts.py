"""Parts of a text for training, validation and test: shares of one text, or separate files."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elman.errors import ElmanError, is_number
from elman.files.paths import as_path
from elman.text.text_files import check_path

PARTS = ("training", "validation", "test")
Shares = tuple[float, float, float]  # of a text, for the three parts
SPLIT: Shares = (0.8, 0.1, 0.1)
WITH_TEST_FILE: Shares = (0.9, 0.1, 0.0)
ALL_TRAINING: Shares = (1.0, 0.0, 0.0)


@dataclass(frozen=True)
class Sources:
    """Files that the parts of a text are read from.

    - `training`: the text, as files to read in order.
    - `validation`, `test`: files of these parts, or None.
    - `shares`: shares of the text for the parts, in order.
    - `split`: the shares as given, or None for the default.
    """

    training: tuple[Path, ...]
    validation: Path | None = None
    test: Path | None = None
    shares: Shares = SPLIT
    split: Sequence[float] | None = None

    @classmethod
    def of(
        cls,
        path: str | Sequence[str],
        split: Sequence[float] | None = None,
        validation: str | None = None,
        test: str | None = None,
    ) -> "Sources":
        """Validate the path or paths of a text, and of the files of its other parts."""
        single = isinstance(path, str | os.PathLike) or not isinstance(path, Sequence)
        paths = [path] if single else list(path)
        if not paths:
            raise ElmanError("a text must be the path of a UTF-8 file, or several: give one")
        for each in (*paths, *(own for own in (validation, test) if own is not None)):
            check_path(str(each))
        shares = shares_of(split, validation, test)
        return cls(
            tuple(as_path(each, "a text") for each in paths),
            None if validation is None else as_path(validation, "a validation text"),
            None if test is None else as_path(test, "a test text"),
            shares,
            split,
        )

    @property
    def is_store(self) -> bool:
        """True if the text is a folder: a token store."""
        return self.training[0].is_dir()

    @property
    def by_part(self) -> tuple[tuple[Path, ...], ...]:
        """Files of each part; files of the text belong to the training part."""
        others = (() if path is None else (path,) for path in (self.validation, self.test))
        return self.training, *others

    @property
    def files(self) -> tuple[Path, ...]:
        """All files."""
        return tuple(path for paths in self.by_part for path in paths)


def part_ends(tokens: int, shares: Shares) -> tuple[int, int]:
    """Ends of the training and of the validation part in `tokens` tokens."""
    return round(tokens * shares[0]), round(tokens * (shares[0] + shares[1]))


def enough_tokens(each: int, shares: Shares) -> int:
    """Number of tokens of a text whose parts, with these shares, have `each` tokens or more."""
    tokens = int(each / min(share for share in shares if share))
    while min(_sizes(tokens, shares)) < each:
        tokens += 1
    return tokens


def _sizes(tokens: int, shares: Shares) -> list[int]:
    """Tokens of the parts that have a share."""
    first, second = part_ends(tokens, shares)
    sizes = first, second - first, tokens - second
    return [size for size, share in zip(sizes, shares, strict=True) if share]


def shares_of(split: Any, validation: Any = None, test: Any = None) -> Shares:
    """Shares of a text for its parts; validation and test may be separate files.

    `split` has two shares (no test part) or three; None stands for the default. Raises an
    ElmanError if it contradicts the files.
    """
    if split is None:
        if validation is not None:
            return ALL_TRAINING
        return SPLIT if test is None else WITH_TEST_FILE
    shares = list(split) if isinstance(split, Sequence) and not isinstance(split, str) else []
    # NaN compares as false and is thus refused.
    good = len(shares) in (2, 3) and all(map(is_number, shares))
    if not (good and min(shares) > 0 and abs(sum(shares) - 1) <= 1e-9):
        raise ElmanError(f"split must be two or three shares above 0 that sum to 1, got {split!r}")
    if validation is not None:
        raise ElmanError(
            f"with a validation file, the text must be used only for training, got split "
            f"{split!r}: leave it out"
        )
    if test is not None and len(shares) == 3:
        raise ElmanError(
            f"with a test file, split must be two shares, for training and validation, got "
            f"{split!r}: give two"
        )
    return shares[0], shares[1], shares[2] if len(shares) == 3 else 0.0


def parse_split(split: str | None) -> tuple[float, ...] | None:
    """Parse shares separated by commas, as on the command line; None stays None.

    Raises an ElmanError unless there are two or more numbers.
    """
    if split is None:
        return None
    shares: tuple[float, ...] = ()
    with suppress(ValueError, AttributeError):
        shares = tuple(map(float, split.split(",")))
    if len(shares) < 2:
        raise ElmanError(
            f"split must be shares separated by commas, such as 0.9,0.05,0.05, got {split!r}"
        )
    return shares
