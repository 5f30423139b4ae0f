"""Outputs of the notebooks in examples/, those that they hold and those of another run."""

import re

import nbformat
import pytest
from examples.notebooks.refresh import FOLDER, run
from nbformat import NotebookNode

VARIES = "varies"  # tag of cells whose texts depend on the rounding of a processor
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


def assert_fresh(name: str) -> None:
    """Assert that another run of a notebook tells what it holds, but for small differences."""
    path = FOLDER / f"{name}.ipynb"
    kept, again = text_of(nbformat.read(path, as_version=4)), text_of(run(path))
    assert words(again) == words(kept)
    assert numbers(again) == pytest.approx(numbers(kept), rel=0.1, abs=0.02)
    assert "stderr" not in kept


def text_of(notebook: NotebookNode) -> str:
    """What the cells of a notebook print or show, without pictures and what varies."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    fixed = [cell for cell in code if VARIES not in cell.metadata.get("tags", ())]
    return "\n".join(text_of_output(output) for cell in fixed for output in cell.outputs)


def text_of_output(output: NotebookNode) -> str:
    """Text of one output, with the name of the stream that it was written to."""
    if output.output_type == "stream":
        return f"{output.name}: {output.text}"
    return str(output.data["text/plain"])


def words(text: str) -> str:
    """A text with # in place of each number."""
    return NUMBER.sub("#", text)


def numbers(text: str) -> list[float]:
    """The numbers in a text."""
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]
