"""Curves: kept everywhere, drawn in place in a notebook, written to files by a run."""

from pathlib import Path

import matplotlib as mpl
import nbformat
import pytest
from matplotlib import pyplot
from nbclient import NotebookClient

from elman.core.board import Point, ProgressBoard, plot, save_curves

mpl.use("Agg")


def test_points_are_means_of_every_n() -> None:
    board = ProgressBoard()
    for x in range(5):
        board.draw(x, 10 * x, "line", every_n=2)
    assert board.data == {"line": [Point(0.5, 5), Point(2.5, 25)]}


def test_nothing_pops_up_outside_a_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    board = ProgressBoard()
    board.draw(1, 1, "line")
    assert board.fig is None
    assert capsys.readouterr() == ("", "")


def test_a_figure_shows_every_curve_with_its_label() -> None:
    board = ProgressBoard("epoch", xlim=[0, 3], yscale="log")
    for x in (1, 2):
        board.draw(x, x, "train_ppl")
        board.draw(x, 2 * x, "val_ppl")
    axes = board.figure().axes[0]
    assert [line.get_label() for line in axes.lines] == ["train_ppl", "val_ppl"]
    assert axes.get_xlim() == (0, 3)
    assert (axes.get_xlabel(), axes.get_yscale()) == ("epoch", "log")


def test_curves_are_written_as_svg_and_png(tmp_path: Path) -> None:
    save_curves(tmp_path, {"training": [Point(1, 9), Point(2, 8)]}, "epoch", "perplexity")
    assert b"<svg" in (tmp_path / "curves.svg").read_bytes()[:500]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (([1, 2, 3],), 1),
        (([[1, 2], [3, 4]],), 2),
        (([1, 2], [3, 4]), 1),
        (([1, 2], [[3, 4], [5, 6]]), 2),
        (([[1, 2], [3, 4, 5]], [[3, 4], [5, 6, 7]]), 2),
    ],
)
def test_plot_takes_the_books_arguments(arguments: tuple[list[float], ...], lines: int) -> None:
    plot(*arguments, xlabel="x", legend=["a"] * lines, xlim=[0, 9], yscale="log")
    axes = pyplot.gca()
    assert len(axes.lines) == lines
    assert axes.get_xlabel() == "x"
    pyplot.close("all")


NOTEBOOK = """
from elman.core import board
drawings = 0
show = board.ProgressBoard._show
def counted(self):
    global drawings
    drawings += 1
    show(self)
board.ProgressBoard._show = counted
curves = board.ProgressBoard("epoch")
for x in range(2000):
    curves.draw(x, x * x, "train_ppl")
"""


TRAINING = """
from elman import numpy as d2l
data = d2l.TimeMachine(64, 8, num_train=256, num_val=64)
model = d2l.RNNLM(d2l.RNN(28, 6), 28, lr=1)
d2l.Trainer(3).fit(model, data)
"""


@pytest.mark.filterwarnings("ignore")
def test_fit_draws_both_perplexities_in_the_cell_that_calls_it() -> None:
    cells = [TRAINING, "d2l.Trainer(3).fit(model, data)"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    for cell in notebook.cells:
        (picture,) = cell.outputs
        svg = picture["data"]["image/svg+xml"]
        assert "train_ppl" in svg
        assert "val_ppl" in svg


@pytest.mark.filterwarnings("ignore")  # what the notebook's machinery warns of is not ours
def test_a_notebook_sees_one_picture_that_ends_complete() -> None:
    cells = [NOTEBOOK, "print(drawings, len(curves.fig.axes[0].lines[0].get_xdata()))"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    (picture,) = notebook.cells[0].outputs
    assert "<svg" in picture["data"]["image/svg+xml"]
    drawings, points = map(int, notebook.cells[1].outputs[0]["text"].split())
    assert 2 <= drawings <= 10  # 2,000 points in well under four seconds
    assert points == 2000
