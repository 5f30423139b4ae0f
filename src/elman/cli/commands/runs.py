"""`elman runs`: the runs in a folder."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from elman.cli.options import PATH, Json
from elman.cli.output import print_json, show
from elman.errors import ElmanError


def runs(
    folder: Annotated[
        Path, typer.Argument(help="Folder, searched with the folders in it.", **PATH)
    ] = Path("runs"),
    as_json: Json = False,
) -> None:
    """List the runs in a folder and their bits per character."""
    from elman.runs import run_folder
    from elman.runs.results import result
    from elman.runs.runs import in_folder, readable
    from elman.runs.table import overview

    if not folder.is_dir():
        raise ElmanError(f"there is no folder {folder}: give one that has runs")
    found = list(in_folder(folder))
    unfinished = [path for path in found if run_folder.is_unfinished(path)]
    results = [result(*each) for each in readable(sorted({*found} - {*unfinished}))]
    if as_json:
        names = [str(path) for path in unfinished]
        print_json({"runs": [asdict(each) for each in results], "in_training": names})
        return
    if results:
        print(overview(results))
    for path in unfinished:
        show(f"{path}  in training: elman train --resume {path}")
    if not found:
        show(f"no run is in {folder}")
