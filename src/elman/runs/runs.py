"""Finding run directories in folders."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from elman.errors import ElmanError
from elman.files.paths import exists, os_error
from elman.runs import records, run, run_folder
from elman.training.history import Epoch

MAX_DEPTH = 4  # of nested folders: sweeps/TEXT/trials/RUN
log = logging.getLogger("elman")


def in_folder(folder: Path, depth: int = MAX_DEPTH) -> Iterator[Path]:
    """Yield the run directories, finished or not, in a folder and its subfolders, by name.

    Hidden folders, links and the folders of runs are not searched.
    """
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise os_error("read", folder, error) from error
    for path in inside:
        if path.name.startswith(".") or path.is_symlink() or not path.is_dir():
            continue
        if run_folder.is_run(path):
            yield path
        elif depth > 1:
            yield from in_folder(path, depth - 1)


class FinishedRun(NamedTuple):
    """A run directory and its contents."""

    folder: Path
    config: records.Config
    history: list[Epoch]


def read(folder: Path) -> FinishedRun:
    """Read a finished run."""
    return FinishedRun(folder, run.read_any_config(folder), run.read_history(folder))


def readable(folders: Iterable[Path]) -> list[FinishedRun]:
    """Read finished runs found in a folder. A warning names each run that cannot be read."""
    found = []
    for folder in folders:
        try:
            found.append(read(folder))
        except ElmanError as error:
            log.warning("%s; skipping it", error)
    return found


def finished(paths: Sequence[Path]) -> list[FinishedRun]:
    """Read the finished runs in these paths: runs, or folders of runs. A notice names the others.

    Raises an ElmanError if there is none, or if a run in `paths` cannot be read.
    """
    found: dict[Path, FinishedRun] = {}
    for path in paths:
        if not exists(path) or exists(path / run_folder.CONFIG):
            runs = [read(path)]
        elif run_folder.is_run(path):
            log.info("skipping %s: it is still in training", path)
            continue
        elif not path.is_dir():
            log.info("skipping %s: it is not a run directory", path)
            continue
        else:
            inside = [each for each in in_folder(path) if exists(each / run_folder.CONFIG)]
            runs = readable(inside)
            if not inside:
                log.info("skipping %s: it contains no finished run", path)
        found |= {each.folder: each for each in runs}
    if not found:
        raise ElmanError("one finished run or more is required: give runs, or a folder of runs")
    return list(found.values())
