"""Progress bars of long work, such as reading or evaluating, in a terminal or a notebook.

A thread draws the bar, since the work may be a single long call.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from elman.files.system import BestEffortStream

SECONDS_BEFORE, SECONDS_BETWEEN = 1.0, 0.2  # before a bar appears, and between its changes
Report = Callable[[str, int, int], None]  # activity, amount done, total or 0
_showing = threading.Lock()  # one bar at a time


def no_report(activity: str, done: int, total: int) -> None:
    """Report nothing."""


def notebook() -> Any:
    """IPython shell of the notebook that runs this code; None outside notebooks."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell if hasattr(shell, "kernel") else None


def draws_bars() -> bool:
    """True if standard error is a terminal that can redraw lines."""
    terminal = getattr(sys.stderr, "isatty", lambda: False)()  # a user's stream may lack isatty
    return terminal and os.environ.get("TERM") not in ("dumb", "unknown")


@contextmanager
def showing(activity: str) -> Iterator[Report]:
    """Show a bar while the block runs, if it takes longer than a second.

    Yields a function with three arguments: the activity, the amount done, and the total, or 0 if it
    is not known. Nothing is shown within another block of this kind, or outside terminals and
    notebooks.
    """
    if not (notebook() or draws_bars()) or not _showing.acquire(blocking=False):
        yield no_report
        return
    work = _Work(activity)
    thread = threading.Thread(target=work.show, daemon=True)
    try:
        with suppress(RuntimeError):  # no thread can be started, so there is no bar
            thread.start()
        yield work.report
    finally:  # after an interrupt, even of the thread's start, no bar stays
        work.ended.set()
        with suppress(RuntimeError):  # it has not started
            thread.join()
        _showing.release()


@contextmanager
def showing_nothing() -> Iterator[None]:
    """Show no bars within the block."""
    held = _showing.acquire(blocking=False)
    try:
        yield
    finally:
        if held:
            _showing.release()


class _Work:
    """Long work, and its bar."""

    def __init__(self, activity: str) -> None:
        self.state = activity, 0, 0
        self.ended = threading.Event()
        self._began = time.monotonic()

    def report(self, activity: str, done: int, total: int) -> None:
        self.state = activity, done, total

    def show(self) -> None:
        """Show the bar from the first second until the work has ended."""
        if self.ended.wait(SECONDS_BEFORE):
            return
        with suppress(Exception):  # a failure of the bar must not stop the work
            bar = _NotebookBar() if notebook() else _TerminalBar()
            try:
                bar.update(*self.state, self._seconds)
                while not self.ended.wait(SECONDS_BETWEEN):
                    bar.update(*self.state, self._seconds)
            finally:
                bar.remove()

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began


class _TerminalBar:
    """A bar in the last line of a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[time]}")
        screen: Any = BestEffortStream(sys.stderr)
        self._bars = Progress(
            *columns,
            console=Console(file=screen),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bars.add_task("", total=None, time="")

    def update(self, activity: str, done: int, total: int, seconds: float) -> None:
        """Redraw the bar."""
        known = total if 0 < done < total else None
        words = in_words(done, total, seconds)
        self._bars.update(self._task, description=activity, completed=done, total=known, time=words)
        self._bars.start()  # once
        self._bars.refresh()

    def remove(self) -> None:
        """Remove all traces of the bar."""
        self._bars.stop()


class _NotebookBar:
    """A line below a cell."""

    def __init__(self) -> None:
        from IPython.display import display

        self._handle: Any = display({"text/plain": ""}, raw=True, display_id=True)

    def update(self, activity: str, done: int, total: int, seconds: float) -> None:
        """Rewrite the line."""
        self._write(f"{activity} ... {in_words(done, total, seconds)}")

    def remove(self) -> None:
        """Leave an empty line."""
        self._write("")

    def _write(self, text: str) -> None:
        self._handle.update({"text/plain": text}, raw=True)


def in_words(done: int, total: int, seconds: float) -> str:
    """Share of the work that is done and the remaining time, or the elapsed time without total."""
    if not 0 < done < total:
        return clock(seconds)
    return f"{done / total:.0%}, {clock(seconds * (total / done - 1))} left"


def clock(seconds: float) -> str:
    """Seconds as minutes and hours, such as 4:05 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
