"""The notebook of first steps; its last steps need the server."""

import re
from pathlib import Path

import nbformat
import pytest
from examples.notebooks.refresh import FOLDER, run

MINUTES = re.compile(r"minutes=0\.(\d)")


@pytest.mark.filterwarnings("ignore")  # of the notebook's machinery
def test_the_first_steps_run_in_a_tenth_of_their_time(tmp_path: Path) -> None:
    """Each cell's output depends on the texts of the Python that runs it."""
    notebook = nbformat.read(FOLDER / "first-steps.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:
        cell.source = MINUTES.sub(r"minutes=0.0\1", cell.source)
    assert "".join(cell.source for cell in code).count("minutes=0.0") == 2
    nbformat.write(notebook, tmp_path / "first-steps.ipynb")
    again = run(tmp_path / "first-steps.ipynb")
    assert [_shown(cell) for cell in again.cells if cell.cell_type == "code"] == [
        _shown(cell) for cell in code
    ]


def _shown(cell: nbformat.NotebookNode) -> int:
    """Number of a cell's outputs that are not empty. A message that was removed leaves one."""
    return sum(output.get("data") != {"text/plain": ""} for output in cell.outputs)
