"""Run directories: written whole or not at all, and checked when they are read."""

import contextlib
import csv
import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
import tracemalloc
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import elman
from elman import numba as engine
from elman.errors import ElmanError, InterruptedWorkError, MachineError
from elman.files import atomic, tensors
from elman.model import weights
from elman.model.weights import Architecture
from elman.numpy import RNN, RNNLM, SGD, TimeMachine, Trainer
from elman.runs import records, run, run_folder
from elman.runs.settings import Settings
from elman.training import curve_files
from tests.robustness.faults import failing

SETTINGS = records.RunSettings(Settings(text="story.txt"), "0" * 64)


@pytest.fixture(scope="module")
def trained() -> RNNLM:
    data = TimeMachine(64, 8, num_train=256, num_val=64)
    model = RNNLM(RNN(28, 6), 28, lr=1)
    Trainer(2, gradient_clip_val=1).fit(model, data)
    return model


@pytest.fixture
def folder(tmp_path: Path, trained: RNNLM) -> Path:
    elman.save(tmp_path / "run", trained)
    return tmp_path / "run"


def test_a_saved_model_comes_back_with_its_weights_vocabulary_and_history(
    folder: Path, trained: RNNLM
) -> None:
    loaded = elman.load(folder)
    for name, value in trained.parameters.items():
        np.testing.assert_array_equal(loaded.parameters[name], value)
    vocab = trained.trainer.data.vocab
    assert loaded.codec.vocab.idx_to_token == vocab.idx_to_token
    assert loaded.predict("it has", 20, vocab) == trained.predict("it has", 20, vocab)
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("epoch", "train_ppl", "val_ppl", "tokens_per_second", "seconds"),
        *("train_loss", "val_loss", "train_bits_per_character", "val_bits_per_character"),
        *("learning_rate", "gradient_norm"),
    ]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    read = run.read_history(folder)
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
    assert (folder / "curves.svg").exists()
    assert (folder / "curves.png").exists()


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


def test_the_engine_computes_a_loaded_model_unless_another_framework_is_named(
    folder: Path,
) -> None:
    assert isinstance(elman.load(folder), engine.RNNLM)
    named = elman.load(folder, framework="numpy")
    assert isinstance(named, RNNLM)
    assert not isinstance(named, engine.RNNLM)


def test_numpy_computes_what_the_engine_cannot(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    double = elman.load(folder, framework="numpy")
    double.load_weights({name: value.astype(float) for name, value in double.parameters.items()})
    elman.save(tmp_path / "double", double)
    loaded = elman.load(tmp_path / "double")
    assert {value.dtype for value in loaded.parameters.values()} == {np.dtype(float)}
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    code = f"import elman; print(type(elman.load({str(folder)!r})).__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "elman.numpy.model\n"


@pytest.mark.parametrize("name", ["newlines", "precision", "lines", "training"])
def test_a_run_that_lacks_a_field_is_refused_with_the_cure(folder: Path, name: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config[name]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ElmanError, match=f"json: the field {name} is missing; if another version"):
        elman.load(folder)


def test_a_saved_model_keeps_its_precision_unless_another_is_given(
    folder: Path, tmp_path: Path
) -> None:
    model = elman.load(folder, precision="bf16")
    assert model.precision == model.rnn.precision == "bf16"
    elman.save(tmp_path / "again", model)
    for framework in ("numpy", "numba"):
        assert elman.load(tmp_path / "again", framework).precision == "bf16"
        assert elman.load(tmp_path / "again", framework, "single").precision == "single"


def test_a_precision_that_there_is_not_is_refused(folder: Path) -> None:
    with pytest.raises(ElmanError, match="precision must be single or bf16, got 'half'"):
        elman.load(folder, precision="half")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"precision": "half"}))
    with pytest.raises(ElmanError, match="precision must be single or bf16, got 'half'"):
        run.read_config(folder)


def test_a_loaded_model_can_be_saved_again(folder: Path, tmp_path: Path) -> None:
    elman.save(tmp_path / "again", elman.load(folder))
    assert elman.load(tmp_path / "again").codec.clean


def test_an_existing_folder_is_never_written_to(folder: Path, trained: RNNLM) -> None:
    with pytest.raises(ElmanError, match="exists already"):
        elman.save(folder, trained)


def test_a_run_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic.new_folder(tmp_path / "a" / "run") as part:
        (part / "config.json").write_text("{}")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ElmanError, match="cannot write"),
        atomic.new_folder(tmp_path / "file" / "run"),
    ):
        pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_wherever_writing_a_run_fails_nothing_is_left_and_the_machine_is_told_of(
    tmp_path: Path, trained: RNNLM, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def save(figure: Any, *paths: Path) -> None:
        for path in paths:
            atomic.write(path, b"a picture")

    monkeypatch.setattr(curve_files, "save", save)
    call, ended = 0, False
    while not ended:
        call += 1
        folder = tmp_path / str(call) / "run"
        error = OSError(number, os.strerror(number))
        with failing(call, error) as made, contextlib.suppress(MachineError):
            elman.save(folder, trained)
            ended = len(made) < call
        assert folder.exists() or not folder.parent.exists()
    assert len([*folder.iterdir()]) == 6
    assert call > 6 * 5  # each file is opened, written, synced and named


def test_what_the_machine_refuses_is_told_apart_from_a_name_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for name in ("file/run", "x" * 300):
        with (
            pytest.raises(ElmanError, match="cannot write") as told,
            atomic.new_folder(tmp_path / name),
        ):
            pass
        assert told.value.exit_code == 2
    with (
        failing(1, PermissionError(errno.EACCES, "Permission denied")),
        pytest.raises(MachineError, match=r"cannot write .*run: Permission denied") as told,
        atomic.new_folder(tmp_path / "new" / "run"),
    ):
        pass
    assert told.value.exit_code == 1


def test_a_second_training_in_a_folder_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with run_folder.new_training(tmp_path / "run", SETTINGS):
        with (
            pytest.raises(ElmanError, match="run is being trained by another process: wait for it"),
            run_folder.resumed_training(tmp_path / "run"),
        ):
            pass
        (tmp_path / "run" / "config.json").write_text("{}")  # what the first ends with
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]


def test_trainings_that_begin_at_once_get_folders_of_their_own(tmp_path: Path) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        from elman.runs import records, run_folder
        from elman.runs.settings import Settings

        settings = records.RunSettings(Settings(), "0" * 64)
        print("ready", flush=True)
        sys.stdin.readline()
        for name in "abcdefgh":
            with run_folder.new_training(Path("runs", name), settings, numbered=True) as folder:
                (folder / "config.json").write_text("{}")
            print(folder.name, flush=True)
    """
    command = [sys.executable, "-c", code]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with contextlib.ExitStack() as stack:
        trainings = [
            stack.enter_context(subprocess.Popen(command, cwd=tmp_path, **pipes)) for _ in range(3)
        ]
        for training in trainings:
            assert training.stdout.readline() == "ready\n"
        for training in trainings:
            training.stdin.write("\n")
            training.stdin.flush()
        names = [line for training in trainings for line in training.stdout.read().split()]
    assert sorted(names) == sorted(
        f"{name}{more}" for name in "abcdefgh" for more in ("", "-2", "-3")
    )
    assert sorted(names) == sorted(path.name for path in (tmp_path / "runs").iterdir())


def test_a_name_that_is_taken_at_the_last_moment_is_not_taken_away(tmp_path: Path) -> None:
    with (
        pytest.raises(ElmanError, match="run exists already"),
        atomic.new_folder(tmp_path / "run"),
    ):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "file").write_text("precious")
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "file"]


def test_the_names_of_a_new_run_and_of_the_folders_above_it_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    monkeypatch.setattr(atomic, "fsync_dir", lambda path: synced.append((path, os.listdir(path))))
    with atomic.new_folder(tmp_path / "runs" / "run"):
        pass
    assert synced == [(tmp_path, ["runs"]), (tmp_path / "runs", ["run"])]


def test_a_process_that_waited_for_the_lock_resumes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder.checkpoint, "paths", lambda folder: [Path("1.safetensors")])
    next_one, release = FileLock(tmp_path / "run" / ".lock", blocking=False), FileLock.release

    def released(lock: FileLock, force: bool = False) -> None:
        release(lock, force)
        if lock is not next_one and not next_one.is_locked:
            next_one.acquire()  # another process, that very moment

    with monkeypatch.context() as within:
        within.setattr(FileLock, "release", released)
        with (
            pytest.raises(InterruptedWorkError),
            run_folder.new_training(tmp_path / "run", SETTINGS),
        ):
            raise KeyboardInterrupt
    with (
        pytest.raises(ElmanError, match="is being trained by another process"),
        run_folder.resumed_training(tmp_path / "run"),
    ):
        pass
    next_one.release()


def test_a_training_that_is_being_removed_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, left = FileLock.release, []

    def released(lock: FileLock, force: bool = False) -> None:
        left.append((tmp_path / "run" / "training.json").exists())
        release(lock, force)

    monkeypatch.setattr(FileLock, "release", released)
    with pytest.raises(KeyboardInterrupt), run_folder.new_training(tmp_path / "run", SETTINGS):
        raise KeyboardInterrupt
    assert not left[0]
    assert list(tmp_path.iterdir()) == []


def test_resuming_is_suggested_only_where_it_is_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder.checkpoint, "paths", lambda folder: [Path("1.safetensors")])
    cure = "; resume from the last checkpoint with elman train --resume "
    for error, told in ((MachineError("disk full"), cure), (ElmanError("another text"), "")):
        name = type(error).__name__
        with (
            pytest.raises(type(error)) as raised,
            run_folder.new_training(tmp_path / name, SETTINGS),
        ):
            raise error
        assert raised.value.in_shell() == f"{error}{told and told + str(tmp_path / name)}"


def test_where_no_file_can_be_locked_no_folder_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def acquire(lock: FileLock) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with (
        pytest.raises(MachineError, match="No locks available"),
        run_folder.new_training(tmp_path / "run", SETTINGS),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_crash_left_of_a_finished_training_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("config.json", "training.json", ".lock", "checkpoints/000000000001.safetensors"):
        (folder / name).write_text("{}")
    with (
        pytest.raises(ElmanError, match="run is finished: nothing to resume"),
        run_folder.resumed_training(folder),
    ):
        pass
    assert [path.name for path in folder.iterdir()] == ["config.json"]


@pytest.mark.parametrize("name", [".lock", ".config.json.part", "curves.svg", "checkpoints"])
def test_a_training_with_links_out_of_its_folder_is_not_resumed(tmp_path: Path, name: str) -> None:
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "training.json").write_text(json.dumps(asdict(SETTINGS)))
    elsewhere.mkdir()
    (elsewhere / "file").write_text("precious")
    (folder / name).symlink_to(elsewhere if name == "checkpoints" else elsewhere / "file")
    with (
        pytest.raises(ElmanError, match=f"{name} is a symbolic link: remove it"),
        run_folder.resumed_training(folder),
    ):
        pass
    assert [path.read_text() for path in elsewhere.iterdir()] == ["precious"]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="users have no numbers here")
def test_another_users_training_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "training.json").write_text(json.dumps(asdict(SETTINGS)))
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with (
        pytest.raises(ElmanError, match="run belongs to another user: use your own copy"),
        run_folder.resumed_training(tmp_path / "run"),
    ):
        pass
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["training.json"]


def test_a_link_may_lead_to_a_run_and_none_may_lie_inside(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert elman.load(tmp_path / "link").codec.clean
    for name in ("config.json", "vocab.json", "model.safetensors"):
        (folder / name).rename(tmp_path / name)
        (folder / name).symlink_to(tmp_path / name)
        with pytest.raises(ElmanError, match=f"{name}: it is a symbolic link, not a regular file"):
            elman.load(folder)
        (folder / name).unlink()
        (tmp_path / name).rename(folder / name)


def test_weights_larger_than_the_model_are_not_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(file: Any) -> None:
        raise AssertionError("what does not fit was loaded")

    monkeypatch.setattr(tensors.TensorFile, "load", loaded)
    model = folder / "model.safetensors"
    values = load_file(model)
    for changed in (
        values | {"linear.bias": np.zeros(1 << 17, np.float32)},
        values | {"other": np.zeros(1, np.float32)},
        values | {"linear.bias": np.zeros(28, np.int32)},
    ):
        save_file(changed, model)
        with pytest.raises(ElmanError, match=f"{model}: the weight "):
            elman.load(folder)
    with model.open("ab") as file:
        file.truncate(1 << 40)  # which takes no place on the disk
    with pytest.raises(ElmanError, match=f"cannot read {model}: it has more than"):
        elman.load(folder)


def test_a_header_longer_than_any_models_is_not_parsed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = load_file(folder / "model.safetensors")
    save_file(values, folder / "model.safetensors", {"more": "x" * weights.MAX_HEADER_BYTES})
    monkeypatch.setattr(tensors, "_header", None)
    with pytest.raises(ElmanError, match=r"its header has 104\d{4} bytes"):
        elman.load(folder)


def test_the_header_of_the_deepest_model_is_short_enough() -> None:
    deepest = weights.shapes(Architecture("lstm", 1 << 20, 1 << 16, 1000, 1 << 16))
    entry = {"dtype": "F64", "shape": [1 << 18, 1 << 16], "data_offsets": [1 << 46, 1 << 46]}
    assert len(json.dumps(dict.fromkeys(deepest, entry))) < weights.MAX_HEADER_BYTES


@pytest.mark.parametrize(
    ("tokenizer", "token"), [("byte", "\N{SNOWMAN}"), ("byte", "xy"), ("char", "xy"), ("char", "")]
)
def test_a_vocabulary_that_the_tokenizer_cannot_write_is_refused(
    folder: Path, tokenizer: str, token: str
) -> None:
    spoil_json(folder / "config.json", tokenizer=tokenizer)
    tokens = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(sorted([*tokens[:-1], token])))
    with pytest.raises(ElmanError, match=rf"contains tokens that are not tokens of {tokenizer}"):
        elman.load(folder)


architectures = st.builds(
    Architecture,
    st.sampled_from(["rnn", "gru", "lstm"]),
    *[st.integers(1, 6)] * 3,
    embedding=st.integers(0, 5),
)


@given(architectures, st.integers(0, 9))
def test_weights_are_those_of_their_architecture_alone(arch: Architecture, seed: int) -> None:
    values = weights.initial(arch, seed)
    weights.check(values, arch)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "model.safetensors"
        tensors.write(path, values)
        found = weights.load(path, arch)
        assert all(np.array_equal(found[name], value) for name, value in values.items())
        for change in ({"hidden": arch.hidden + 1}, {"layers": arch.layers + 1}, {"vocab": 7}):
            with pytest.raises(ElmanError, match=r"model\.safetensors: the weight "):
                weights.load(path, replace(arch, **change))


def test_a_model_without_text_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ElmanError, match="a model must be trained on a text or loaded"):
        elman.save(tmp_path / "run", RNNLM(RNN(28, 6), 28))
    with pytest.raises(ElmanError, match="save takes a model of one of"):
        elman.save(tmp_path / "run", object())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o700), (0o022, 0o755), (0o007, 0o770)])
def test_a_run_has_the_permissions_that_the_umask_leaves(
    tmp_path: Path, mask: int, mode: int
) -> None:
    before = os.umask(mask)
    try:
        with atomic.new_folder(tmp_path / "run") as part:
            (part / "file").touch()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == mode


def spoil_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_folder_that_is_not_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ElmanError, match="is not a run directory"):
        elman.load(tmp_path)


@pytest.mark.parametrize("unit", ["\n", "1,", '""'])
def test_a_history_of_nothing_but_line_ends_or_cells_is_refused_at_once(
    folder: Path, unit: str
) -> None:
    path = folder / "history.csv"
    with path.open("a") as file:
        file.write(unit * (1 << 21))
    tracemalloc.start()
    with pytest.raises(ElmanError, match=r"cannot read .*history.csv: row \d must have 11 numbers"):
        run.read_history(folder)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * path.stat().st_size


def test_a_history_has_no_more_epochs_than_a_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "MAX_EPOCHS", 1)
    with pytest.raises(ElmanError, match=r"history.csv: epochs must be 1 or less, got 2"):
        run.read_history(folder)


def test_files_that_do_not_fit_together_are_refused_by_name(folder: Path) -> None:
    config, vocab, model = (
        folder / name for name in ("config.json", "vocab.json", "model.safetensors")
    )
    good = {path: path.read_bytes() for path in (config, vocab, model)}

    def refused(message: str) -> None:
        with pytest.raises(ElmanError, match=message):
            elman.load(folder)
        for path, content in good.items():
            path.write_bytes(content)

    spoil_json(config, extra=1)
    refused('config.json: "extra" is not a known field: architecture, tokenizer, clean')
    spoil_json(config, tokenizer="syllable")
    refused("config.json: tokenizer must be")
    config.write_text("{")
    refused("cannot read .*config.json")
    config.write_text("[1]")
    refused(r"it must be an object with the fields architecture, .*, got \[1\]")
    architecture = json.loads(config.read_text())["architecture"]
    spoil_json(config, architecture=architecture | {"cell": "cnn"})
    refused("config.json: the cell 'cnn' is not registered")
    spoil_json(config, architecture=architecture | {"hidden": "6"})
    refused('config.json: architecture.hidden must be a whole number below 2\\^63, got "6"')
    vocab.write_text(json.dumps(json.loads(vocab.read_text())[::-1]))
    refused("sorted list")
    vocab.write_text(json.dumps(list(range(28))))
    refused("sorted list")
    vocab.write_text('["<unk>", "a"]')
    refused("must have 28 tokens, got 2")
    model.write_bytes(b"nonsense")
    refused("cannot read .*model.safetensors: it is not a complete safetensors file")
    values = load_file(model)
    save_file(values | {"linear.bias": np.zeros(3, np.float32)}, model)
    refused(r"model.safetensors: the weight linear.bias must be \(28,\), got \(3,\)")
    save_file({name: value for name, value in values.items() if name != "linear.bias"}, model)
    refused("linear.bias is missing")
    save_file(values | {"other": np.zeros(3, np.float32)}, model)
    refused("other does not belong")


def test_initial_weights_have_the_seed_of_their_name_alone() -> None:
    small, deep = Architecture("gru", 28, 6, 1), Architecture("gru", 28, 6, 2)
    one, two = weights.initial(small, seed=5), weights.initial(deep, seed=5)
    for name, value in one.items():
        np.testing.assert_array_equal(two[name], value)
    assert (weights.initial(small, seed=6)["linear.bias"] != one["linear.bias"]).all()


def test_redundant_biases_start_at_zero_and_the_others_do_not() -> None:
    for cell in ("rnn", "rnn-relu", "lstm"):
        assert not weights.initial(Architecture(cell, 28, 6))["rnn.bias_hh_l0"].any()
    gru = weights.initial(Architecture("gru", 28, 6))["rnn.bias_hh_l0"]
    assert not gru[:12].any()
    assert gru[12:].all()


def test_a_model_whose_trainer_has_trained_another_is_refused(tmp_path: Path) -> None:
    data = TimeMachine(32, 8, num_train=32, num_val=32)
    first, second = (RNNLM(RNN(28, 4), 28, lr=1) for _ in range(2))
    trainer = Trainer(1)
    trainer.fit(first, data)
    trainer.fit(second, data)
    elman.save(tmp_path / "second", second)
    with pytest.raises(ElmanError, match="before its trainer trains another"):
        elman.save(tmp_path / "first", first)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_weights_with_nan_or_infinity_are_refused(folder: Path, broken: float) -> None:
    values = load_file(folder / "model.safetensors")
    values["linear.bias"][0] = broken
    save_file(values, folder / "model.safetensors")
    with pytest.raises(
        ElmanError, match=r"the weight linear\.bias must be finite, got NaN or infinity"
    ):
        elman.load(folder)


def test_a_folder_that_may_not_be_looked_into_is_not_said_to_be_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "lstat", denied)
    with pytest.raises(MachineError, match=r"cannot read .*config.json: Permission denied"):
        elman.load(tmp_path)
