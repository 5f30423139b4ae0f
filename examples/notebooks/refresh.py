"""Run the notebooks of this folder, or those that are named, and keep their outputs in them.

python examples/notebooks/refresh.py [NOTEBOOK ...]
"""

import sys
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parent
REMOVE_OUTPUT = "remove-output"  # tag of cells whose output is too large for a file, as in MyST
OUTPUTS = {"record_timing": False, "coalesce_streams": True}  # alike in each run, but for pictures


def run(path: Path) -> NotebookNode:
    """Run a notebook in a temporary folder, and return it with its outputs.

    A cell that fails raises nbclient's CellExecutionError.
    """
    notebook = nbformat.read(path, as_version=4)
    metadata = deepcopy(notebook.metadata)
    with TemporaryDirectory() as folder:
        place = {"metadata": {"path": folder}}
        client = NotebookClient(notebook, timeout=240, resources=place, **OUTPUTS)
        client.execute()
    notebook.metadata = metadata  # without the version of Python
    for cell in notebook.cells:
        if REMOVE_OUTPUT in cell.metadata.get("tags", ()):
            cell.outputs = []
    return notebook


def main() -> None:
    """Run the notebooks, and write each."""
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(FOLDER.glob("*.ipynb")):
        nbformat.write(run(path), path)
        print(path)


if __name__ == "__main__":
    main()
