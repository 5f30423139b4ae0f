"""Curves as files: drawn with nobody's settings, and never at a run's expense."""

import math
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread

from elman.book.plotting import Point
from elman.errors import MachineError
from elman.training.curve_files import (
    Scales,
    comparison,
    curves,
    save,
    save_comparison,
    save_curves,
)
from elman.training.history import Epoch
from tests.conftest import QUICK, Command

TRAINING = [Point(1, 9), Point(2, 8)]
HISTORY = [Epoch(1, 2.5, 2.25, 1, 66), Epoch(2, 2.0, 1.75, 1, 132), Epoch(3, 1.5, 2.0, 1, 198)]
SPOILT = {"text.usetex": True, "font.size": 1e9, "axes.prop_cycle": mpl.cycler("color", [])}
PLAIN = Scales()


def test_a_picture_holds_what_its_figure_shows_and_a_margin(tmp_path: Path) -> None:
    figure = Figure(figsize=(2, 1))
    figure.add_axes((0, 0, 1, 1)).set(xticks=[], yticks=[])
    inside, outside = tmp_path / "inside.png", tmp_path / "outside.png"
    save(figure, inside)
    figure.text(2, 0.5, "x")
    save(figure, outside)
    (_, narrow, _), (_, wide, _) = (imread(path).shape for path in (inside, outside))
    assert narrow == pytest.approx((2 + 2 * 0.1) * 150, abs=4)  # 150 dots per inch
    assert wide > 4 * 150


def test_the_users_settings_change_no_picture_and_are_not_changed(tmp_path: Path) -> None:
    pictures = []
    for settings in ({}, SPOILT):
        with mpl.rc_context(settings):
            before = dict(mpl.rcParams)
            save_curves(tmp_path, HISTORY)
            assert dict(mpl.rcParams) == before
        pictures.append((tmp_path / "curves.png").read_bytes())
    assert pictures[0] == pictures[1]
    assert pictures[0].startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "curves.svg").read_bytes()[:500]


def test_a_picture_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # where no LaTeX is
    with pytest.raises(MachineError) as error:
        save_comparison(tmp_path / "a.pgf", {"run": (TRAINING, [])}, "perplexity")
    assert str(error.value).startswith(f"cannot draw {tmp_path}/a.pgf: ")
    assert "\n" not in str(error.value)


def drawn(history: list[Epoch], scales: Scales = PLAIN) -> Axes:
    (axes,) = curves(history, scales).axes
    axes.figure.draw_without_rendering()  # which places the axis on the right
    return axes


@pytest.mark.parametrize(
    ("scales", "points", "label", "best"),
    [
        (PLAIN, [(1, 2.25), (2, 1.75), (3, 2)], "epoch", "epoch 2, 1.750 nats, perplexity 5.75"),
        (
            Scales(by_time=True),
            [(1.1, 2.25), (2.2, 1.75), (3.3, 2)],
            "minutes",
            "2:12 minutes, 1.750 nats, perplexity 5.75",
        ),
        (
            Scales(bits=(lambda loss: 2 * loss, lambda loss: 4 * loss)),
            [(1, 9), (2, 7), (3, 8)],
            "epoch",
            "epoch 2, 7.000 bits per character",
        ),
    ],
    ids=["epochs", "minutes", "bits"],
)
def test_the_curves_of_a_run_mark_its_best_row(
    scales: Scales, points: list[tuple[float, float]], label: str, best: str
) -> None:
    axes = drawn(HISTORY, scales)
    training, *lines = [line.get_xydata() for line in axes.lines]
    assert training[:, 1].tolist() == ([5, 4, 3] if scales.bits else [2.5, 2, 1.5])
    for found, wanted in zip(lines, (points, points[1:2]), strict=True):
        np.testing.assert_allclose(found, wanted)
    legend = axes.get_legend()
    assert legend is not None
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["training", "validation", f"best: {best}"]
    assert legend.get_window_extent().y0 >= axes.get_window_extent().y1  # it covers no curve
    assert axes.get_xlabel() == label
    unit = "bits per character" if scales.bits else "nats per token"
    assert axes.get_ylabel() == f"loss in {unit}"
    assert len(axes.child_axes) == (scales.bits is None)  # perplexities would be of tokens


@pytest.mark.parametrize("lowest", [0.1, 1, 9])
@pytest.mark.parametrize("factor", [1, 1.001, 5, 100])
def test_perplexities_have_ticks_whatever_their_range(lowest: float, factor: float) -> None:
    losses = np.log(np.array([lowest * factor, lowest]) + 1)
    axes = drawn([Epoch(1, *losses, 1, 1)])
    (right,) = axes.child_axes
    assert right.get_ylabel() == "perplexity"
    ends = right.get_ylim()
    assert ends == pytest.approx(np.exp(axes.get_ylim()))
    assert 2 <= len([tick for tick in right.get_yticks() if ends[0] <= tick <= ends[1]]) <= 12


@pytest.mark.parametrize("lowest", [0.00049, 0.0])
def test_a_loss_near_0_is_read_on_a_logarithmic_axis(lowest: float) -> None:
    losses = [(2.0, 1.0), (0.01, 0.001), (0.01, lowest)]
    axes = drawn([Epoch(n, *both, 1, n) for n, both in enumerate(losses, 1)])
    bottom, top = axes.get_ylim()
    assert axes.get_yscale() == "log"
    assert 0 < bottom < (lowest or 0.001) < 2 < top
    best = axes.get_legend().get_texts()[-1].get_text()
    assert best.startswith(f"best: epoch 3, {lowest:g} nats")
    assert not axes.child_axes  # perplexities near 1 look alike


@pytest.mark.parametrize(("losses", "lines"), [((2.0, math.nan), 2), ((400.0, 300.0), 3)])
def test_a_run_without_validation_or_with_large_losses_is_drawn_too(
    losses: tuple[float, float], lines: int
) -> None:
    axes = drawn([Epoch(1, *losses, 1, 1)])
    assert (len(axes.lines), len(axes.child_axes)) == (lines, 0)


@pytest.mark.parametrize("runs", [1, 2, 34])
def test_the_curves_of_many_runs_can_be_told_apart(runs: int) -> None:
    (axes,) = comparison({f"run-{n}": (TRAINING, TRAINING) for n in range(runs)}, "").axes
    lines = axes.lines[1::2]
    assert len({to_hex(line.get_color()) for line in lines}) == runs
    assert 1 <= max(line.get_linewidth() for line in lines) <= 7
    axes.figure.canvas.draw()
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_window_extent().x0 >= axes.get_window_extent().x1  # covers no curve


def test_no_matplotlibrc_is_read(
    elman_process: Command, story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "user").mkdir()
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "user"))  # where it makes its cache anew
    for folder in (tmp_path, tmp_path / "user"):
        (folder / "matplotlibrc").write_bytes(b"text.usetex: True\nfont.size: 1e9\nx: \xff\n")
    done = elman_process("train", story, *QUICK, "--out", "run")
    assert (done.returncode, done.stderr.count("\n")) == (0, 2), done.stderr  # a line an epoch
    assert (tmp_path / "run" / "curves.png").exists()


def test_a_run_and_a_table_need_no_picture(
    elman_process: Command, story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken" / "matplotlib"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('out of ink')")
    monkeypatch.setenv("PYTHONPATH", str(broken.parent), prepend=":")
    words = ("--framework", f"numpy={sys.executable}", "--out", "runs")
    trained = elman_process("train", story, *QUICK, *words)
    assert trained.returncode == 0
    line = "elman: cannot draw {}: out of ink"
    assert [each for each in trained.stderr.splitlines() if each.startswith("elman: ")] == [
        line.format("curves.svg") + "; the rest of the run is saved",
        line.format("runs/curves.png"),
    ]
    assert (tmp_path / "runs" / "numpy" / "config.json").exists()
    compared = elman_process("compare", "runs/numpy", "--plot", "both.png")
    assert compared.returncode == 1
    assert compared.stdout.splitlines()[-1].startswith("runs/numpy")
    assert compared.stderr == line.format("both.png") + "\n"
