"""A training in Python is that of the command; its run is an object."""

import gc
import json
import logging
import os
import signal
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import elman
from elman.experiments.session import Session
from elman.training.callback import Callback
from elman.training.history import Epoch
from elman.training.loop import Loop
from tests.api.conftest import BOOK, OPTIONS, weights
from tests.conftest import STORY, Command
from tests.robustness.kills import outcome

# Files that have the time or the name of the run's folder in them.
WITH_TIMES = ("history.csv", "curves.png", "curves.svg", "config.json")


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


@pytest.mark.parametrize("options", [BOOK, OPTIONS], ids=["book", "chosen"])
def test_a_function_makes_the_files_of_the_command(
    options: dict[str, Any],
    story: Path,
    tmp_path: Path,
    elman_process: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {name: value for name, value in options.items() if name != "quiet"}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    done = elman_process("train", "story.txt", "--out", "command", *words)
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    elman.train("story.txt", out="function", **options)
    same_files(tmp_path / "command", tmp_path / "function")


def test_a_text_in_memory_trains_as_its_file(story: Path) -> None:
    wanted = weights(elman.train(story, **OPTIONS))
    lines = STORY.splitlines()
    for text in (STORY, lines, iter(lines), (line + "\n" for line in lines)):
        assert weights(elman.train(text, **OPTIONS)) == wanted


def test_several_texts_and_files_of_parts_may_be_in_memory(story: Path) -> None:
    run = elman.train(story, [STORY], val=STORY, test=STORY.splitlines(), **OPTIONS)
    assert run.results["test_loss"] == pytest.approx(elman.evaluate(run, STORY).loss)


def test_a_run_shows_what_it_was_trained_with(tmp_path: Path) -> None:
    story = tmp_path / "<b>.txt"
    story.write_text(STORY)
    run = elman.train(story, **OPTIONS)
    given = {name: value for name, value in OPTIONS.items() if name != "quiet"}
    assert run.given == {"text": str(story), **given}
    assert run.settings == {**run.given, **run.chosen}
    assert run.chosen["optimizer"] == "adamw"
    assert any("learning rate" in reason for reason in run.reasons)
    assert run.history["epoch"] == [1, 2]
    assert run.results["val_ppl"] == min(run.history["val_ppl"])
    assert "gru, 1 layer of 8 units" in repr(run)
    page = run._repr_html_()
    assert "hidden 8, seq len 16, batch size 16, epochs 2" in page
    assert page.count("<img") == page.count("data:image/png;base64,") == page.count("<pre") == 1
    assert "<b>" not in page
    assert 0 < len(run.sample(20)) <= 21
    assert run.sample(20, seed=1) != run.sample(20, seed=2)


@pytest.mark.parametrize("tokenizer", ["char", "byte", "bpe"])
def test_a_sample_begins_a_line_and_is_not_blank(
    tokenizer: str, story: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = elman.train(story, tokenizer=tokenizer, **OPTIONS)
    texts, asked = iter(["\n   ", "\n", "\n  He said so"]), []

    def generate(prefix: str, tokens: int, temperature: float, seed: int) -> list[str]:
        asked.append((prefix, seed))
        return [next(texts)]

    monkeypatch.setattr(run.model, "generate", generate)
    assert run.sample(seed=3) == "He said so"
    assert asked == [("\n", 3), ("\n", 4), ("\n", 5)]


def test_a_temporary_run_is_removed_with_its_last_use_and_a_copy_stays(
    story: Path, tmp_path: Path
) -> None:
    run = elman.train(story, **OPTIONS)
    saved, place = run.save(tmp_path / "kept"), run.path
    wanted = run.model.generate("On", tokens=5, temperature=0)
    assert place.exists()
    del run
    gc.collect()
    assert not place.exists()
    assert saved.finished
    assert elman.open(tmp_path / "kept").model.generate("On", tokens=5, temperature=0) == wanted


def test_a_run_goes_where_a_path_goes_and_is_named_shortly_without_one(
    story: Path, tmp_path: Path
) -> None:
    run = elman.train(story, **OPTIONS)
    further = elman.train(story, init=run, lr=0.001, epochs=1, quiet=True)
    assert further.settings["init"] == str(run.path)
    compared = elman.compare(run, further)
    assert compared.to_dict()["run"] == [str(run.path), str(further.path)]
    assert compared.plot()._repr_png_().startswith(b"\x89PNG")
    page = compared._repr_html_()
    assert page.count("<tr>") == 3
    assert "val ppl" in page
    assert "init sha256" not in page
    for shown in (repr(compared), page):
        assert all(each.path.name in shown for each in (run, further))
        assert str(run.path.parent) not in shown
    exported = further.export("html", tmp_path / "page.html")
    assert exported.read_text().startswith("<!doctype html>")
    assert elman.load(run).codec.vocab.idx_to_token == run.model.codec.vocab.idx_to_token


def test_on_epoch_and_callbacks_are_called(story: Path) -> None:
    losses: list[float] = []
    updates: list[int] = []

    class Counting(Callback):
        def after_update(self, trainer: Loop) -> None:
            updates.append(trainer.train_batch_idx)

    def note(epoch: Epoch) -> None:
        losses.append(epoch.val_loss)

    run = elman.train(story, on_epoch=note, callbacks=[Counting()], **OPTIONS)
    assert losses == run.history["val_loss"]
    assert updates == list(range(1, len(updates) + 1))


def calling(moment: str, call: int, function: Callable[[], None]) -> Callback:
    """A callback that calls a function at the so-manieth of these moments."""
    callback, calls = Callback(), count(1)
    setattr(callback, moment, lambda trainer: function() if next(calls) == call else None)
    return callback


def raising(error: BaseException) -> Callable[..., None]:
    """A function that raises an error."""

    def fail(*arguments: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize("update", [2, 12])
def test_an_interrupted_training_goes_on_to_the_same_bits(
    update: int, story: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = signal.getsignal(signal.SIGINT)
    stop = calling("after_update", update, lambda: signal.raise_signal(signal.SIGINT))
    run = elman.train(story, callbacks=[stop], **OPTIONS)
    assert not run.finished
    assert "interrupted" in repr(run)
    assert f"continue {run.path} with elman.resume(run)" in caplog.text
    with pytest.raises(elman.ElmanError, match="is still in training"):
        _ = run.history
    assert signal.getsignal(signal.SIGINT) is before
    assert weights(elman.resume(run, quiet=True)) == weights(elman.train(story, **OPTIONS))
    assert run.finished


LINES = "\n".join(f"{number} times {number} is {number * number}" for number in range(200))
MOMENTS = [
    *(("before_update", 3), ("after_update", 1), ("on_checkpoint", 2), ("before_validate", 2)),
    *(("after_epoch", 1), ("after_epoch", 2), ("after_fit", 1)),
]


@pytest.mark.parametrize(("moment", "call"), MOMENTS)
@pytest.mark.parametrize(("text", "more"), [(STORY, {}), (LINES, {"lines": True})])
def test_an_exception_in_a_callback_keeps_what_was_trained(
    moment: str, call: int, text: str, more: dict[str, Any], tmp_path: Path
) -> None:
    path, out, mine = tmp_path / "text.txt", tmp_path / "run", RuntimeError("mine")
    path.write_text(text)
    callbacks = [calling(moment, call, raising(mine))]
    with pytest.raises(RuntimeError) as raised:
        elman.train(path, out=out, callbacks=callbacks, **BOOK, **more)
    assert raised.value is mine
    resuming = f'resume from the last checkpoint with elman train --resume {out}, or elman.resume("'
    assert mine.__notes__ == [f'{resuming}{out}")']
    assert len(list(out.glob("checkpoints/*.safetensors"))) == 1
    elman.resume(out, quiet=True)
    whole = elman.train(path, out=tmp_path / "whole", **BOOK, **more)
    assert outcome(out) == outcome(whole.path)


@pytest.mark.parametrize("error", [SystemExit("enough"), MemoryError(), OSError("no log")])
def test_what_is_kept_of_a_temporary_run_stays(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(type(error)) as raised:
        elman.train(STORY, on_epoch=raising(error), **OPTIONS)
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
    mine = elman.ElmanError("mine")
    with pytest.raises(elman.ElmanError) as raised:
        elman.train(text, out=out, on_epoch=raising(mine), **OPTIONS)
    assert str(raised.value) == f'mine; resume from the last checkpoint with elman.resume("{out}")'
    del raised, mine
    gc.collect()
    assert len(list(tmp_path.glob("elman-*"))) == in_memory
    assert elman.resume(out, quiet=True).finished


@pytest.mark.parametrize(
    ("moment", "is_full", "notes"),
    [("after_epoch", True, ["nothing was kept"]), ("before_update", False, None)],
    ids=["full disk", "before the first update"],
)
def test_an_exception_where_nothing_was_kept_leaves_no_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    is_full: bool,
    notes: list[str] | None,
) -> None:
    mine, out = RuntimeError("mine"), tmp_path / "run"

    def fail() -> None:
        if is_full:
            monkeypatch.setattr(os, "fsync", raising(OSError(28, "No space left on device")))
        raise mine

    with pytest.raises(RuntimeError) as raised:
        elman.train(STORY, out=out, callbacks=[calling(moment, 1, fail)], **OPTIONS)
    assert raised.value is mine
    assert getattr(mine, "__notes__", None) == notes
    assert not out.exists()


def test_an_interrupt_after_the_training_leaves_a_finished_run(
    story: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Session, "finish", raising(KeyboardInterrupt()))
    assert elman.train(story, **OPTIONS).finished
    assert "is finished, but not evaluated on its test part" in caplog.text


def test_quiet_is_quiet(
    story: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The command line adds a handler, and other tests call it in this process.
    monkeypatch.setattr(logging.getLogger("elman"), "handlers", [])
    elman.train(story, **OPTIONS)
    assert capsys.readouterr() == ("", "")


def test_a_misspelled_keyword_is_named_with_the_right_one() -> None:
    with pytest.raises(TypeError, match=r"'minuts'. Did you mean 'minutes'\?"):
        elman.train(STORY, minuts=1)  # type: ignore[call-arg]
