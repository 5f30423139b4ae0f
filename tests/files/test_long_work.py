"""Long work shows itself: after a second, on the terminal's standard error or below a cell."""

import io
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from elman.files import long_work
from elman.files.long_work import in_words, showing, showing_nothing


class Terminal(io.StringIO):
    """A terminal that notes when something is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        number = super().write(text)
        if "evaluating" in self.getvalue():
            self.written.set()
        return number


def attached(patch: pytest.MonkeyPatch) -> Terminal:
    """A terminal, on which a second is short, while a test runs."""
    screen = Terminal()
    patch.setenv("TERM", "xterm")
    patch.setattr(sys, "stderr", screen)
    patch.setattr(long_work, "SECONDS_BEFORE", 0.0)
    return screen


class Interrupted(threading.Thread):
    def start(self) -> None:
        super().start()
        raise KeyboardInterrupt


class Refused(threading.Thread):
    def start(self) -> None:
        raise RuntimeError("can't start new thread")


def test_long_work_is_a_bar_that_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, threads = attached(monkeypatch), threading.active_count()
    with showing("evaluating") as report:
        report("evaluating", 25, 100)
        with showing("compiling") as other:  # work within other work has none
            assert other is long_work.no_report
        assert terminal.written.wait(20)
        assert threading.active_count() == threads + 1
    assert "25%" in terminal.getvalue()
    assert "compiling" not in terminal.getvalue()
    assert terminal.getvalue().endswith(("\x1b[2K", "\x1b[?25h", "\r"))


@pytest.mark.parametrize("place", ["short", "pipe", "dumb", "unwanted", "no thread"])
def test_nothing_is_shown_of_short_work_and_where_it_cannot_be_or_is_not_wanted(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    terminal, threads = attached(monkeypatch), threading.active_count()
    if place == "short":
        monkeypatch.setattr(long_work, "SECONDS_BEFORE", 1000.0)
    elif place == "pipe":
        monkeypatch.setattr(terminal, "isatty", lambda: False)
    elif place == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    elif place == "no thread":
        monkeypatch.setattr(threading, "Thread", Refused)
    unwanted = showing_nothing() if place == "unwanted" else nullcontext()
    with unwanted, showing("evaluating") as report:
        report("evaluating", 1, 2)
        assert threading.active_count() <= threads + (place == "short")
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_work_that_fails_or_is_interrupted_as_its_bar_begins_has_no_bar_left(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    attached(monkeypatch)
    before = set(threading.enumerate())
    with monkeypatch.context() as patch, pytest.raises(error):
        if error is KeyboardInterrupt:
            patch.setattr(threading, "Thread", Interrupted)
        with showing("evaluating"):
            raise ValueError
    assert set(threading.enumerate()) <= before
    with showing("evaluating") as report:  # the next work has its own
        assert report is not long_work.no_report


def test_a_bar_that_fails_lets_the_work_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    attached(monkeypatch)
    failed = threading.Event()

    class Broken:
        def __init__(self) -> None:
            failed.set()
            raise RuntimeError("no screen")

    monkeypatch.setattr(long_work, "_TerminalBar", Broken)
    with showing("evaluating"):
        assert failed.wait(20)


@pytest.mark.parametrize(
    ("done", "total", "words"),
    [(0, 4, "0:10"), (5, 0, "0:10"), (1, 4, "25%, 0:30 left"), (4, 4, "0:10")],
)
def test_the_share_is_told_where_it_is_known(done: int, total: int, words: str) -> None:
    assert in_words(done, total, 10) == words


def test_a_notebook_shows_a_line_below_its_cell(tmp_path: Path) -> None:
    code = """
    from elman.files import long_work
    long_work.SECONDS_BEFORE = 0.0
    import threading
    shown = threading.Event()
    update = long_work._NotebookBar.update
    def noting(self, *state):
        update(self, *state)
        shown.set()
    long_work._NotebookBar.update = noting
    with long_work.showing("evaluating"):
        assert shown.wait(20)
    """
    notebook: Any = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    seen: list[str] = []

    def note(cell: Any, cell_index: int, execute_reply: Any) -> None:
        seen.extend(output.data["text/plain"] for output in cell.outputs)

    client = NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}})
    client.on_cell_executed = note
    client.execute()
    assert seen == [""]
