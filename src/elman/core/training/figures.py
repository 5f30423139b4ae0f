"""Curves as files, drawn as Matplotlib draws by default: nobody's settings change or spoil them."""

import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from elman.core.errors import ElmanError, MachineError, printable
from elman.core.files import atomic
from elman.core.training.plotting import Point, ProgressBoard, marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDEST = 6.0  # points that the first line of a comparison is wider than the last, at most


def load_matplotlib() -> None:
    """Import Matplotlib from its own folder if the current one has a matplotlibrc, which it reads.

    For the command line: other threads would see the folder change.
    """
    found = find_spec("matplotlib") if os.path.exists("matplotlibrc") else None
    if found is not None and found.origin is not None:
        with chdir(Path(found.origin).parent), suppress(Exception):  # told by what draws
            import matplotlib  # noqa: F401


@contextmanager
def drawing(path: Path) -> Iterator[None]:
    """Within the block Matplotlib has its defaults and warns of nothing.

    Whatever fails there is a MachineError in one line: `path` cannot be drawn.
    """
    try:
        import matplotlib as mpl

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # glyphs that a font lacks, settings that are old
            own: dict[Any, Any] = dict(mpl.rcParamsDefault)
            del own["backend"]  # which is never set back
            with mpl.rc_context(own):
                yield
    except ElmanError:
        raise
    except Exception as error:  # fonts, LaTeX and settings raise anything
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise MachineError(f"cannot draw {path}: {reason}") from error


def check_picture(path: Path) -> None:
    """Raise an ElmanError unless a picture can have this name."""
    with suppress(MachineError), drawing(path):  # one that cannot be drawn is told of later
        from matplotlib.figure import Figure

        known = Figure().canvas.get_supported_filetypes()
        if path.suffix[1:].lower() not in known:
            raise ElmanError(
                f"cannot write {path}: a picture's name ends with .{', .'.join(known)}"
            )


def save_curves(
    folder: Path, curves: Mapping[str, Sequence[Point]], xlabel: str, ylabel: str
) -> None:
    """Write `curves.svg` and `curves.png`, one line for each curve, into `folder`."""
    board = ProgressBoard(xlabel, ylabel, figsize=(6, 4))
    board.data = {label: list(points) for label, points in curves.items()}
    for suffix in ("svg", "png"):
        path = folder / f"curves.{suffix}"
        with drawing(Path(path.name)):  # the folder may have another name yet
            figure = board.figure()
            _count_epochs(figure.axes[0])
            _save(figure, path)


def _count_epochs(axes: "Axes") -> None:
    """Whole numbers below, and a grid."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)


def _save(figure: "Figure", path: Path) -> None:
    """Write a figure in the format that the path's ending names."""
    picture = io.BytesIO()
    form = path.suffix[1:].lower()
    figure.savefig(picture, format=form, bbox_inches="tight", dpi=150)
    atomic.write(path, picture.getvalue())


def save_comparison(
    path: Path, curves: Mapping[str, tuple[Sequence[Point], Sequence[Point]]]
) -> None:
    """Draw the training and the validation perplexities of some runs into one picture.

    `check_picture` tells whether the path names a format that there is.
    """
    with drawing(path):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4.5))
        _draw_runs(figure.subplots(), curves)
        _save(figure, path)


def _draw_runs(axes: "Axes", curves: Mapping[str, tuple[Sequence[Point], Sequence[Point]]]) -> None:
    """Draw two lines for each run, and the legend beside them.

    The first lines are the widest, so that lines that lie on each other can all be seen.
    """
    extra = min(1.5 * (len(curves) - 1), WIDEST)
    widths = np.linspace(1 + extra, 1, len(curves))
    colours = _colours(len(curves))
    for (training, validation), width, colour in zip(curves.values(), widths, colours, strict=True):
        look: dict[str, Any] = {"color": colour, "linewidth": width, "markersize": 5 + 2 * width}
        for points, style in ((training, ":"), (validation, "-")):
            xy = [p.x for p in points], [p.y for p in points]
            axes.plot(*xy, linestyle=style, marker=marker(points), **look)
    axes.set(xlabel="epoch", ylabel="perplexity (dotted: training)", yscale="log")
    _count_epochs(axes)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    names = [printable(name) for name in curves]  # a run may have any
    legend = axes.legend(axes.lines[1::2], names, loc="upper left", bbox_to_anchor=(1, 1))
    for text in legend.get_texts():
        text.set_parse_math(False)


def _colours(number: int) -> list[Any]:
    """So many colours, each another: of more than ten a spectrum."""
    from matplotlib import colormaps

    if number <= 10:
        return [f"C{place}" for place in range(number)]
    return [colormaps["turbo"](place) for place in np.linspace(0, 1, number)]
