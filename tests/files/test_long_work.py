"""Long work shows itself: after a second, on the terminal's standard error or below a cell."""

import io
import sys
import threading
from collections.abc import Callable
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


@pytest.fixture
def attach(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Terminal]:
    """Function that attaches a terminal, on which a second is short, while a test runs."""

    def attach() -> Terminal:
        screen = Terminal()
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setattr(long_work, "SECONDS_BEFORE", 0.0)
        return screen

    return attach


def test_long_work_is_a_bar_that_leaves_no_trace(attach: Callable[[], Terminal]) -> None:
    terminal = attach()
    with showing("evaluating") as report:
        report("evaluating", 25, 100)
        assert terminal.written.wait(20)
    assert "25%" in terminal.getvalue()
    assert terminal.getvalue().endswith(("\x1b[2K", "\x1b[?25h", "\r"))


def test_short_work_is_not_shown(
    attach: Callable[[], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = attach()
    monkeypatch.setattr(long_work, "SECONDS_BEFORE", 1000.0)
    with showing("evaluating") as report:
        report("evaluating", 1, 2)
    assert terminal.getvalue() == ""


def test_pipes_see_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    threads = threading.active_count()
    with showing("evaluating") as report:
        report("evaluating", 1, 2)
        assert threading.active_count() <= threads
    assert screen.getvalue() == ""


def test_work_within_other_work_has_no_bar(attach: Callable[[], Terminal]) -> None:
    terminal = attach()
    with showing("evaluating"), showing("compiling") as report:
        assert report is long_work.no_report
        assert terminal.written.wait(20)
    assert "compiling" not in terminal.getvalue()


def test_nothing_is_shown_where_it_is_not_wanted(attach: Callable[[], Terminal]) -> None:
    terminal = attach()
    with showing_nothing(), showing("evaluating") as report:
        assert report is long_work.no_report
    assert terminal.getvalue() == ""


def test_work_that_fails_has_no_bar_left(attach: Callable[[], Terminal]) -> None:
    attach()
    with pytest.raises(ValueError, match="it failed"), showing("evaluating"):
        raise ValueError("it failed")
    with showing("evaluating") as report:  # the next work has its own
        assert report is not long_work.no_report


def test_work_that_is_interrupted_as_its_bar_begins_has_no_bar_left(
    attach: Callable[[], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(threading.Thread):
        def start(self) -> None:
            super().start()
            raise KeyboardInterrupt

    attach()
    before = set(threading.enumerate())
    monkeypatch.setattr(threading, "Thread", Interrupted)
    with pytest.raises(KeyboardInterrupt), showing("evaluating"):
        pass
    assert set(threading.enumerate()) <= before
    monkeypatch.undo()
    attach()
    with showing("evaluating") as report:  # the next work has its own
        assert report is not long_work.no_report


def test_without_another_thread_work_has_no_bar(
    attach: Callable[[], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    terminal = attach()
    monkeypatch.setattr(threading, "Thread", Refused)
    with showing("evaluating") as report:
        report("evaluating", 25, 100)
    assert terminal.getvalue() == ""


def test_a_bar_that_fails_lets_the_work_go_on(
    attach: Callable[[], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    attach()
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
    [(0, 0, "0:10"), (5, 0, "0:10"), (1, 4, "25%, 0:30 left"), (4, 4, "0:10")],
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
