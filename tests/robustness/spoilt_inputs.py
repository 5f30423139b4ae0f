"""Kinds of spoilt inputs, each with what reads it, for `tests/robustness/hostile.py`."""

import contextlib
import io
import json
import logging
import os
import shutil
import signal
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from good_files import Good, copied, files
from spoiling import FLOATS, NUMBERS, STORY, Chance

import elman
from elman.book.data_sets import TextFile
from elman.cli import main as command_line
from elman.data import store
from elman.errors import ElmanError
from elman.experiments import train
from elman.files import json_files, tensors
from elman.inference.evaluation import evaluate, evaluate_on
from elman.inference.language_model import generate, score
from elman.inference.sampling import Sampler
from elman.runs import records, results, run, run_folder, table
from elman.runs.settings import Settings
from elman.training import checkpoint
from elman.training.callback import Callback

Kind = Callable[[Good, Path, Chance], Callable[[], Any]]


def used(folder: Path, chance: Chance) -> Callable[[], Any]:
    """Load a run, and have it write and read: in Python, or for a share by the command line."""
    if chance.random() < 0.1:
        return told(["generate", str(folder), "Once", "--tokens", "3", "--framework", "numpy"])

    def use() -> None:
        model = elman.load(folder)
        prefix = model.codec.prefix_ids("Once")
        model.codec.text(generate(model, prefix, 5, Sampler(0.8, 5, 0.9, 0.01)))
        evaluate(model, STORY[:100], model.codec)

    return use


# A training that is refused at its end, since it has diverged, has printed these before.
OF_A_TRAINING = "epoch ", *(f"elman: {line}: " for line in ("model", "training", "regularization"))


def told(words: list[str]) -> Callable[[], Any]:
    """The command line, which must not end with a traceback, and say what is wrong in a line."""

    def tell() -> None:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        log, argv, before = logging.getLogger("elman"), sys.argv, signal.getsignal(signal.SIGTERM)
        sys.argv = ["elman", *words]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                command_line()
        except SystemExit as ended:
            code = ended.code
        finally:
            signal.signal(signal.SIGTERM, before)
            sys.argv = argv
            log.handlers.clear()
            log.setLevel(logging.CRITICAL)
        err.seek(0)
        said = err.read()
        lines = [line for line in said.splitlines() if not line.startswith(OF_A_TRAINING)]
        if code:
            if code != 2 and not (code == 1 and "loss became" in said):
                raise AssertionError(f"exit code {code}: {said}")
            advice = ("elman: the checkpoint is damaged: ", "elman: an epoch has ")
            if len(lines) != 1 + sum(map(said.count, advice)):
                raise AssertionError(f"not one line: {said}")
            raise ElmanError(lines[-1])

    return tell


def spoilt_json(name: str) -> Kind:
    """One of a run's JSON files, with a field changed."""

    def kind(good: Good, place: Path, chance: Chance) -> Callable[[], Any]:
        folder = copied(good, place, chance)
        value = json.loads((folder / name).read_text())
        (folder / name).write_bytes(chance.json(value))
        return used(folder, chance)

    return kind


def byte_pairs(good: Good, place: Path, chance: Chance) -> Callable[[], Any]:
    """The tokenizer.json of a run by byte pairs, or of a store that a model of its tokens reads."""
    folder = place / "folder"
    shutil.copytree(chance.choice([good.bpe_run, good.stores[1]]), folder)
    path = folder / "tokenizer.json"
    path.write_bytes(
        chance.choice([chance.json(json.loads(path.read_bytes())), chance.raw(path.read_bytes())])
    )
    if (folder / "config.json").exists():
        return used(folder, chance)
    if chance.random() < 0.1:
        return told(["evaluate", str(good.bpe_run), str(folder), "--framework", "numpy"])
    model = elman.load(good.bpe_run)
    return lambda: evaluate_on(model, folder)


def headers(good: Good, place: Path, chance: Chance) -> Callable[[], Any]:
    """The weights' header, or the weights."""
    folder = copied(good, place)
    path = folder / "model.safetensors"
    path.write_bytes(chance.safetensors(path.read_bytes()))
    return used(folder, chance)


def raw_bytes(good: Good, place: Path, chance: Chance) -> Callable[[], Any]:
    """Bytes of any file of a run."""
    folder = copied(good, place, chance)
    path = chance.choice(files(folder))
    path.write_bytes(chance.raw(path.read_bytes()))
    return used(folder, chance)


def not_files(good: Good, place: Path, chance: Chance) -> Callable[[], Any]:
    """A file of a run that is a link, a folder, a pipe, sparse, or not there."""
    folder = copied(good, place, chance)
    path = chance.choice(files(folder))
    path.unlink()
    chance.choice(
        [
            lambda: None,
            path.mkdir,
            lambda: sparse(path, 1 << 33),
            lambda: os.mkfifo(path),
            lambda: path.symlink_to(good.bpe_run / path.name),
            lambda: path.symlink_to("/dev/zero"),
            lambda: path.symlink_to(path),
            lambda: sparse(path, 1 << 40),
        ]
    )()
    if path.name == "history.csv":
        return lambda: run.read_history(folder)
    return used(folder, chance)


def sparse(path: Path, size: int) -> None:
    """A file of zeros that takes no place on the disk."""
    with path.open("wb") as file:
        file.truncate(size)


def histories(good: Good, place: Path, chance: Chance) -> Callable[[], Any]:
    """A history with rows and cells changed."""
    folder = copied(good, place)
    lines = (folder / "history.csv").read_text().splitlines()
    line = chance.randrange(len(lines))
    lines[line] = chance.row(lines[line])
    text = chance.choice([lines, lines, lines, lines[:line], lines[line:], lines + lines])
    (folder / "history.csv").write_text("\n".join(text) + chance.choice(["\n", "", "\n\n"]))
    if chance.random() < 0.02:
        return told(["compare", str(folder), "--plot", str(place / "curves.png")])

    def compare() -> str:
        found = results.result(folder, run.read_config(folder), run.read_history(folder))
        return table.table([found, found]) + table.overview([found, found])

    return compare


def trainings(good: Good, place: Path, chance: Chance) -> Callable[[], Any]:
    """The settings of a training that is to go on."""
    folder = place / "run"
    folder.mkdir()
    (folder / "training.json").write_bytes(chance.json(good.settings))
    if chance.random() < 0.1:
        name = chance.choice([".lock", ".config.json.part", "checkpoints", "training.json"])
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(good.text)

    def resume() -> None:
        with (
            contextlib.suppress(EnoughError),
            run_folder.resumed_training(folder) as settings,
        ):
            train.Training.from_settings(settings).fit(OneUpdate())

    return resume


class EnoughError(Exception):
    """The training has begun."""


class OneUpdate(Callback):
    def after_update(self, trainer: Any) -> None:
        raise EnoughError


def checkpoints(good: Good, place: Path, chance: Chance) -> Callable[[], Any]:
    """A checkpoint with other state or arrays and a valid digest, or with changed bytes."""
    folder = place / "run" / "checkpoints"
    folder.mkdir(parents=True)
    settings, good_one = chance.choice(good.checkpoints)
    (folder.parent / "training.json").write_text(json.dumps(settings))
    spoil = chance.choice([chance.raw, chance.safetensors, *[other_state(chance)] * 4])
    number = chance.choice(["000000000001"] * 8 + ["²", "1" * 200])
    (folder / f"{number}.safetensors").write_bytes(spoil(good_one))
    if chance.random() < 0.05:
        return told(["train", "--resume", str(folder.parent)])

    def resume() -> None:
        found = checkpoint.read_newest(folder)
        if found is None:
            raise ElmanError("refused")
        kept = records.RunSettings(Settings(**settings["settings"]), settings["text_sha256"])
        train.Training.from_settings(kept).fit(resume=found)

    return resume


def other_state(chance: Chance) -> Callable[[bytes], bytes]:
    """Spoil what a checkpoint says, or has, and sign it as its writer would."""

    def spoil(raw: bytes) -> bytes:
        from safetensors.numpy import load, save

        arrays = load(raw)
        length = struct.unpack("<Q", raw[:8])[0]
        text = json.loads(raw[8 : 8 + length])["__metadata__"]["trainer_state"]
        if chance.random() < 0.6:
            text = chance.json(json.loads(text)).decode(errors="replace")
        else:
            name = chance.choice(list(arrays))
            array = arrays.pop(name)
            other = [array[..., None], array.astype(np.float64), array.astype(np.int8), array * 0]
            other += [np.frombuffer(b'{"state": 1}', np.uint8), array.astype(np.float32) - 9]
            if chance.random() < 0.8:
                arrays[chance.choice([name, name, name, "x", "generator"])] = chance.choice(other)
        arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        text = text.encode(errors="replace").decode()
        return save(arrays, {"trainer_state": text, "digest": checkpoint._digest(arrays, text)})

    return spoil


def stores(good: Good, place: Path, chance: Chance) -> Callable[[], Any]:
    """A token store with one of its files changed, or replaced."""
    folder = place / "store"
    shutil.copytree(chance.choice(good.stores), folder)
    spoil_store(folder, chance)
    if chance.random() < 0.1:
        return told(["evaluate", str(good.run), str(folder), "--framework", "numpy"])
    return lambda: list(TextFile(str(folder), 4, 8).train_dataloader())


def line_stores(good: Good, place: Path, chance: Chance) -> Callable[[], Any]:
    """A store of lines with one of its files changed, or replaced."""
    folder = place / "store"
    shutil.copytree(good.line_store, folder)
    spoil_store(folder, chance)
    return lambda: list(TextFile(str(folder), 4, 8, lines=True).train_dataloader())


def spoil_store(folder: Path, chance: Chance) -> None:
    path = chance.choice(sorted(folder.iterdir()))
    raw = path.read_bytes()
    if chance.random() < 0.1:
        path.unlink()
        chance.choice([lambda: None, path.mkdir, lambda: path.symlink_to("/dev/zero")])()
    elif path.suffix == ".json" and chance.random() < 0.7:
        path.write_bytes(chance.json(json.loads(raw)))
    else:
        path.write_bytes(chance.raw(raw))


def large_files(good: Good, place: Path, chance: Chance) -> Callable[[], Any]:
    """A file of a run, or the state in a checkpoint, with many values in few bytes."""
    folder = copied(good, place, chance)
    path, raw = chance.choice([*files(folder), folder / "trainer_state"]), chance.large()
    if path.name == "trainer_state":
        text = raw.decode(errors="replace")
        arrays = {"w": np.zeros(chance.choice([1, 1 << 26]), np.uint8)}
        signed = {"trainer_state": text, "digest": checkpoint._digest(arrays, text)}
        tensors.write(folder / "1.safetensors", arrays, signed)
        return lambda: checkpoint.read_newest(folder)
    if path.suffix == ".safetensors":
        raw = struct.pack("<Q", len(raw)) + raw
    path.write_bytes(chance.choice([raw, path.read_bytes() + raw]))
    if path.name == "history.csv":
        return lambda: run.read_history(folder)
    return used(folder, chance)


def small_stacks(good: Good, place: Path, chance: Chance) -> Callable[[], Any]:
    """JSON that is read in a thread with little memory for calls in each other."""
    text = chance.choice([chance.broken_json(b"{}"), chance.nested(), chance.large()])

    def read() -> None:
        failed: list[BaseException] = []

        def parse() -> None:
            try:
                json_files.parse(text, "it")
            except BaseException as error:
                failed.append(error)

        before = threading.stack_size(128 << 10)
        try:
            thread = threading.Thread(target=parse)
            thread.start()
        finally:
            threading.stack_size(before)
        thread.join()
        if failed:
            raise failed[0]

    return read


def cut_stores(good: Good, place: Path, chance: Chance) -> Callable[[], Any]:
    """A token store whose ids are cut off while they are read."""
    folder = place / "store"
    shutil.copytree(good.stores[0], folder)
    length = chance.randrange((folder / "ids.bin").stat().st_size)
    batching = chance.choice(["random", "contiguous", "shuffled"])

    def read() -> None:
        data = TextFile(str(folder), 4, 8, batching=batching)
        for _ in data.train_dataloader():
            os.truncate(folder / "ids.bin", length)

    def evaluated() -> None:
        text = store.read(folder)
        for _ in score(elman.load(good.run), text.ids):
            os.truncate(folder / "ids.bin", length)

    return chance.choice([read, read, evaluated])


def texts(good: Good, place: Path, chance: Chance) -> Callable[[], Any]:
    """Texts of any bytes, and what is no file."""
    path = place / "text.txt"
    if chance.random() < 0.1:
        chance.choice([path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero")])()
    else:
        path.write_bytes(chance.text())
    tokenizer = chance.choice(["char", "byte", "word", "char", "byte", "word", "bpe"])
    if chance.random() < 0.1:
        return told(["evaluate", str(good.run), str(path), "--framework", "numpy"])
    return lambda: list(TextFile(str(path), 4, 8, tokenizer).train_dataloader())


def words(good: Good, place: Path, chance: Chance) -> Callable[[], Any]:
    """Options of every command with values that they may not have."""
    numbers = [number for number in NUMBERS if not 7 < number < 1 << 31]  # which take long
    option = chance.choice(
        [
            *["hidden", "layers", "embedding", "seq-len", "batch-size", "lr", "clip", "momentum"],
            *["dropout", "seed", "cell", "tokenizer", "optimizer", "device", "framework", "out"],
            *[
                "edition",
                "precision",
                "weight-decay",
                "checkpoint-every",
                "sample-every",
                "resume",
                "vocab-size",
                "min-freq",
                "newlines",
            ],
        ]
    )
    large = [1 << 16] if option == "hidden" else []  # which is more than there is memory for
    number = str(chance.choice([*numbers, *large, *FLOATS, "", "x", "é", "\x1b[2J"]))
    tokens = chance.choice(["tokens", "temperature", "top-k", "top-p", "min-p", "seed"])
    small = [
        f"--{name}={value}" for name, value in {"hidden": 4, "seq-len": 8, "epochs": 1}.items()
    ]
    out = [] if option == "out" else [f"--out={place / 'made'}"]
    train = ["train", str(good.text), *small, *out, "--framework=numpy", f"--{option}={number}"]
    write = ["generate", str(good.run), "Once", "--framework=numpy", "--tokens=3"]
    return chance.choice(
        [
            told(["train", f"--resume={number}"] if option == "resume" else train),
            told([*write, f"--{tokens}={number}"]),
            told(["generate", str(good.run), number, "--framework=numpy", "--tokens=3"]),
        ]
    )


KINDS: dict[str, Kind] = {
    "config.json": spoilt_json("config.json"),
    "vocab.json": spoilt_json("vocab.json"),
    "tokenizer.json": byte_pairs,
    "model.safetensors": headers,
    "bytes of a run": raw_bytes,
    "no regular file": not_files,
    "history.csv": histories,
    "training.json": trainings,
    "checkpoints": checkpoints,
    "stores": stores,
    "stores of lines": line_stores,
    "large files": large_files,
    "small stacks": small_stacks,
    "cut stores": cut_stores,
    "texts": texts,
    "command line": words,
}
