"""Training curves, drawn live in notebooks. Matplotlib is imported on first use."""

import io
import logging
import sys
import time
from collections.abc import Sequence, Sized
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from elman.files.long_work import notebook
from elman.training.curve_files import Point, marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

SECONDS_BETWEEN_DRAWINGS = 0.4
POINTS_BY_TIME = 100  # in a training curve of a training by time
EARLIER_ALPHA = 0.35  # opacity of the curves of earlier fits
AXIS_DISTANCE = 65  # in points, between the axes on the right
log = logging.getLogger("elman")


class Pyplot:
    """Matplotlib's pyplot, which is imported when it is first used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module("matplotlib.pyplot"), name)


plt = Pyplot()


class ProgressBoard:
    """Curves that grow point by point, redrawn in place in a notebook.

    The arguments are d2l's: labels, limits and scales of the axes; line styles and colors, used by
    the curves in turn; Matplotlib's figure and axes; and the size in inches. `display=False` draws
    nothing in place. `data` maps labels to points; `earlier` contains the `data` of each previous
    fit. `minutes` is the length of a training by time; its curves are drawn over minutes.

    Curves named `train_X` and `val_X` show the quantity X. The first quantity is on the left axis;
    each other quantity has a separate axis on the right.
    """

    minutes: float | None = None

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
        self.earlier: list[dict[str, list[Point]]] = []
        self._twins: list[Axes] = []
        self._handle: Any = None
        self._cell: int | None = None
        self._drawn_at = -SECONDS_BETWEEN_DRAWINGS
        self._stale = False

    def __getstate__(self) -> dict[str, Any]:
        """Attributes of a copy or a pickle: all but the notebook's output."""
        shown = {"_handle": None, "_drawn_at": -SECONDS_BETWEEN_DRAWINGS, "_stale": False}
        return {**vars(self), **shown}

    def begin(self) -> None:
        """Begin new curves for a new `fit`; earlier curves become pale."""
        if self.data:
            self.earlier.append(self.data)
        self.data, self.raw_points = {}, {}

    def draw(self, x: float, y: float, label: str, every_n: int = 1) -> None:
        """Add a point to the curve `label`; average every `every_n` points to one."""
        waiting = self.raw_points.setdefault(label, [])
        line = self.data.setdefault(label, [])
        waiting.append(Point(x, y))
        if len(waiting) < every_n:
            return
        line.append(_mean(waiting))
        waiting.clear()
        self._draw_now_or_later()

    def complete(self, prefix: str) -> None:
        """Average the pending points in curves whose label begins with `prefix`."""
        for label, waiting in self.raw_points.items():
            if waiting and label.startswith(prefix):
                self.data[label].append(_mean(waiting))
                waiting.clear()
        self._draw_now_or_later()

    def discard(self, prefix: str) -> None:
        """Drop the pending points in curves whose label begins with `prefix`."""
        for label, waiting in self.raw_points.items():
            if label.startswith(prefix):
                waiting.clear()

    def draw_by_time(self, seconds: float, y: float, label: str) -> None:
        """Add a point in a training by time; points within a hundredth of its time are averaged.

        Points of a validation are averaged by `complete`.
        """
        x = seconds / 60
        part = (self.minutes or x) / POINTS_BY_TIME
        waiting = self.raw_points.get(label)
        ends = waiting and int(x / part) > int(waiting[0].x / part)
        self.draw(x, y, label, 1 if ends and label.startswith("train_") else sys.maxsize)

    def _draw_now_or_later(self) -> None:
        if not (self.display and (shell := notebook())):
            return
        if time.monotonic() - self._drawn_at >= SECONDS_BETWEEN_DRAWINGS:
            self._show()
        elif not self._stale:
            self._stale = True
            shell.events.register("post_run_cell", self._finish)  # draws the last points

    def _finish(self, *_: Any) -> None:
        notebook().events.unregister("post_run_cell", self._finish)
        self._show()

    def _show(self) -> None:
        from IPython.display import SVG, display

        self._drawn_at, self._stale = time.monotonic(), False
        try:
            picture = io.BytesIO()
            self.figure().savefig(picture, format="svg", bbox_inches="tight")
        except Exception as error:  # the user's settings may be invalid
            self.display = False
            log.warning("the curves are not drawn: %s", error)
            return
        image = SVG(picture.getvalue())
        cell = notebook().execution_count
        if self._handle is None or self._cell != cell:
            self._handle, self._cell = display(image, display_id=True), cell
        else:
            self._handle.update(image)
        self._drawn_at = time.monotonic()

    def figure(self) -> "Figure":
        """The curves as a Matplotlib figure."""
        figure, axes = self._cleared()
        axes.set(xscale=self.xscale, yscale=self.yscale)
        axes.set(xlabel=self.xlabel or "x", ylabel=self.ylabel or "")
        labels = list(dict.fromkeys(label for data in self._all() for label in data))
        beside = self._axes_by_quantity(axes, labels)
        lines = [
            self._draw_curves(beside.get(_quantity(label), axes), label, number)
            for number, label in enumerate(labels)
        ]
        if self.xlim:
            axes.set_xlim(*self.xlim)
        if self.ylim:
            axes.set_ylim(*self.ylim)
        if lines:
            above: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 2}
            place = {} if self.minutes is None else above
            (self._twins or [axes])[-1].legend(
                handles=lines, **place
            )  # drawn last, over the curves
        return figure

    def _all(self) -> list[dict[str, list[Point]]]:
        return [*self.earlier, self.data]

    def _cleared(self) -> "tuple[Figure, Axes]":
        """The figure and its cleared left axes."""
        from matplotlib.figure import Figure

        if self.axes is None:
            self.fig = self.fig or Figure(figsize=self.figsize)
            self.axes = self.fig.subplots()
        figure: Any = self.fig or self.axes.figure
        self.fig = figure
        for twin in self._twins:
            twin.remove()
        self._twins = []
        self.axes.clear()
        return figure, self.axes

    def _axes_by_quantity(self, axes: "Axes", labels: Sequence[str]) -> "dict[str | None, Axes]":
        """Axes of each quantity except the first, created on the right."""
        names = [name for name in dict.fromkeys(map(_quantity, labels)) if name]
        beside: dict[str | None, Axes] = {}
        for number, name in enumerate(names[1:]):
            twin = axes.twinx()
            twin.spines["right"].set_position(("outward", AXIS_DISTANCE * number))
            twin.set_ylabel(name)
            self._twins.append(twin)
            beside[name] = twin
        if beside and not self.ylabel:
            axes.set_ylabel(names[0])
        return beside

    def _draw_curves(self, axes: "Axes", label: str, number: int) -> "Line2D":
        """Draw the curves of a label, including earlier fits; return the last, for the legend."""
        ls = self.ls[(number + number // len(self.ls)) % len(self.ls)]
        color = self.colors[number % len(self.colors)]
        curves = [data[label] for data in self._all() if data.get(label)]
        for points in curves or [[]]:
            xy = [point.x for point in points], [point.y for point in points]
            (line,) = axes.plot(
                *xy, linestyle=ls, color=color, marker=marker(points), alpha=EARLIER_ALPHA
            )
        whole = marker(points) is not None and not self.ylim  # do not clip markers at the border
        line.set(alpha=1, label=label, clip_on=not whole)
        return line


def _mean(points: Sequence[Point]) -> Point:
    return Point(*(sum(values) / len(values) for values in zip(*points, strict=True)))


def _quantity(label: str) -> str | None:
    """Quantity of a training curve; None for other curves."""
    for part in ("train_", "val_"):
        if label.startswith(part):
            return label.removeprefix(part)
    return None


def set_figsize(figsize: tuple[float, float] = (3.5, 2.5)) -> None:
    """Set the default size of figures, in inches. Notebooks show them as SVG."""
    if notebook():
        from matplotlib_inline import backend_inline

        backend_inline.set_matplotlib_formats("svg")
    plt.rcParams["figure.figsize"] = figsize


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
    """Plot curves as in d2l: `plot(ys)`, `plot(x, ys)` or `plot(xs, ys)`."""
    if Y is None:
        ys = _curves(X)
        xs: list[Any] = [range(len(y)) for y in ys]
    else:
        xs, ys = _curves(X), _curves(Y)
        xs = xs * len(ys) if len(xs) == 1 else xs
        ys = ys * len(xs) if len(ys) == 1 else ys
    set_figsize(figsize)
    axes = axes or plt.gca()
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
    """List of curves, from one curve (numbers) or several (sequences of numbers)."""
    one = not len(values) or np.ndim(values[0]) == 0
    return [values] if one else list(values)


def show_list_len_pair_hist(
    legend: Sequence[str],
    xlabel: str,
    ylabel: str,
    xlist: Sequence[Sized],
    ylist: Sequence[Sized],
) -> None:
    """Plot a histogram of the lengths of two lists of sequences, side by side."""
    set_figsize()
    _, _, bars = plt.hist([[len(each) for each in lengths] for lengths in (xlist, ylist)])
    for bar in bars[1].patches:
        bar.set_hatch("/")
    plt.xlabel(xlabel)
    plt.ylabel(ylabel)
    plt.legend(legend)
