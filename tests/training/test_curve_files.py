"""Curves as files: drawn with nobody's settings, and never at a run's expense."""

import math
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

CURVES = {"training": [Point(1, 9), Point(2, 8)]}
HISTORY = [Epoch(1, 2.5, 2.25, 1, 1), Epoch(2, 2.0, 1.75, 1, 2), Epoch(3, 1.5, 2.0, 1, 3)]
SPOILT = {"text.usetex": True, "font.size": 1e9, "axes.prop_cycle": mpl.cycler("color", [])}


def test_curves_are_written_as_svg_and_png(tmp_path: Path) -> None:
    save_curves(tmp_path, HISTORY)
    assert b"<svg" in (tmp_path / "curves.svg").read_bytes()[:500]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


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


def test_a_picture_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # where no LaTeX is
    with pytest.raises(MachineError) as error:
        save_comparison(tmp_path / "a.pgf", {"run": (CURVES["training"], [])}, "perplexity")
    assert str(error.value).startswith(f"cannot draw {tmp_path}/a.pgf: ")
    assert "\n" not in str(error.value)


PLAIN = Scales()


def drawn(history: list[Epoch], scales: Scales = PLAIN) -> Axes:
    (axes,) = curves(history, scales).axes
    axes.figure.draw_without_rendering()  # which places the axis on the right
    return axes


def test_the_curves_of_a_run_mark_its_best_epoch_in_nats_and_as_a_perplexity() -> None:
    axes = drawn(HISTORY)
    *lines, best = [line.get_xydata().tolist() for line in axes.lines]
    assert lines == [[[1, 2.5], [2, 2], [3, 1.5]], [[1, 2.25], [2, 1.75], [3, 2]]]
    assert best == [[2, 1.75]]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["training", "validation", "best: epoch 2, 1.750 nats, perplexity 5.75"]
    (right,) = axes.child_axes
    assert (axes.get_ylabel(), right.get_ylabel()) == ("loss in nats per token", "perplexity")
    assert right.get_ylim() == pytest.approx(np.exp(axes.get_ylim()))


def test_a_training_by_time_is_drawn_over_its_minutes() -> None:
    rows = [Epoch(n, 3 - n / 4, 3 - n / 8, 1, 66.0 * n) for n in (1, 2, 3)]
    axes = drawn(rows, Scales(by_time=True))
    *lines, best = [line.get_xydata().tolist() for line in axes.lines]
    assert lines[1] == [[1.1, 2.875], [2.2, 2.75], [pytest.approx(3.3), 2.625]]
    assert axes.get_xlabel() == "minutes"
    label = axes.get_legend().get_texts()[-1].get_text()
    assert label == "best: 3:18 minutes, 2.625 nats, perplexity 13.80"
    assert best[0] == lines[1][2]


def test_losses_of_tokens_that_are_no_characters_are_in_bits_per_character() -> None:
    axes = drawn(HISTORY, Scales(bits=(lambda loss: 2 * loss, lambda loss: 4 * loss)))
    assert axes.lines[0].get_ydata().tolist() == [5, 4, 3]
    assert axes.lines[1].get_ydata().tolist() == [9, 7, 8]
    assert axes.get_ylabel() == "loss in bits per character"
    assert axes.get_legend().get_texts()[-1].get_text() == "best: epoch 2, 7.000 bits per character"
    assert not axes.child_axes  # perplexities would be of tokens


@pytest.mark.parametrize("by_time", [False, True])
def test_a_legend_covers_no_curve(by_time: bool) -> None:
    axes = drawn(HISTORY, Scales(by_time))
    axes.figure.canvas.draw()
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_window_extent().y0 >= axes.get_window_extent().y1


@pytest.mark.parametrize("lowest", [0.1, 1, 9])
@pytest.mark.parametrize("factor", [1, 1.001, 5, 100])
def test_perplexities_have_ticks_whatever_their_range(lowest: float, factor: float) -> None:
    losses = np.log(np.array([lowest * factor, lowest]) + 1)
    (right,) = drawn([Epoch(1, *losses, 1, 1)]).child_axes
    ends = right.get_ylim()
    assert 2 <= len([tick for tick in right.get_yticks() if ends[0] <= tick <= ends[1]]) <= 12


@pytest.mark.parametrize("lowest", [0.00049, 0.0])
def test_a_loss_near_0_is_read_on_a_logarithmic_axis(lowest: float) -> None:
    axes = drawn(
        [Epoch(1, 2.0, 1.0, 1, 1), Epoch(2, 0.01, 0.001, 1, 2), Epoch(3, 0.01, lowest, 1, 3)]
    )
    bottom, top = axes.get_ylim()
    assert axes.get_yscale() == "log"
    assert 0 < bottom < (lowest or 0.001) < 2 < top
    assert (
        axes.get_legend().get_texts()[-1].get_text().startswith(f"best: epoch 3, {lowest:g} nats")
    )
    assert not axes.child_axes  # perplexities near 1 look alike


@pytest.mark.parametrize("losses", [(2.0, math.nan), (400.0, 300.0)])
def test_a_run_without_validation_or_with_large_losses_is_drawn_too(
    losses: tuple[float, float],
) -> None:
    axes = drawn([Epoch(1, *losses, 1, 1)])
    assert not axes.child_axes
    assert len(axes.lines) == (2 if math.isnan(losses[1]) else 3)


@pytest.mark.parametrize("runs", [1, 2, 34])
def test_the_curves_of_many_runs_can_be_told_apart(runs: int) -> None:
    both = (CURVES["training"],) * 2
    (axes,) = comparison({f"run-{number}": both for number in range(runs)}, "").axes
    lines = axes.lines[1::2]
    assert len({to_hex(line.get_color()) for line in lines}) == runs
    assert sorted((line.get_linewidth() for line in lines), reverse=True)[0] <= 7
    axes.figure.canvas.draw()
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_window_extent().x0 >= axes.get_window_extent().x1  # covers no curve


@pytest.mark.parametrize("content", [b"text.usetex: True\nfont.size: 1e9\nx: y\n", b"\xff\xfe"])
def test_no_matplotlibrc_is_read(
    elman_process: Command,
    story: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
) -> None:
    (tmp_path / "user").mkdir()
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "user"))  # where it makes its cache anew
    for folder in (tmp_path, tmp_path / "user"):
        (folder / "matplotlibrc").write_bytes(content)
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
    trained = elman_process("train", story, *QUICK, "--framework", "numpy,numba", "--out", "runs")
    assert trained.returncode == 0
    rows = [line.split()[0] for line in trained.stdout.splitlines() if line.startswith("runs/")]
    assert rows[-2:] == ["runs/numpy", "runs/numba"]
    messages = [line for line in trained.stderr.splitlines() if line.startswith("elman: ")]
    line = "elman: cannot draw {}: out of ink"
    run = line.format("curves.svg") + "; the rest of the run is saved"
    assert messages == [run, run, line.format("runs/curves.png")]
    assert (tmp_path / "runs" / "numba" / "config.json").exists()
    compared = elman_process("compare", "runs/numpy", "--plot", "both.png")
    assert compared.returncode == 1
    assert compared.stdout.splitlines()[-1].startswith("runs/numpy")
    assert compared.stderr == line.format("both.png") + "\n"
