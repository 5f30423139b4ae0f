"""Run directories, found in folders."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from elman.core.errors import ElmanError
from elman.core.experiments import run
from elman.core.files.paths import exists, os_error

MAX_DEPTH = 4  # of folders in a folder: sweeps/TEXT/trials/RUN
log = logging.getLogger("elman")


def in_folder(folder: Path, depth: int = MAX_DEPTH) -> Iterator[Path]:
    """Yield the run directories in a folder, finished or not, and in its folders, by name.

    Hidden folders, links and the folders of runs are not entered.
    """
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise os_error("read", folder, error) from error
    for path in inside:
        if path.name.startswith(".") or path.is_symlink() or not path.is_dir():
            continue
        if is_run(path):
            yield path
        elif depth > 1:
            yield from in_folder(path, depth - 1)


def is_run(path: Path) -> bool:
    """True for a run directory, finished or not."""
    return exists(path / run.CONFIG) or exists(path / run.TRAINING)


def finished(paths: Sequence[Path]) -> list[Path]:
    """Finished runs that are named, or in a folder that is named; a notice names all else.

    An ElmanError is raised if there is none, or for a path that does not exist.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not exists(path):
            run.read_config(path)  # raises
        inside = [path] if not path.is_dir() or is_run(path) else list(in_folder(path))
        for each in inside:
            if exists(each / run.CONFIG):
                found[each] = None
            elif is_run(each):
                log.info("%s is passed over: it is still in training", each)
            else:
                log.info("%s is passed over: it is not a run directory", each)
        if not inside:
            log.info("%s is passed over: no run is in it", path)
    if not found:
        raise ElmanError("no finished run was named: give runs, or a folder of runs")
    return list(found)
