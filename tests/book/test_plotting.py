"""Curves: kept everywhere, drawn in place in a notebook."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import nbformat
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from nbclient import NotebookClient

from elman.book.plotting import EARLIER_ALPHA, Point, ProgressBoard, plot
from elman.errors import ElmanError
from elman.numpy import RNN, RNNLM, TimeMachine, Trainer

mpl.use("Agg")


def test_points_are_means_of_every_n_and_no_figure_is_shown_outside_a_notebook(
    capsys: pytest.CaptureFixture[str],
) -> None:
    board = ProgressBoard()
    for x in range(5):
        board.draw(x, 10 * x, "line", every_n=2)
    assert board.data == {"line": [Point(0.5, 5), Point(2.5, 25)]}
    assert board.fig is None
    assert capsys.readouterr() == ("", "")


def test_a_script_saves_the_curves_of_a_training_in_a_file_that_it_names(tmp_path: Path) -> None:
    trainer = Trainer(1, show_progress=False)
    with pytest.raises(ElmanError, match="no curves before its training: call fit first"):
        trainer.plot()
    trainer.fit(RNNLM(RNN(28, 4), 28, lr=1), TimeMachine(16, 8, num_train=32, num_val=16))
    for name in ("curves.svg", "curves.png"):
        trainer.plot().save(tmp_path / name)
    assert "<!-- val_ppl -->" in (tmp_path / "curves.svg").read_text()
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_shows_every_curve_with_its_label() -> None:
    board = ProgressBoard("epoch", xlim=[0, 3], yscale="log")
    for x in (1, 2):
        board.draw(x, x, "train_ppl")
        board.draw(x, 2 * x, "val_ppl")
    axes = board.figure().axes[0]
    assert [line.get_label() for line in axes.lines] == ["train_ppl", "val_ppl"]
    assert axes.get_xlim() == (0, 3)
    assert (axes.get_xlabel(), axes.get_yscale()) == ("epoch", "log")


def lines(board: ProgressBoard) -> dict[str, Any]:
    """The lines that a board draws, by the label of their axis."""
    return {axes.get_ylabel(): axes.lines for axes in board.figure().axes}


def test_a_curve_of_few_points_shows_them_on_axes_of_the_users_and_one_of_many_is_a_line() -> None:
    figure = Figure()
    board = ProgressBoard(axes=figure.subplots())
    board.draw(1, 1, "one")
    for x in range(20):
        board.draw(x, x, "many")
    assert [line.get_marker() for line in lines(board)[""]] == [".", "None"]
    assert board.figure() is figure


def test_a_second_fit_begins_new_curves_of_the_same_colors() -> None:
    board = ProgressBoard()
    for _ in range(2):
        board.begin()
        for x in range(3):
            board.draw(x, 3 - x, "train_ppl")
            board.draw(x, 4 - x, "val_ppl", every_n=2)  # the third waits, and joins no new curve
    (drawn,) = lines(board).values()
    assert [list(line.get_xdata()) for line in drawn] == [[0, 1, 2]] * 2 + [[0.5]] * 2
    assert [line.get_color() for line in drawn] == ["C0", "C0", "C1", "C1"]
    assert [line.get_alpha() for line in drawn] == [EARLIER_ALPHA, 1, EARLIER_ALPHA, 1]
    legend = board.figure().axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["train_ppl", "val_ppl"]


def test_each_quantity_has_an_axis_of_its_own_and_every_curve_its_look() -> None:
    board = ProgressBoard()
    for x in range(3):
        for label in ("train_ppl", "train_norm", "val_ppl", "val_norm", "train_lr"):
            board.draw(x, 1000 if "ppl" in label else x, label)
    for _ in range(2):  # again, as in a notebook
        drawn = lines(board)
    assert {name: len(found) for name, found in drawn.items()} == {"ppl": 2, "norm": 2, "lr": 1}
    top = board.figure().axes[1].get_ylim()[1]
    assert top < 3  # where a perplexity of 1,000 is not
    looks = {(line.get_color(), line.get_linestyle()) for found in drawn.values() for line in found}
    assert len(looks) == 5


def test_a_drawing_that_fails_in_a_notebook_is_a_warning_and_the_last(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("elman.book.plotting.notebook", lambda: True)
    board = ProgressBoard()
    with mpl.rc_context({"axes.prop_cycle": mpl.cycler("color", [])}):
        for x in range(3):
            board.draw(x, x, "line")
    assert len(board.data["line"]) == 3
    assert caplog.text.count("the curves are not drawn: ") == 1


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
from elman import numpy as d2l
from elman.book.plotting import ProgressBoard
drawings = 0
show = ProgressBoard._show
def counted(self):
    global drawings
    drawings += 1
    show(self)
ProgressBoard._show = counted
"""
MANY = """
curves = ProgressBoard("epoch")
for x in range(2000):
    curves.draw(x, x * x, "train_ppl")
"""
TRAINING = """
data = d2l.TimeMachine(64, 8, num_train=256, num_val=64)
model = d2l.RNNLM(d2l.RNN(28, 6), 28, lr=0.01, optimizer="adam")
d2l.Trainer(3).fit(model, data)
"""
COUNTED = "print(drawings, len(curves.fig.axes[0].lines[0].get_xdata()))"


@pytest.mark.filterwarnings("ignore")  # what the notebook's machinery warns of is not ours
def test_a_cell_of_a_notebook_sees_one_picture_that_ends_complete_with_all_curves() -> None:
    cells = [NOTEBOOK, MANY, COUNTED, TRAINING, "d2l.Trainer(3).fit(model, data)"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    _, many, counted, *trained = (cell.outputs for cell in notebook.cells)
    for outputs in (many, *trained):
        (picture,) = outputs
        assert picture.get("name") is None  # and no lines
        svg = picture["data"]["image/svg+xml"]
        assert "train_ppl" in svg
        assert ("val_ppl" in svg) == (outputs is not many)
    drawings, points = map(int, counted[0]["text"].split())
    assert 2 <= drawings <= 10  # 2,000 points in well under four seconds
    assert points == 2000
