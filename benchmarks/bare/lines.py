"""Lines in padded batches, for loops that read many of them at a time."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

Losses = Callable[[np.ndarray, np.ndarray], np.ndarray]


def padded_batches(
    lines: list[np.ndarray], number: int, multiple: int = 1
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices of lines of about the same length, and their ids, (steps + 1, number).

    - `number`: lines in a batch; the last one has lines of zeros, too.
    - `multiple`: number that divides the steps, so that there are few shapes to compile for.
    """
    order = np.argsort([len(line) for line in lines], kind="stable")
    for start in range(0, len(lines), number):
        rows = order[start : start + number]
        steps = -(-(len(lines[rows[-1]]) - 1) // multiple) * multiple
        ids = np.zeros((number, steps + 1), lines[0].dtype)
        for to, row in zip(ids, rows, strict=False):
            to[: len(lines[row])] = lines[row]
        yield rows, np.ascontiguousarray(ids.T)


def losses_of_lines(
    lines: list[np.ndarray], batches: Iterable[tuple[np.ndarray, np.ndarray]], losses: Losses
) -> list[np.ndarray]:
    """The losses of each line's characters but the first.

    - `losses(ids, targets)`: those of a batch, (steps, number), as its arguments.
    """
    found = [np.empty(0)] * len(lines)
    for rows, ids in batches:
        by_line = np.ascontiguousarray(losses(ids[:-1], ids[1:]).T)
        for values, row in zip(by_line, rows, strict=False):
            found[row] = values[: len(lines[row]) - 1]
    return found
