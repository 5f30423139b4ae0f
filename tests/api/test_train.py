"""A training in Python is that of the command; its run is an object."""

import gc
import json
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import elman
from elman.experiments.session import Session
from elman.training.callback import Callback
from elman.training.history import Epoch
from elman.training.loop import Loop
from tests.conftest import STORY, Command
from tests.robustness.kills import outcome

OPTIONS: dict[str, Any] = {"epochs": 2, "hidden": 8, "batch_size": 16, "seq_len": 16}
BOOK: dict[str, Any] = {"recipe": "book", **OPTIONS}
# Files that have the time or the name of the run's folder in them.
WITH_TIMES = ("history.csv", "curves.png", "curves.svg", "config.json")


@pytest.fixture
def story(tmp_path: Path) -> Path:
    """The path of a text."""
    path = tmp_path / "story.txt"
    path.write_text(STORY)
    return path


def same_files(one: Path, other: Path) -> None:
    """Assert that runs have the same files, but for times."""
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    for name in names:
        if name not in WITH_TIMES:
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
    first, second = (json.loads((run / "config.json").read_text()) for run in (one, other))
    for config in (first, second):
        config["training"].pop("peak_memory_mb")
    assert first == second


@pytest.mark.parametrize("options", [BOOK, OPTIONS])
def test_a_function_makes_the_files_of_the_command(
    options: dict[str, Any],
    story: Path,
    tmp_path: Path,
    elman_process: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import elman as package

    words = []
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    done = elman_process("train", "story.txt", "--out", "command", *words)
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    package.train("story.txt", out="function", quiet=True, **options)
    same_files(tmp_path / "command", tmp_path / "function")


@pytest.mark.parametrize("form", ["string", "list", "iterator", "generator of lines"])
def test_a_text_in_memory_trains_as_its_file(form: str, story: Path) -> None:
    lines = STORY.splitlines()
    text: Any = {
        "string": STORY,
        "list": lines,
        "iterator": iter(lines),
        "generator of lines": (line + "\n" for line in lines),
    }[form]
    found = elman.train(text, quiet=True, **OPTIONS)
    wanted = elman.train(story, quiet=True, **OPTIONS)
    weights = [(run.path / "model.safetensors").read_bytes() for run in (found, wanted)]
    assert weights[0] == weights[1]


def test_several_texts_and_files_of_parts_may_be_in_memory(story: Path) -> None:
    run = elman.train(story, [STORY], val=STORY, test=STORY.splitlines(), quiet=True, **OPTIONS)
    assert run.results["test_loss"] == pytest.approx(elman.evaluate(run, STORY).loss)


def test_a_run_shows_what_it_was_trained_with(story: Path) -> None:
    run = elman.train(story, quiet=True, **OPTIONS)
    assert run.given == {"text": str(story), **OPTIONS}
    assert run.settings == {**run.given, **run.chosen}
    assert run.chosen["optimizer"] == "adamw"
    assert any("learning rate" in reason for reason in run.reasons)
    assert run.history["epoch"] == [1, 2]
    assert run.results["val_ppl"] == min(run.history["val_ppl"])
    assert "gru, 1 layer of 8 units" in repr(run)
    html = run._repr_html_()
    assert html.count("<img") == 1
    assert 0 < len(run.sample(20)) <= 21
    assert run.sample(20, seed=1) != run.sample(20, seed=2)


@pytest.mark.parametrize("tokenizer", ["char", "byte", "bpe"])
def test_a_sample_begins_a_line(
    tokenizer: str, story: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = elman.train(story, tokenizer=tokenizer, quiet=True, **OPTIONS)
    prefixes: list[str] = []
    monkeypatch.setattr(
        run.model, "generate", lambda prefix, **options: [prefixes.append(prefix) or "He said"]
    )
    assert run.sample() == "He said"
    assert prefixes == ["\n"]


def test_a_sample_is_not_blank(story: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = elman.train(story, quiet=True, **OPTIONS)
    texts = iter(["\n   ", "\n", "\n  He said so"])
    monkeypatch.setattr(run.model, "generate", lambda *words, **options: [next(texts)])
    assert run.sample() == "He said so"


def test_a_name_in_a_text_is_no_html(tmp_path: Path) -> None:
    (tmp_path / "<b>.txt").write_text(STORY)
    run = elman.train(tmp_path / "<b>.txt", quiet=True, **OPTIONS)
    assert "<b>" not in run._repr_html_()


def test_a_temporary_run_is_saved_and_opened(story: Path, tmp_path: Path) -> None:
    run = elman.train(story, quiet=True, **OPTIONS)
    saved = run.save(tmp_path / "kept")
    place = run.path
    wanted = run.model.generate("On", tokens=5, temperature=0)
    del run
    gc.collect()
    assert not place.exists()
    assert saved.finished
    assert elman.open(tmp_path / "kept").model.generate("On", tokens=5, temperature=0) == wanted


def test_a_run_goes_where_a_path_goes(story: Path, tmp_path: Path) -> None:
    run = elman.train(story, quiet=True, **OPTIONS)
    further = elman.train(story, init=run, lr=0.001, epochs=1, quiet=True)
    assert further.settings["init"] == str(run.path)
    compared = elman.compare(run, further)
    assert compared.to_dict()["run"] == [str(run.path), str(further.path)]
    assert len(compared.plot()._repr_png_()) > 1000
    page = further.export("html", tmp_path / "page.html")
    assert page.read_text().startswith("<!doctype html>")
    assert elman.load(run).codec.vocab.idx_to_token == run.model.codec.vocab.idx_to_token


def test_on_epoch_and_callbacks_are_called(story: Path) -> None:
    losses: list[float] = []
    updates: list[int] = []

    class Counting(Callback):
        def after_update(self, trainer: Loop) -> None:
            updates.append(trainer.train_batch_idx)

    def note(epoch: Epoch) -> None:
        losses.append(epoch.val_loss)

    run = elman.train(story, on_epoch=note, callbacks=[Counting()], quiet=True, **OPTIONS)
    assert len(losses) == 2
    assert updates == list(range(1, len(updates) + 1))
    assert run.finished


def interrupted_in(update: int) -> Callback:
    """A callback that interrupts the main thread, as a notebook's stop button does."""

    class Interrupting(Callback):
        def after_update(self, trainer: Loop) -> None:
            if trainer.train_batch_idx == update:
                signal.raise_signal(signal.SIGINT)

    return Interrupting()


@pytest.mark.parametrize("update", [2, 5, 12])
def test_an_interrupted_training_goes_on_to_the_same_bits(
    update: int, story: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = signal.getsignal(signal.SIGINT)
    run = elman.train(story, callbacks=[interrupted_in(update)], quiet=True, **OPTIONS)
    assert not run.finished
    assert "interrupted" in repr(run)
    assert f"continue {run.path} with elman.resume(run)" in caplog.text
    with pytest.raises(elman.ElmanError, match="is still in training"):
        _ = run.history
    assert signal.getsignal(signal.SIGINT) is before
    resumed = elman.resume(run, quiet=True)
    wanted = elman.train(story, quiet=True, **OPTIONS)
    weights = [(each.path / "model.safetensors").read_bytes() for each in (resumed, wanted)]
    assert weights[0] == weights[1]
    assert run.finished


def failing_in(moment: str, call: int, error: BaseException) -> Callback:
    """A callback that raises an error when it is called at this moment for the so-manieth time."""
    callback, calls = Callback(), count(1)

    def fail(trainer: Loop) -> None:
        if next(calls) == call:
            raise error

    setattr(callback, moment, fail)
    return callback


LINES = [f"{number} times {number} is {number * number}" for number in range(200)]
MOMENTS = [
    *(("before_update", 3), ("after_update", 1), ("on_checkpoint", 2), ("before_validate", 2)),
    *(("after_epoch", 1), ("after_epoch", 2), ("after_fit", 1)),
]


@pytest.mark.parametrize(("moment", "call"), MOMENTS)
@pytest.mark.parametrize(("text", "more"), [(STORY, {}), (LINES, {"lines": True})])
def test_an_exception_in_a_callback_keeps_what_was_trained(
    moment: str, call: int, text: Any, more: dict[str, Any], tmp_path: Path
) -> None:
    out, mine, options = tmp_path / "run", ValueError("mine"), {**BOOK, **more, "quiet": True}
    (tmp_path / "text.txt").write_text(text if isinstance(text, str) else "\n".join(text))
    path = tmp_path / "text.txt"
    with pytest.raises(ValueError, match="mine") as raised:
        elman.train(path, out=out, callbacks=[failing_in(moment, call, mine)], **options)
    assert raised.value is mine
    resuming = f'resume from the last checkpoint with elman train --resume {out}, or elman.resume("'
    assert mine.__notes__ == [f'{resuming}{out}")']
    assert len(list(out.glob("checkpoints/*.safetensors"))) == 1
    elman.resume(out, quiet=True)
    assert outcome(out) == outcome(elman.train(path, out=tmp_path / "whole", **options).path)


def failing_on(error: BaseException, before: Callable[[], None] = lambda: None) -> Any:
    """A function of an epoch that raises an error."""

    def fail(epoch: Epoch) -> None:
        before()
        raise error

    return fail


@pytest.mark.parametrize("error", [SystemExit("enough"), MemoryError(), OSError("no log")])
def test_what_is_kept_of_a_temporary_run_stays(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(type(error)) as raised:
        elman.train(STORY, on_epoch=failing_on(error), quiet=True, **OPTIONS)
    raised.value.__traceback__ = None
    gc.collect()
    (kept,) = tmp_path.glob("elman-*/run-*")
    assert f'elman.resume("{kept}")' in error.__notes__[0]
    assert elman.resume(kept, quiet=True).finished


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_text_in_memory_is_kept_with_its_run_and_no_empty_folder(
    in_memory: bool, story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    text, out = STORY if in_memory else story, tmp_path / "run"
    with pytest.raises(OSError, match="no log") as raised:
        elman.train(text, out=out, on_epoch=failing_on(OSError("no log")), quiet=True, **OPTIONS)
    del raised
    gc.collect()
    assert len(list(tmp_path.glob("elman-*"))) == in_memory
    assert elman.resume(out, quiet=True).finished


def test_an_elman_error_of_a_callback_says_how_to_resume_in_a_line(
    story: Path, tmp_path: Path
) -> None:
    on_epoch, out = failing_on(elman.ElmanError("mine")), tmp_path / "run"
    with pytest.raises(elman.ElmanError) as raised:
        elman.train(story, out=out, on_epoch=on_epoch, quiet=True, **OPTIONS)
    assert str(raised.value) == f'mine; resume from the last checkpoint with elman.resume("{out}")'


def test_where_nothing_can_be_written_the_exception_says_that_nothing_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    mine, out = ValueError("mine"), tmp_path / "run"
    on_epoch = failing_on(mine, lambda: monkeypatch.setattr(os, "fsync", full))
    with pytest.raises(ValueError, match="mine"):
        elman.train(STORY, out=out, on_epoch=on_epoch, quiet=True, **OPTIONS)
    assert mine.__notes__ == ["nothing was kept"]
    assert not out.exists()


def test_an_exception_before_the_first_update_leaves_nothing_to_tell(tmp_path: Path) -> None:
    mine, out = ValueError("mine"), tmp_path / "run"
    callbacks = [failing_in("before_update", 1, mine)]
    with pytest.raises(ValueError, match="mine"):
        elman.train(STORY, out=out, callbacks=callbacks, quiet=True, **OPTIONS)
    assert not hasattr(mine, "__notes__")
    assert not out.exists()


def test_an_interrupt_after_the_training_leaves_a_finished_run(
    story: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupted(session: Session) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "finish", interrupted)
    run = elman.train(story, quiet=True, **OPTIONS)
    assert run.finished
    assert "is finished, but not evaluated on its test part" in caplog.text


def test_a_text_in_memory_is_there_when_its_training_goes_on() -> None:
    run = elman.train(STORY, callbacks=[interrupted_in(2)], quiet=True, **OPTIONS)
    assert elman.resume(run, quiet=True).finished


def test_a_training_runs_in_a_thread(story: Path) -> None:
    runs: list[Any] = []
    thread = threading.Thread(target=lambda: runs.append(elman.train(story, quiet=True, **OPTIONS)))
    thread.start()
    thread.join()
    assert runs[0].finished


def test_quiet_is_quiet(
    story: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The command line adds a handler, and other tests call it in this process.
    monkeypatch.setattr(logging.getLogger("elman"), "handlers", [])
    elman.train(story, quiet=True, **OPTIONS)
    assert capsys.readouterr() == ("", "")


def numbers() -> Iterator[Any]:
    """Lines, of which the third is none."""
    yield from ("one", "two", None)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("no-such-file.txt", {}, "there is no file no-such-file.txt"),
        (numbers(), {}, "the lines of a text must be strings, got None as item 2: .*leave it out"),
        (b"bytes", {}, "a text must be a path, a string with line breaks, or strings .* got bytes"),
        (17, {}, "a text must be a path, a string with line breaks, or strings .* got int"),
        ([], {}, "a text must have a line or more"),
        (STORY, {"hidden": 0}, "hidden must be 1 or more, got 0"),
        (STORY, {"framework": "torch,jax"}, "one framework, .*got 'torch,jax'"),
        (STORY, {"partition_optimizer": True}, "give shards=, or leave partition_optimizer= out"),
        ("\ud800\n", {}, "must not contain surrogates, got"),
        (STORY, {"init": "nothing"}, "nothing is not a run directory"),
        (STORY, {"out": "."}, "exists"),
    ],
)
def test_wrong_input_is_refused_in_a_line(text: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(elman.ElmanError, match=message) as caught:
        elman.train(text, **options)
    assert "--" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_misspelled_keyword_is_named_with_the_right_one() -> None:
    with pytest.raises(TypeError, match=r"'minuts'. Did you mean 'minutes'\?"):
        elman.train(STORY, minuts=1)  # type: ignore[call-arg]
