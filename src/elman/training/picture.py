"""A picture that a notebook shows."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110


class Picture:
    """A Matplotlib figure, displayed by notebooks. Change or save `figure` like any other."""

    def __init__(self, figure: "Figure") -> None:
        self.figure = figure

    def save(self, path: "str | Path") -> None:
        """Write the picture in the format of the path's extension."""
        from elman.training.curve_files import check_picture, save

        check_picture(Path(path))
        save(self.figure, Path(path))

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.figure.savefig(content, format="png", dpi=DPI, bbox_inches="tight")
        return content.getvalue()
