"""`elman runs`: the runs in a folder."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from elman.cli.options import PATH, Json
from elman.cli.output import print_json, show
from elman.core.errors import ElmanError


def runs(
    folder: Annotated[
        Path, typer.Argument(help="A folder, searched with the folders in it.", **PATH)
    ] = Path("runs"),
    as_json: Json = False,
) -> None:
    """List the runs in a folder, with their bits per character."""
    from elman.core.experiments import run
    from elman.core.experiments.results import result
    from elman.core.experiments.runs import in_folder
    from elman.core.experiments.table import overview

    if not folder.is_dir():
        raise ElmanError(f"there is no folder {folder}: give one that has runs")
    found = list(in_folder(folder))
    finished = [path for path in found if not run.is_unfinished(path)]
    results = [result(path, run.read_config(path), run.read_history(path)) for path in finished]
    if as_json:
        unfinished = [str(path) for path in found if path not in finished]
        print_json({"runs": [asdict(each) for each in results], "in_training": unfinished})
        return
    if results:
        print(overview(results))
    for path in found:
        if path not in finished:
            show(f"{path}  in training: elman train --resume {path}")
    if not found:
        show(f"no run is in {folder}")
