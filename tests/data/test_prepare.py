"""`elman prepare`: a store is whole or not there, and a text is read once."""

import errno
import gzip
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from elman.data import store, token_writer, tokenization
from elman.data.store import prepare
from elman.errors import ElmanError
from elman.inference.language_model import CompiledModel
from elman.text import text_files
from tests.conftest import Command

TEXT = "Once upon a time, said Zoë; the end — 時. \n" * 99
TOKENIZER_NAMES = ("char", "byte", "word", "bpe")


@pytest.fixture
def texts(tmp_path: Path) -> list[str]:
    """Two files, the second of which brings new symbols, and ids that take two bytes."""
    one, two = tmp_path / "one.txt", tmp_path / "two.txt.gz"
    one.write_text(TEXT, encoding="utf-8")
    others = " ".join(map(chr, range(0x400, 0x600)))
    two.write_bytes(gzip.compress((others + TEXT).encode()))
    return [str(one), str(two)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def size_for(name: str) -> int | None:
    return 280 if name == "bpe" else None


def test_files_are_one_text(texts: list[str], tmp_path: Path) -> None:
    prepare(texts, tmp_path / "store", "char")
    text = store.read(tmp_path / "store")
    found = text.codec.text(text.ids)
    assert found == "".join(text_files.blocks(map(Path, texts)))
    assert sorted(contents(tmp_path / "store")) == ["ids.bin", "store.json", "vocab.json"]


def test_standard_input_is_a_text(
    texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(texts, tmp_path / "files", "word")
    raw = Path(texts[1]).read_bytes()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(raw)))
    prepare([texts[0], "-"], tmp_path / "piped", "word")
    assert contents(tmp_path / "piped") == contents(tmp_path / "files")
    with pytest.raises(ElmanError, match="can only be read once, got - twice"):
        prepare(["-", "-"], tmp_path / "twice", "word")
    monkeypatch.setattr("sys.stdin", None)  # as where the shell closes it
    with pytest.raises(ElmanError, match="standard input is closed"):
        prepare(["-"], tmp_path / "closed", "word")


def test_progress_is_reported(texts: list[str], tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    prepare(texts, tmp_path / "store", "char", report=lambda *words: told.append(words))
    total = sum(Path(path).stat().st_size for path in texts)
    assert told[-1] == ("reading", total, total)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    told.clear()
    prepare(texts, tmp_path / "bpe", "bpe", 280, report=lambda *words: told.append(words))
    assert told[-1] == ("reading", total, total)


def interrupted(what: str, done: int, total: int) -> None:
    """Interrupt a preparation in the middle."""
    if what == "reading" and done > total / 2:
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", TOKENIZER_NAMES)
def test_an_interrupted_preparation_leaves_no_files_and_begins_again(
    texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    prepare(texts, tmp_path / "whole", name, size_for(name))
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 1000)
    with pytest.raises(KeyboardInterrupt):
        prepare(texts, tmp_path / "store", name, size_for(name), report=interrupted)
    assert sorted(tmp_path.rglob("*")) == before
    prepare(texts, tmp_path / "store", name, size_for(name))
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


@pytest.mark.parametrize("lines", [False, True])
def test_a_text_is_read_once_to_learn_byte_pairs_and_to_number_them(
    texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: bool
) -> None:
    opened: list[Path] = []
    blocks_of = text_files._blocks_of

    def counted(path: Path) -> Any:
        opened.append(path)
        return blocks_of(path)

    monkeypatch.setattr(text_files, "_blocks_of", counted)
    prepare(texts, tmp_path / "store", "bpe", 280, lines=lines)
    assert opened == [*map(Path, texts)]
    monkeypatch.setattr(tokenization, "MAX_SAMPLE_CHARACTERS", 2000)
    prepare(texts, tmp_path / "sampled", "bpe", 280, lines=lines)
    assert opened == [*map(Path, texts)] * 2


def test_a_sample_is_of_whole_lines_from_all_over_the_training_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "SAMPLE_BYTES", 100)
    paths = [tmp_path / name for name in ("one", "two", "three.gz")]
    texts = ["".join(f"{number} ä\n" for number in range(n, n + 1000)) for n in (1000, 2000, 3000)]
    for path, text in zip(paths, texts, strict=True):
        raw = text.encode()
        path.write_bytes(gzip.compress(raw) if path.suffix else raw)
    found = "".join(text_files.sample(paths, 2000, 1.0)).splitlines()
    assert {*found} <= {*"".join(texts).splitlines()}
    numbers = [int(line.split()[0]) for line in found]
    assert numbers == sorted(numbers)
    assert np.diff(numbers).max() < 250  # but for the end of the compressed file
    assert numbers[-1] < 3200
    training = [
        int(line.split()[0])
        for line in "".join(text_files.sample(paths[:2], 2000, 0.75)).splitlines()
    ]
    assert 2400 < max(training) <= 2500


def test_more_words_than_memory_is_meant_for_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_writer, "MAX_DISTINCT_TOKENS", 100)
    (tmp_path / "text").write_text(" ".join(map(str, range(200))))
    with pytest.raises(
        ElmanError, match=r"must have 100 different words or fewer.*: use the tokenizer bpe"
    ):
        prepare([str(tmp_path / "text")], tmp_path / "store", "word")
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_missing_parents_are_made(texts: list[str], tmp_path: Path) -> None:
    prepare(texts, tmp_path / "new" / "er" / "store", "char")
    assert store.read(tmp_path / "new" / "er" / "store").parts[0].tokens


def test_more_tokens_than_a_model_can_have_are_refused(
    texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_writer, "MAX_VOCAB_SIZE", 9)
    with pytest.raises(
        ElmanError, match=r"must have 9 tokens or fewer, got .*: give a vocab size, or use bpe"
    ):
        prepare(texts, tmp_path / "store", "word")
    assert sorted(tmp_path.iterdir()) == sorted(map(Path, texts))


def test_a_failed_preparation_leaves_no_files(texts: list[str], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    bad = tmp_path / "one.txt"
    with pytest.raises(
        ElmanError, match=r"cannot write .*one.txt.store: .*one.txt is not a folder"
    ):
        prepare(texts, bad / "store", "char")
    with pytest.raises(ElmanError, match="exists already"):
        prepare(texts, bad, "char")
    good = bad.read_bytes()
    for content, message in ((good + b"\xff", "not UTF-8"), (b"", "is empty")):
        bad.write_bytes(content)
        with pytest.raises(ElmanError, match=message):
            prepare(texts, tmp_path / "new" / "store", "char")
    bad.write_bytes(b"\xef\xbb\xbf")
    with pytest.raises(ElmanError, match="the input contains no text"):
        prepare(texts[:1], tmp_path / "store", "char")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_leaves_no_files(
    texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ElmanError, match=r"cannot write .*: No space left on device"):
        prepare(texts, tmp_path / "store", "char")
    assert sorted(tmp_path.rglob("*")) == before


MEMORY = """
import re
from pathlib import Path
import elman.data.orders as windows
import elman.data.sequences as sequences
from elman.text import text_files
from elman.inference.evaluation import evaluate
from elman.data.store import prepare
from elman.numpy import TextFile
from tests.data.test_prepare import Guess

# As if the texts were larger.
sequences.MAX_RESIDENT_BYTES = windows.MAX_SHUFFLED_IDS = windows.BLOCK_IDS = 1 << 20

def peak():
    return int(re.findall(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[0])

for name in ("small", "large"):
    prepare([f"{name}.txt"], Path(name), "char")
    for data in (TextFile(name, 1024, 32), TextFile(f"{name}.txt", 1024, 32)):
        for train in (True, False):
            for batch in data.get_dataloader(train):
                pass
    evaluate(Guess(), text_files.blocks([Path(f"{name}.txt")]), data.codec)
    print(peak())
"""


class Guess(CompiledModel):
    """A model that is as quick as can be."""

    def score_ids(self, ids: Any) -> Iterator[Any]:
        for start in range(0, len(ids), 1 << 16):
            yield ids[start : start + (1 << 16)].astype(float)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak")
def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    for name, times in (("small", 20), ("large", 160)):
        (tmp_path / f"{name}.txt").write_text(TEXT * 100 * times, encoding="utf-8")
    tests = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", MEMORY],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([tests, *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    small, large = (int(line) * 1024 for line in done.stdout.split())
    grown = (tmp_path / "large.txt").stat().st_size - (tmp_path / "small.txt").stat().st_size
    assert grown > 60e6
    assert large - small < grown / 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.txt"], "there is no file none.txt"),
        ([""], "a text must be the path of a UTF-8 file, got ''"),
        (["."], "cannot read .: it is a folder"),
        (["one.txt", "--tokenizer", "words"], "got 'words': did you mean word?"),
        (["one.txt", "--tokenizer", "syllable"], "tokenizer must be char, byte, word or bpe"),
        (
            ["one.txt", "--tokenizer", "byte", "--vocab-size", "9"],
            "vocab size requires tokens that are counted",
        ),
        (["one.txt", "--vocab-size", "1"], "vocab size must be 2 or more, got 1"),
        (["one.txt", "--tokenizer", "bpe", "--vocab-size", "9"], "vocab size must be 257 or more"),
        (["one.txt", "--tokenizer", "bpe", "--min-freq", "9"], "min freq requires char or word"),
        (["one.txt", "--min-freq", "0"], "min freq must be 1 or more, got 0"),
        (["one.txt", "--newlines", "crlf"], "newlines must be universal or keep, got 'crlf'"),
        (["two.txt.gz", "-", "-"], "standard input can only be read once"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_leaves_no_files(
    elman: Command, texts: list[str], tmp_path: Path, words: list[str], message: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    done = elman("prepare", *words, "--out", "store")
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command_tells_how_far_it_is_and_what_it_made(
    elman: Command, texts: list[str], tmp_path: Path
) -> None:
    done = elman("prepare", *texts, "--out", "store", "--tokenizer", "word")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"(reading [\d,]+ of [\d,]+ bytes\n)+", done.stderr)
    facts = store.read(tmp_path / "store")
    assert done.stdout.split("\n")[0] == f"tokens      {len(facts.ids):,}"
