"""Run directories: written whole or not at all, and checked when they are read."""

import contextlib
import csv
import errno
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from safetensors.numpy import load_file, save_file

import elman
from elman import numba as engine
from elman.errors import ElmanError, MachineError
from elman.files import atomic, tensors
from elman.model import weights
from elman.model.weights import Architecture
from elman.numpy import RNN, RNNLM, SGD, TimeMachine, Trainer
from elman.runs import records, run, run_folder
from elman.runs.settings import Settings
from elman.training import curve_files
from tests.robustness.faults import failing

SETTINGS = records.RunSettings(Settings(text="story.txt"), "0" * 64)
Spoil = Callable[[Path], Any]


@pytest.fixture(scope="module")
def trained() -> RNNLM:
    data = TimeMachine(64, 8, num_train=256, num_val=64)
    model = RNNLM(RNN(28, 6), 28, lr=1)
    Trainer(2, gradient_clip_val=1).fit(model, data)
    return model


@pytest.fixture(scope="module")
def saved(trained: RNNLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to read."""
    folder = tmp_path_factory.mktemp("saved") / "run"
    elman.save(folder, trained)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A run to spoil."""
    return Path(shutil.copytree(saved, tmp_path / "run"))


def test_a_saved_model_comes_back_with_its_weights_vocabulary_and_history(
    saved: Path, trained: RNNLM
) -> None:
    loaded = elman.load(saved)
    for name, value in trained.parameters.items():
        np.testing.assert_array_equal(loaded.parameters[name], value)
    vocab = trained.trainer.data.vocab
    assert loaded.codec.vocab.idx_to_token == vocab.idx_to_token
    assert loaded.codec.clean
    assert loaded.predict("it has", 20, vocab) == trained.predict("it has", 20, vocab)
    with (saved / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    read = run.read_history(saved)
    for name in ("train_loss", "val_loss", "seconds", "learning_rate", "gradient_norm"):
        wanted = [getattr(epoch, name) for epoch in trained.trainer.history]
        assert [getattr(epoch, name) for epoch in read] == wanted
    last = {name: float(value) for name, value in rows[-1].items()}
    assert last["learning_rate"] == 1
    assert last["gradient_norm"] == trained.trainer.gradient_norm > 0
    for part in ("train", "val"):  # tokens are characters
        loss = last[f"{part}_loss"]
        assert last[f"{part}_ppl"] == pytest.approx(np.exp(loss))
        assert last[f"{part}_bits_per_character"] == pytest.approx(loss / np.log(2))
    assert (saved / "curves.svg").exists()
    assert (saved / "curves.png").exists()


def test_a_rate_or_norm_that_is_not_known_is_an_empty_cell(tmp_path: Path) -> None:
    class Scheduled(RNNLM):
        def configure_optimizers(self) -> SGD:
            self.lr = lambda update: 1.0
            return SGD(self, 1.0)

    class Unclipped(Trainer):
        def clip_gradients(self, grad_clip_val: float, model: RNNLM) -> None:
            pass

    model = Scheduled(RNN(28, 6), 28)
    Unclipped(1, gradient_clip_val=1).fit(model, TimeMachine(64, 8, num_train=64, num_val=64))
    elman.save(tmp_path / "run", model)
    assert (tmp_path / "run" / "history.csv").read_text().endswith(",,\n")
    (epoch,) = run.read_history(tmp_path / "run")
    assert (epoch.learning_rate, epoch.gradient_norm) == (None, None)


def test_the_engine_computes_a_loaded_model_unless_it_cannot_or_another_is_named(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(elman.load(saved), engine.RNNLM)
    double = elman.load(saved, framework="numpy")
    assert isinstance(double, RNNLM)
    assert not isinstance(double, engine.RNNLM)
    double.load_weights({name: value.astype(float) for name, value in double.parameters.items()})
    elman.save(tmp_path / "double", double)
    loaded = elman.load(tmp_path / "double")
    assert {value.dtype for value in loaded.parameters.values()} == {np.dtype(float)}
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    code = f"import elman; print(type(elman.load({str(saved)!r})).__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "elman.numpy.model\n"


def test_a_saved_model_keeps_its_precision_unless_another_is_given(
    saved: Path, tmp_path: Path
) -> None:
    model = elman.load(saved, precision="bf16")
    assert model.precision == model.rnn.precision == "bf16"
    elman.save(tmp_path / "again", model)
    for framework in ("numpy", "numba"):
        assert elman.load(tmp_path / "again", framework).precision == "bf16"
        assert elman.load(tmp_path / "again", framework, "single").precision == "single"


def test_a_run_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic.new_folder(tmp_path / "a" / "run") as part:
        (part / "config.json").write_text("{}")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_wherever_writing_a_run_fails_nothing_is_left_and_the_machine_is_told_of(
    tmp_path: Path, trained: RNNLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(figure: Any, *paths: Path) -> None:
        for path in paths:
            atomic.write(path, b"a picture")

    monkeypatch.setattr(curve_files, "save", save)
    call, ended = 0, False
    while not ended:
        call += 1
        folder = tmp_path / str(call) / "run"
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with failing(call, error) as made, contextlib.suppress(MachineError):
            elman.save(folder, trained)
            ended = len(made) < call
        assert folder.exists() or not folder.parent.exists()
    assert len([*folder.iterdir()]) == 6
    assert call > 6 * 5  # each file is opened, written, synced and named


@pytest.mark.parametrize("name", ["file/run", "x" * 300])
def test_a_name_that_cannot_be_is_no_failure_of_the_machine(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ElmanError) as told, atomic.new_folder(tmp_path / name):
        pass
    assert str(told.value).startswith("cannot write")
    assert told.value.exit_code == 2


def test_a_name_that_is_taken_at_the_last_moment_is_not_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, others = Path.rename, {"run", "run-2"}

    def renamed(part: Path, path: Path) -> Path:
        if path.name in others:  # another training begins, that very moment
            path.mkdir()
            (path / "training.json").write_text("precious")
        return rename(part, path)

    monkeypatch.setattr(Path, "rename", renamed)
    with run_folder.new_training(tmp_path / "run", SETTINGS, numbered=True) as folder:
        assert folder == tmp_path / "run-3"
    for name in others:
        assert [path.read_text() for path in (tmp_path / name).iterdir()] == ["precious"]


def test_the_names_of_a_new_run_and_of_the_folders_above_it_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    monkeypatch.setattr(atomic, "fsync_dir", lambda path: synced.append((path, os.listdir(path))))
    with atomic.new_folder(tmp_path / "runs" / "run"):
        pass
    assert synced == [(tmp_path, ["runs"]), (tmp_path / "runs", ["run"])]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o700), (0o002, 0o775)])
def test_a_run_has_the_permissions_that_the_umask_leaves(
    tmp_path: Path, mask: int, mode: int
) -> None:
    before = os.umask(mask)
    try:
        with atomic.new_folder(tmp_path / "run"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == mode


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="users have no numbers here")
@pytest.mark.parametrize("name", [None, ".lock", ".config.json.part", "checkpoints"])
def test_a_training_of_another_user_or_with_links_out_of_its_folder_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    for path in (folder, elsewhere):
        path.mkdir()
        (path / "training.json").write_text(json.dumps(asdict(SETTINGS)))
    if name is None:
        user, fragment = os.geteuid(), "run belongs to another user: use your own copy"
        monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    else:
        fragment = f"{name} is a symbolic link: remove it"
        is_folder = name == "checkpoints"
        (folder / name).symlink_to(elsewhere if is_folder else elsewhere / "training.json")
    with pytest.raises(ElmanError, match=fragment), run_folder.resumed_training(folder):
        pass
    assert {path.name for path in folder.iterdir()} == {"training.json", name} - {None}
    assert (elsewhere / "training.json").exists()


def test_what_a_crash_left_of_a_finished_training_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("config.json", "training.json", ".lock", "checkpoints/000000000001.safetensors"):
        (folder / name).write_text("{}")
    with pytest.raises(ElmanError), run_folder.resumed_training(folder):
        pass
    assert [path.name for path in folder.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (MachineError("disk full"), "; resume from the last checkpoint with elman train --resume "),
        (ElmanError("another text"), None),
    ],
)
def test_resuming_is_suggested_only_where_it_is_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: ElmanError, cure: str | None
) -> None:
    monkeypatch.setattr(run_folder.checkpoint, "paths", lambda folder: [Path("1.safetensors")])
    folder = tmp_path / "run"
    with pytest.raises(type(error)) as raised, run_folder.new_training(folder, SETTINGS):
        raise error
    assert raised.value.in_shell() == f"{error}{cure}{folder}" if cure else str(error)
    assert (folder / ".lock").exists()  # which others may wait for


def test_where_no_file_can_be_locked_no_folder_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def acquire(lock: FileLock) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with pytest.raises(MachineError), run_folder.new_training(tmp_path / "run", SETTINGS):
        pass
    assert list(tmp_path.iterdir()) == []


def of_another_training(path: Path) -> None:
    data = TimeMachine(32, 8, num_train=32, num_val=32)
    first, second = (RNNLM(RNN(28, 4), 28, lr=1) for _ in range(2))
    trainer = Trainer(1)
    trainer.fit(first, data)
    trainer.fit(second, data)
    elman.save(path, first)


@pytest.mark.parametrize(
    ("save", "fragment"),
    [
        (lambda path: elman.save(path, RNNLM(RNN(28, 6), 28)), "trained on a text or loaded"),
        (lambda path: elman.save(path, object()), "save takes a model of one of"),
        (of_another_training, "before its trainer trains another"),
    ],
)
def test_what_is_no_model_of_a_text_is_not_saved(
    tmp_path: Path, save: Spoil, fragment: str
) -> None:
    with pytest.raises(ElmanError, match=fragment):
        save(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_never_written_to(folder: Path, trained: RNNLM) -> None:
    with pytest.raises(atomic.PathExistsError):
        elman.save(folder, trained)


def config(**changes: Any) -> Spoil:
    """Changes of fields of config.json."""

    def spoil(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return spoil


def last_token(tokenizer: str, token: Any) -> Spoil:
    """Another last token, for a tokenizer."""

    def spoil(folder: Path) -> None:
        config(tokenizer=tokenizer)(folder)
        tokens = json.loads((folder / "vocab.json").read_text())
        (folder / "vocab.json").write_text(json.dumps(sorted([*tokens[:-1], token], key=str)))

    return spoil


def weight(name: str, value: Any, **metadata: str) -> Spoil:
    """Another value of a weight, or none."""

    def spoil(folder: Path) -> None:
        values = load_file(folder / "model.safetensors") | {name: value}
        kept = {name: value for name, value in values.items() if value is not None}
        save_file(kept, folder / "model.safetensors", metadata)

    return spoil


def link(name: str) -> Spoil:
    """A file that is a link to the same content."""

    def spoil(folder: Path) -> None:
        (folder / name).rename(folder.parent / name)
        (folder / name).symlink_to(folder.parent / name)

    return spoil


FLOATS = np.zeros(28, np.float32)
BROKEN = "model.safetensors: the weight linear.bias must be finite, got NaN or infinity"


@pytest.mark.parametrize(
    ("spoil", "fragment"),
    [
        (config(precision="half"), "precision must be single or bf16, got 'half'"),
        (config(tokenizer="syllable"), "config.json: tokenizer must be"),
        (last_token("char", 3), "must be a sorted list"),
        (last_token("byte", "\N{SNOWMAN}"), "contains tokens that are not tokens of byte"),
        (last_token("byte", "xy"), "contains tokens that are not tokens of byte"),
        (last_token("char", "xy"), "contains tokens that are not tokens of char"),
        (last_token("char", ""), "contains tokens that are not tokens of char"),
        (weight("linear.bias", None), "linear.bias is missing"),
        (weight("other", FLOATS), "other does not belong"),
        (weight("linear.bias", FLOATS[1:]), "the weight linear.bias must be (28,), got (27,)"),
        (weight("linear.bias", FLOATS.astype(np.int32)), "linear.bias must be of floats, got"),
        (weight("linear.bias", FLOATS + np.float32(np.nan)), BROKEN),
        (weight("linear.bias", FLOATS - np.float32(np.inf)), BROKEN),
        (weight("linear.bias", FLOATS, more="x" * weights.MAX_HEADER_BYTES), "its header has 104"),
        (lambda folder: os.truncate(folder / "model.safetensors", 1 << 40), "it has more than"),
        *[
            (link(name), f"{name}: it is a symbolic link")
            for name in ("config.json", "vocab.json", "model.safetensors")
        ],
    ],
)
def test_files_that_do_not_fit_together_are_refused_by_name_before_they_take_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch, spoil: Spoil, fragment: str
) -> None:
    load, loaded = tensors.TensorFile.load, []
    monkeypatch.setattr(tensors.TensorFile, "load", lambda file: loaded.append(file) or load(file))
    spoil(folder)
    with pytest.raises(ElmanError, match=re.escape(fragment)):
        elman.load(folder)
    assert bool(loaded) == (fragment == BROKEN)


def test_a_link_may_lead_to_a_run(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(saved)
    assert elman.load(tmp_path / "link").codec.clean


def test_the_header_of_the_deepest_model_is_short_enough() -> None:
    deepest = weights.shapes(Architecture("lstm", 1 << 20, 1 << 16, 1000, 1 << 16))
    entry = {"dtype": "F64", "shape": [1 << 18, 1 << 16], "data_offsets": [1 << 46, 1 << 46]}
    assert len(json.dumps(dict.fromkeys(deepest, entry))) < weights.MAX_HEADER_BYTES


@pytest.mark.parametrize(
    ("row", "fragment"),
    [
        ("\n" * (1 << 21), "row 3 must have 11 numbers"),
        ("1," * (1 << 21), "row 3 must have 11 numbers"),
        ("4" + ",1" * 10, "row 3 must begin with 3, got '4'"),
        ("3,1,0" + ",1" * 8, "val_ppl of epoch 3 must be above 0, got 0.0"),
        ("3,1,1,-1" + ",1" * 7, "tokens_per_second of epoch 3 must be above 0, got -1.0"),
        ("3,1,1,1,inf" + ",1" * 6, "seconds of epoch 3 must be finite, got inf"),
        ("3" + ",1" * 10 + "\n4" + ",1" * 10, "epochs must be 3 or less, got 4"),
        ("\xe9", r"byte \d+ is not valid UTF-8"),
    ],
    ids=lambda each: each[:20],
)
def test_a_row_of_a_history_that_is_none_is_refused_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, row: str, fragment: str
) -> None:
    monkeypatch.setattr(run, "MAX_EPOCHS", 3)
    path = folder / "history.csv"
    path.write_bytes(path.read_bytes() + row.encode("latin-1"))
    tracemalloc.start()
    with pytest.raises(ElmanError, match=rf"history.csv: {fragment}"):
        run.read_history(folder)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * max(path.stat().st_size, 1 << 20)


def test_initial_weights_have_the_seed_of_their_name_and_redundant_biases_are_zero() -> None:
    small, deep = Architecture("gru", 28, 6, 1), Architecture("gru", 28, 6, 2)
    one, two = weights.initial(small, seed=5), weights.initial(deep, seed=5)
    for name, value in one.items():
        np.testing.assert_array_equal(two[name], value)
    assert (weights.initial(small, seed=6)["linear.bias"] != one["linear.bias"]).all()
    assert one["rnn.bias_hh_l0"].astype(bool).tolist() == [False] * 12 + [True] * 6
    assert not weights.initial(Architecture("lstm", 28, 6))["rnn.bias_hh_l0"].any()


def test_a_folder_that_may_not_be_looked_into_is_not_said_to_be_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "lstat", denied)
    with pytest.raises(MachineError):
        elman.load(tmp_path)
