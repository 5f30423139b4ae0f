"""Attacks on memory: small files that ask for much, for `tests/robustness/attacks.py`."""

import json
import random
import resource
import struct
from pathlib import Path
from typing import Any

from commands import QUICK, STORY, check, one_line, run, stopped, story, trained

MEGABYTE = 1 << 20


def newlines(folder: Path) -> str:
    """A history of 64 MiB of line ends."""
    made = trained(folder)
    header = (made / "history.csv").read_bytes().splitlines()[0]
    (made / "history.csv").write_bytes((header + b"\n").ljust(64 * MEGABYTE, b"\n"))
    done = run(folder, "compare", "run")
    check(done.peak < 700, f"{done.peak} MB, {done.seconds:.0f} s")
    return f"{done.peak} MB, {done.seconds:.1f} s: {one_line(done)}"


def nested_vocabulary(folder: Path) -> str:
    """A vocabulary of 64 MiB of empty lists in lists."""
    made = trained(folder)
    (made / "vocab.json").write_bytes(b"[" + b"[[]]," * (64 * MEGABYTE // 5 - 2) + b"[[]]]")
    done = run(folder, "generate", "run", "Once", "--framework", "numpy")
    check(done.peak < 700, f"{done.peak} MB, {done.seconds:.0f} s")
    return f"{done.peak} MB, {done.seconds:.1f} s: {one_line(done)}"


def signed(folder: Path, state: bytes, arrays: dict[str, Any]) -> None:
    """Write a checkpoint with this trainer state and a valid digest."""
    from safetensors.numpy import save

    from elman.training import checkpoint

    text = state.decode()
    path = sorted((folder / "checkpoints").glob("0*.safetensors"))[-1]
    for old in (folder / "checkpoints").glob("*.safetensors"):
        old.unlink()
    path.write_bytes(
        save(arrays, {"trainer_state": text, "digest": checkpoint._digest(arrays, text)})
    )


def contents(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Trainer state and arrays of the newest checkpoint of a run."""
    from safetensors.numpy import load

    raw = sorted((path / "checkpoints").glob("0*.safetensors"))[-1].read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    return json.loads(json.loads(raw[8 : 8 + length])["__metadata__"]["trainer_state"]), load(raw)


def large_state(folder: Path) -> str:
    """Trainer state of a checkpoint, 96 MB large."""
    half = stopped(folder)
    _, arrays = contents(half)
    signed(half, b"[" + b"[[]]," * (96_000_000 // 5) + b"[]]", arrays)
    done = run(folder, "train", "--resume", "half")
    check(done.peak < 700, f"{done.peak} MB, {done.seconds:.0f} s")
    check("Traceback" not in done.err, "traceback")
    return f"{done.peak} MB, {done.seconds:.1f} s, exit code {done.code}"


def large_checkpoint(folder: Path) -> str:
    """A checkpoint of a gigabyte of bytes."""
    import numpy as np

    half = stopped(folder)
    state, arrays = contents(half)
    signed(half, json.dumps(state).encode(), arrays | {"more": np.zeros(10**9, np.uint8)})
    del arrays
    done = run(folder, "train", "--resume", "half")
    check("Traceback" not in done.err, "traceback")
    check(done.peak < 1350, f"{done.peak} MB for a file of 1,000")
    return f"{done.peak} MB, exit code {done.code}: {done.said}"


def different_words(folder: Path) -> str:
    """Texts of 10, 40 and 80 MB in which all words are different."""
    peaks, last = [], None
    for size in (10, 40, 80):
        with (folder / "words.txt").open("w") as file:
            file.writelines(f"w{n:08x} " for n in range(size * 10**5))
        words = ("prepare", "words.txt", "--tokenizer", "word", "--out", f"store-{size}")
        last = run(folder, *words)
        check("Traceback" not in last.err, "traceback")
        peaks.append(last.peak)
    check(peaks[-1] < 1.6 * peaks[-2], f"{peaks} MB")
    return f"{peaks} MB; {last.said if last else ''}"


def too_large(folder: Path) -> str:
    """A model that needs more memory than there may be."""
    done = run(
        folder,
        *("train", story(folder), *QUICK, "--hidden", "14000"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29)),
    )
    return one_line(done)


def long_piece(folder: Path) -> str:
    """A run of 100,000 and of 400,000 characters without a space, by byte pairs."""
    seconds = []
    for number in (100_000, 400_000):
        chance = random.Random(0)
        text = STORY + "".join(chance.choice("abcdefgh") for _ in range(number)) + "\n" + STORY
        (folder / "long.txt").write_text(text)
        words = ("prepare", "long.txt", "--tokenizer", "bpe", "--out", f"store-{number}")
        done = run(folder, *words)
        check(done.code == 0 or one_line(done), "")
        seconds.append(done.seconds)
    check(seconds[1] < 6 * seconds[0] and seconds[0] < 10, f"{seconds} s")
    return f"{seconds[0]:.1f} and {seconds[1]:.1f} s"
