"""Curves as pictures and files, drawn with Matplotlib's defaults, regardless of the user's."""

import io
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from elman.errors import ElmanError, MachineError, printable
from elman.files import atomic
from elman.training.history import Epoch, best_epoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LOSS = 50.0  # in nats; for larger losses, no perplexity is shown next to it
NARROW = 20.0  # ratio of the perplexities in a picture, below which ticks are evenly spaced
WIDE = 30.0  # ratio of the losses in a picture, above which their axis is logarithmic
NATS = "loss in nats per token"
MARGIN = 0.1  # in inches, Matplotlib's default around the extent of a figure
ABOVE: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1)}  # position of a legend
STYLES: dict[str, Any] = {"training": ":", "validation": "-"}  # of the lines of a comparison
MAX_EXTRA_WIDTH = 6.0  # in points, of the first line of a comparison over the last


FEW_POINTS = 10  # curves with fewer points have markers; a line of one point would be invisible
DPI = 110  # of a picture in a notebook


class Point(NamedTuple):
    """A point of a curve."""

    x: float
    y: float


def marker(points: Sequence[Point]) -> str | None:
    """Marker for a curve of few points; None for others."""
    return "." if sum(math.isfinite(point.y) for point in points) < FEW_POINTS else None


class Picture:
    """A Matplotlib figure, displayed by notebooks. Change or save `figure` like any other."""

    def __init__(self, figure: "Figure") -> None:
        self.figure = figure

    def save(self, path: str | Path) -> None:
        """Write the picture in the format of the path's extension."""
        check_picture(Path(path))
        save(self.figure, Path(path))

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.figure.savefig(content, format="png", dpi=DPI, bbox_inches="tight")
        return content.getvalue()


def load_matplotlib() -> None:
    """Import Matplotlib without reading a matplotlibrc in the current folder.

    Temporarily changes the current folder, also for other threads: only for the command line.
    """
    found = find_spec("matplotlib") if os.path.exists("matplotlibrc") else None
    if found is not None and found.origin is not None:
        with chdir(Path(found.origin).parent), suppress(Exception):  # drawing reports errors
            import matplotlib  # noqa: F401


@contextmanager
def drawing(path: Path) -> Iterator[None]:
    """Give Matplotlib its defaults within the block, without warnings.

    Any exception in the block becomes a MachineError: `path` cannot be drawn.
    """
    try:
        import matplotlib as mpl

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # missing glyphs, deprecated settings
            own: dict[Any, Any] = dict(mpl.rcParamsDefault)
            del own["backend"]  # rc_context does not reset it
            with mpl.rc_context(own):
                yield
    except ElmanError:
        raise
    except Exception as error:  # fonts and LaTeX raise many kinds
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise MachineError(f"cannot draw {path}: {reason}") from error


def check_picture(path: Path) -> None:
    """Raise an ElmanError if Matplotlib cannot write the format of a path's extension."""
    if not path.parent.is_dir():
        raise ElmanError(f"cannot write {path}: there is no folder {path.parent}")
    with suppress(MachineError), drawing(path):  # drawing reports errors later
        from matplotlib.figure import Figure

        known = Figure().canvas.get_supported_filetypes()
        if path.suffix[1:].lower() not in known:
            raise ElmanError(
                f"cannot write {path}: the extension must be one of .{', .'.join(known)}"
            )


@dataclass(frozen=True)
class Scales:
    """Axes of the curves of a run.

    - `by_time`: plot over minutes instead of epochs.
    - `bits`: functions that convert a training and a validation loss to bits per character; None
      for losses in nats per token.
    """

    by_time: bool = False
    bits: tuple[Callable[[float], float], Callable[[float], float]] | None = None


def save_curves(folder: Path, history: Sequence[Epoch], scales: Scales = Scales()) -> None:
    """Write `curves.svg` and `curves.png` into `folder`: losses by epoch or by minute."""
    with drawing(Path("curves.svg")):  # the folder may still have a temporary name
        save(curves(history, scales), folder / "curves.svg", folder / "curves.png")


def curves(history: Sequence[Epoch], scales: Scales = Scales()) -> "Figure":
    """Losses by epoch or by minute as a figure, with the best marked; perplexities on the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    xs = [place(epoch, scales.by_time) for epoch in history]
    to_train, to_val = scales.bits or (float, float)
    curves = {
        "training": [to_train(epoch.train_loss) for epoch in history],
        "validation": [to_val(epoch.val_loss) for epoch in history],
    }
    for (label, losses), style in zip(curves.items(), ("-", "--"), strict=True):
        points = list(map(Point, xs, losses))
        axes.plot(xs, losses, style, label=label, marker=marker(points))
    best = best_epoch(history)
    if math.isfinite(best.val_loss):
        x, loss = place(best, scales.by_time), to_val(best.val_loss)
        look: dict[str, Any] = {"color": "C1", "markersize": 9, "linestyle": "none"}
        label = f"best: {_best_in_words(best, loss, scales)}"
        axes.plot(x, loss, marker="o", fillstyle="none", label=label, **look)
    axes.set(ylabel="loss in bits per character" if scales.bits else NATS)
    axes.legend(**ABOVE, ncols=1)
    _number_places(axes, scales.by_time)
    positive = [loss for losses in curves.values() for loss in losses if loss > 0]
    if positive and max(positive) > WIDE * min(positive):
        axes.set(yscale="log")
        axes.yaxis.set_major_formatter("{x:g}")
    elif not scales.bits and all(loss <= MAX_LOSS for found in curves.values() for loss in found):
        _add_perplexities(axes)
    return figure


def place(epoch: Epoch, by_time: bool) -> float:
    """Position of an epoch on the horizontal axis: its number, or its minute."""
    return epoch.seconds / 60 if by_time else epoch.epoch


def _best_in_words(best: Epoch, loss: float, scales: Scales) -> str:
    minutes, seconds = divmod(round(best.seconds), 60)
    where = f"{minutes}:{seconds:02} minutes" if scales.by_time else f"epoch {best.epoch}"
    if scales.bits:
        return f"{where}, {loss:.3f} bits per character"
    digits = f"{loss:.3f}" if loss >= 0.1 else f"{loss:.3g}"
    return f"{where}, {digits} nats, perplexity {best.val_ppl:.2f}"


def _add_perplexities(axes: "Axes") -> None:
    """Label the right side of losses with perplexities."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    right = axes.secondary_yaxis("right", functions=(_perplexity, _loss))
    lowest, highest = map(_perplexity, axes.get_ylim())
    narrow = highest < NARROW * lowest
    right.yaxis.set_major_locator(MaxNLocator(8) if narrow else LogLocator(subs=(1, 2, 5)))
    right.yaxis.set_minor_locator(NullLocator())
    right.yaxis.set_major_formatter("{x:g}")
    right.set_ylabel("perplexity")


def _perplexity(losses: Any) -> Any:
    return np.exp(np.minimum(losses, 2 * MAX_LOSS))


def _loss(perplexities: Any) -> Any:
    return np.log(np.maximum(perplexities, np.finfo(float).tiny))


def _number_places(axes: "Axes", by_time: bool) -> None:
    """Label the x axis with minutes, or epochs as integers, and draw a grid."""
    from matplotlib.ticker import MaxNLocator

    axes.grid(alpha=0.3)
    if by_time:
        axes.set_xlabel("minutes")
        axes.set_xlim(left=0)
        return
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def save(figure: "Figure", *paths: Path) -> None:
    """Write a figure, cut or enlarged to what it shows, in the formats of the paths' extensions."""
    # savefig(bbox_inches="tight") would lay the figure out again for each format.
    figure.draw_without_rendering()
    extent = figure.get_tightbbox().padded(MARGIN)
    for path in paths:
        picture = io.BytesIO()
        form = path.suffix[1:].lower()
        figure.savefig(picture, format=form, bbox_inches=extent, dpi=150)
        atomic.write(path, picture.getvalue())


def save_comparison(
    path: Path,
    curves: Mapping[str, tuple[Sequence[Point], Sequence[Point]]],
    unit: str,
    by_time: bool = False,
) -> None:
    """Write a `comparison` to a path; `check_picture(path)` checks the format."""
    with drawing(path):
        save(comparison(curves, unit, by_time), path)


def comparison(
    curves: Mapping[str, tuple[Sequence[Point], Sequence[Point]]],
    unit: str,
    by_time: bool = False,
) -> "Figure":
    """Training and validation curves of several runs, in a `unit`, as a figure.

    `curves` maps the name of a run to both curves, over epochs, or over minutes with `by_time`. The
    first lines are the widest, so that coinciding lines all remain visible. A legend of the runs
    and of the two parts is next to them.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(7, 4.5))
    axes = figure.subplots()
    extra = min(1.5 * (len(curves) - 1), MAX_EXTRA_WIDTH)
    widths = np.linspace(1 + extra, 1, len(curves))
    colors = _colors(len(curves))
    for (training, validation), width, color in zip(curves.values(), widths, colors, strict=True):
        look: dict[str, Any] = {"color": color, "linewidth": width, "markersize": 5 + 2 * width}
        both = zip((training, validation), STYLES.values(), ("none", "full"), strict=True)
        for points, style, fill in both:
            xy = [p.x for p in points], [p.y for p in points]
            axes.plot(*xy, linestyle=style, fillstyle=fill, marker=marker(points), **look)
    axes.set(yscale="log", ylabel=unit)
    _number_places(axes, by_time)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    names = [printable(name) for name in curves]  # names of folders
    parts = [Line2D([], [], color="black", linestyle=style) for style in STYLES.values()]
    lines, names = [*axes.lines[1::2], *parts], [*names, *(f"{part} part" for part in STYLES)]
    legend = axes.legend(lines, names, loc="upper left", bbox_to_anchor=(1, 1))
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _colors(number: int) -> list[Any]:
    """Distinct colors; a spectrum for more than ten."""
    from matplotlib import colormaps

    if number <= 10:
        return [f"C{place}" for place in range(number)]
    return [colormaps["turbo"](place) for place in np.linspace(0, 1, number)]
