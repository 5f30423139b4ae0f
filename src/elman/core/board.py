"""Curves: live in a notebook, a file elsewhere. Matplotlib is loaded when something is drawn."""

import io
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from elman.core import disk
from elman.core.errors import ElmanError, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SECONDS_BETWEEN_DRAWINGS = 0.4


class Point(NamedTuple):
    """A point of a curve."""

    x: float
    y: float


def notebook() -> Any:
    """The IPython shell of the notebook that runs this code, or None where it is no notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell if hasattr(shell, "kernel") else None


class ProgressBoard:
    """Curves that grow point by point; in a notebook they are drawn in place, elsewhere only kept.

    The arguments are d2l's. `data` maps a label to its points so far.
    """

    def __init__(
        self,
        xlabel: str | None = None,
        ylabel: str | None = None,
        xlim: Sequence[float] | None = None,
        ylim: Sequence[float] | None = None,
        xscale: str = "linear",
        yscale: str = "linear",
        ls: Sequence[str] = ("-", "--", "-.", ":"),
        colors: Sequence[str] = ("C0", "C1", "C2", "C3"),
        fig: "Figure | None" = None,
        axes: "Axes | None" = None,
        figsize: tuple[float, float] = (3.5, 2.5),
        display: bool = True,
    ) -> None:
        self.xlabel, self.ylabel = xlabel, ylabel
        self.xlim, self.ylim = xlim, ylim
        self.xscale, self.yscale = xscale, yscale
        self.ls, self.colors = ls, colors
        self.fig, self.axes, self.figsize = fig, axes, figsize
        self.display = display
        self.raw_points: dict[str, list[Point]] = {}
        self.data: dict[str, list[Point]] = {}
        self._handle: Any = None
        self._cell: int | None = None
        self._drawn_at = -SECONDS_BETWEEN_DRAWINGS
        self._stale = False

    def draw(self, x: float, y: float, label: str, every_n: int = 1) -> None:
        """Add to the curve `label` the mean of every `every_n` points."""
        waiting = self.raw_points.setdefault(label, [])
        line = self.data.setdefault(label, [])
        waiting.append(Point(x, y))
        if len(waiting) < every_n:
            return
        line.append(Point(*(sum(values) / len(values) for values in zip(*waiting, strict=True))))
        waiting.clear()
        if self.display and (shell := notebook()):
            self._draw_now_or_later(shell)

    def _draw_now_or_later(self, shell: Any) -> None:
        if time.monotonic() - self._drawn_at >= SECONDS_BETWEEN_DRAWINGS:
            self._show()
        elif not self._stale:
            self._stale = True
            shell.events.register("post_run_cell", self._finish)  # what the pause held back

    def _finish(self, *_: Any) -> None:
        notebook().events.unregister("post_run_cell", self._finish)
        self._show()

    def _show(self) -> None:
        from IPython.display import SVG, display

        picture = io.BytesIO()
        self.figure().savefig(picture, format="svg", bbox_inches="tight")
        image = SVG(picture.getvalue())
        cell = notebook().execution_count
        if self._handle is None or self._cell != cell:
            self._handle, self._cell = display(image, display_id=True), cell
        else:
            self._handle.update(image)
        self._drawn_at = time.monotonic()
        self._stale = False

    def figure(self) -> "Figure":
        """The curves as a Matplotlib figure."""
        from matplotlib.figure import Figure

        if self.fig is None:
            self.fig = Figure(figsize=self.figsize)
        if self.axes is None:
            self.axes = self.fig.subplots()
        axes = self.axes
        axes.clear()
        for (label, line), ls, color in zip(self.data.items(), self.ls, self.colors, strict=False):
            x, y = [point.x for point in line], [point.y for point in line]
            axes.plot(x, y, linestyle=ls, color=color, label=label)
        axes.set(xscale=self.xscale, yscale=self.yscale)
        axes.set(xlabel=self.xlabel or "x", ylabel=self.ylabel or "")
        if self.xlim:
            axes.set_xlim(*self.xlim)
        if self.ylim:
            axes.set_ylim(*self.ylim)
        if self.data:
            axes.legend()
        return self.fig


def save_curves(
    folder: Path, curves: Mapping[str, Sequence[Point]], xlabel: str, ylabel: str
) -> None:
    """Write `curves.svg` and `curves.png`, one line for each curve, into `folder`."""
    board = ProgressBoard(xlabel, ylabel, figsize=(6, 4))
    board.data = {label: list(points) for label, points in curves.items()}
    figure = board.figure()
    figure.axes[0].grid(alpha=0.3)
    for suffix in ("svg", "png"):
        _save(figure, folder / f"curves.{suffix}")


def check_picture(path: Path) -> None:
    """Raise an ElmanError unless a picture can have this name."""
    from matplotlib.figure import Figure

    known = Figure().canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise ElmanError(f"cannot write {path}: a picture's name ends with .{', .'.join(known)}")


def _save(figure: "Figure", path: Path) -> None:
    """Write a figure in the format that the path's ending names."""
    picture = io.BytesIO()
    form = path.suffix[1:].lower()
    figure.savefig(picture, format=form, bbox_inches="tight", dpi=150)
    disk.write(path, picture.getvalue())


def save_comparison(
    path: Path, curves: Mapping[str, tuple[Sequence[Point], Sequence[Point]]]
) -> None:
    """Draw the training and the validation perplexities of some runs into one picture.

    `check_picture` tells whether the path names a format that there is.
    The first lines are the widest, so that lines that lie on each other can all be seen.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4.5))
    axes = figure.subplots()
    for number, (training, validation) in enumerate(curves.values()):
        width = 1 + 1.5 * (len(curves) - 1 - number)
        look: dict[str, Any] = {"color": f"C{number % 10}", "linewidth": width}
        for points, style in ((training, ":"), (validation, "-")):
            axes.plot([p.x for p in points], [p.y for p in points], style, **look)
    axes.set(xlabel="epoch", ylabel="perplexity (dotted: training)", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.grid(alpha=0.3)
    names = [printable(name) for name in curves]  # a run may have any
    for text in axes.legend(axes.lines[1::2], names).get_texts():
        text.set_parse_math(False)
    _save(figure, path)


def use_svg_display() -> None:
    """In a notebook, draw Matplotlib's figures as SVG."""
    if notebook():
        from matplotlib_inline import backend_inline

        backend_inline.set_matplotlib_formats("svg")


def set_figsize(figsize: tuple[float, float] = (3.5, 2.5)) -> None:
    """Set the size in inches of the figures that follow."""
    from matplotlib import pyplot

    use_svg_display()
    pyplot.rcParams["figure.figsize"] = figsize


def plot(
    X: Any,
    Y: Any = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    legend: Sequence[str] = (),
    xlim: Sequence[float] | None = None,
    ylim: Sequence[float] | None = None,
    xscale: str = "linear",
    yscale: str = "linear",
    fmts: Sequence[str] = ("-", "m--", "g-.", "r:"),
    figsize: tuple[float, float] = (3.5, 2.5),
    axes: "Axes | None" = None,
) -> None:
    """Draw one curve or several: `plot(ys)`, `plot(x, ys)` or `plot(xs, ys)`, as in d2l."""
    from matplotlib import pyplot

    if Y is None:
        ys = _curves(X)
        xs: list[Any] = [range(len(y)) for y in ys]
    else:
        xs, ys = _curves(X), _curves(Y)
        xs = xs * len(ys) if len(xs) == 1 else xs
        ys = ys * len(xs) if len(ys) == 1 else ys
    set_figsize(figsize)
    axes = axes or pyplot.gca()
    axes.clear()
    for x, y, fmt in zip(xs, ys, fmts, strict=False):
        axes.plot(x, y, fmt)
    axes.set(xlabel=xlabel or "", ylabel=ylabel or "", xscale=xscale, yscale=yscale)
    if xlim is not None:
        axes.set_xlim(*xlim)
    if ylim is not None:
        axes.set_ylim(*ylim)
    if legend:
        axes.legend(legend)
    axes.grid()


def _curves(values: Any) -> list[Any]:
    """A list of curves, from one curve (numbers) or several (sequences of numbers)."""
    one = getattr(values, "ndim", None) == 1 or not hasattr(values[0], "__len__")
    return [values] if one else list(values)
