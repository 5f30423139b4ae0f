"""A mistake is answered with a short line that says how to call the function in Python."""

import io
import re
import socket
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import elman
from elman import ElmanError, Run
from elman.training.callback import Callback
from tests.api.conftest import OPTIONS
from tests.conftest import STORY

LINES = STORY.splitlines()
LONG = "word " * 60000
IN_MEMORY = r": for a text in memory, include a line break, or give it as \[text\]$"
CALLBACKS = "^callbacks must be a list of elman.training.callback.Callback, got"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Column:
    """A column of a data frame: it iterates over its values, and prints all of them."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)

    def __repr__(self) -> str:
        return "\n".join(map(str, self.values))


class DataFrame(Column):
    """A data frame: it has columns, and iterates over their names."""

    columns = ("a", "b")


def closed() -> Any:
    """A file that is closed."""
    file = io.StringIO(STORY)
    file.close()
    return file


def answer(call: Callable[[], Any]) -> str:
    """The message of an error, which is a short line."""
    with pytest.raises(ElmanError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert "--" not in message
    assert len(message) < 200
    return message


TEXTS: dict[str, tuple[Any, str]] = {
    "a long string without a line break": (LONG, rf"^there is no file 'word .{{,40}}'{IN_MEMORY}"),
    "a sentence": ("Once upon a time", f"^there is no file 'Once upon a time'{IN_MEMORY}"),
    "a long path": (Path("x" * 5000), r"^there is no file 'x*\.\.\.x*'$"),
    "None": (None, "^a text must be a path, .* got None$"),
    "an empty string": ("", "^a text must be a path that is not empty, got ''$"),
    "a data frame": (DataFrame(["a", "b"]), "got a DataFrame: give a column$"),
    "a dictionary": ({"a": STORY}, "got a dict: give its values$"),
    "a closed file": (closed(), "got a closed one: give its path$"),
    "a number": (5, "^a text must be a path, .* got int$"),
}
FUNCTIONS: dict[str, Callable[[Run, Any], Any]] = {
    "train": lambda run, text: elman.train(text, **OPTIONS),
    "plan": lambda run, text: elman.plan(text),
    "sweep": lambda run, text: elman.sweep(text, space="hidden=4|8"),
    "prepare": lambda run, text: elman.prepare(text, out="store"),
    "evaluate": lambda run, text: elman.evaluate(run, text),
    "score": lambda run, text: elman.score(run, text),
    "Run.evaluate": lambda run, text: run.evaluate(text),
    "Run.score": lambda run, text: run.score(text),
    "evaluate of a model": lambda run, text: run.model.evaluate(text),
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_no_text_is_refused(function: str, text: str, run: Run) -> None:
    value, wanted = TEXTS[text]
    assert re.search(wanted, answer(lambda: FUNCTIONS[function](run, value)))


def test_a_path_may_have_spaces(run: Run) -> None:
    Path("my text.txt").write_text(STORY)
    assert elman.evaluate(run, "my text.txt") == elman.evaluate(run, STORY)


MISTAKES: dict[str, tuple[Callable[[Run], Any], str]] = {
    "a part of no lines": (lambda run: elman.train(STORY, val=[]), "^a text must have a line or"),
    "a line that is none": (
        lambda run: elman.train(iter(["one", "two", None])),  # type: ignore[list-item]
        "^the lines of a text must be strings, got None as item 2: .*leave it out",
    ),
    "half a character": (lambda run: elman.train("\ud800\n"), "must not contain surrogates, got"),
    "runs in a list": (lambda run: elman.compare([run, run]), r"elman.compare\(\*runs\)$"),  # type: ignore[arg-type]
    "a comparison on a number": (lambda run: elman.compare(run, on=5), "got int$"),  # type: ignore[arg-type]
    "a run without a path": (lambda run: elman.train(STORY, out=""), "not empty, got ''$"),
    "a run that exists": (lambda run: elman.train(STORY, out="."), "exists"),
    "a copy without a path": (lambda run: run.save(""), "not empty, got ''$"),
    "one number as shares": (
        lambda run: elman.train(STORY, split=0.9),  # type: ignore[arg-type]
        r"^split must be shares, such as \(0.9, 0.05, 0.05\), got 0.9$",
    ),
    "two frameworks": (
        lambda run: elman.train(STORY, framework="torch,jax"),
        "one framework, .*got 'torch,jax': call it once for each$",
    ),
    "a number among callbacks": (
        lambda run: elman.train(STORY, callbacks=[5]),  # type: ignore[list-item]
        rf"{CALLBACKS} \[5\]$",
    ),
    "a callback without a list": (
        lambda run: elman.train(STORY, callbacks=Callback()),  # type: ignore[arg-type]
        f"{CALLBACKS} a Callback$",
    ),
    "no function of an epoch": (
        lambda run: elman.resume(run, on_epoch=5),  # type: ignore[arg-type]
        "^on_epoch must be a function of an epoch, got 5$",
    ),
    "an edition of a text": (
        lambda run: run.evaluate(STORY, edition="d2l"),
        "^only The Time Machine has editions, got d2l with a file$",
    ),
    "a host that is a number": (
        lambda run: elman.serve(run, allowed_host=5),  # type: ignore[arg-type]
        "^allowed host must be a text or a tuple of texts, got 5$",
    ),
    "a host that is none": (
        lambda run: elman.serve(run, allowed_host="http://x"),
        "^allowed host must be a name or an address, without scheme and port, got 'http://x'$",
    ),
    "a key that is a number": (
        lambda run: elman.serve(run, api_key=5),  # type: ignore[arg-type]
        "^api key must be a text, got 5$",
    ),
    "a sweep of nothing": (lambda run: elman.sweep(STORY), "^space= is required"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered(mistake: str, run: Run) -> None:
    call, wanted = MISTAKES[mistake]
    assert re.search(wanted, answer(lambda: call(run)))


def test_a_column_is_scored_wherever_a_list_is(run: Run) -> None:
    for score in (run.model.score, run.score):
        assert score(Column(LINES)) == score(LINES) == elman.score(run, STORY)
        assert "got None as item 1" in answer(partial(score, Column(["one", None])))


def test_a_server_needs_a_run_and_a_port_that_is_free(run: Run) -> None:
    pytest.importorskip("uvicorn")
    assert answer(elman.serve) == "a server requires one run or more: elman.serve(run)"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        served = elman.serve(run, port=taken.getsockname()[1])
        assert "or port=0 for any that is free" in answer(served.__enter__)
    assert "with elman.serve(run) as address:" in repr(served)


def test_stop_is_a_text_or_several(run: Run) -> None:
    ended = run.model.generate("Once", stop=("o",))
    assert run.model.generate("Once", stop="o") == ended
    assert run.model.generate("Once", stop=["o"]) == ended


def test_a_traceback_has_no_words_of_the_command_line() -> None:
    with pytest.raises(ElmanError) as caught:
        elman.train(STORY, partition_optimizer=True)
    assert str(caught.value).endswith("give shards=, or leave partition_optimizer= out")
    assert "--" not in "".join(traceback.format_exception_only(caught.value))
    assert caught.value.__context__ is None


def outputs(source: str) -> list[Any]:
    """Outputs of a notebook's cell, which may fail."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])  # type: ignore[no-untyped-call]
    NotebookClient(notebook, allow_errors=True).execute()  # type: ignore[no-untyped-call]
    return list(notebook.cells[0].outputs)


def test_a_notebook_shows_an_error_in_a_line() -> None:
    (shown,) = outputs("import elman\nelman.train('once upon a time')")
    assert shown.traceback == [f"ElmanError: {shown.evalue}"]
    assert shown.evalue.startswith("there is no file 'once upon a time'")


def test_a_quiet_training_draws_nothing_in_a_notebook() -> None:
    begin = f"import elman\ntext, options = {STORY!r}, {OPTIONS!r}\n"
    assert outputs(f"{begin}run = elman.train(text, **options)") == []
    shown = outputs(f"{begin}run = elman.train(text, **{{**options, 'quiet': False}})")
    assert "image/svg+xml" in shown[-1].data
