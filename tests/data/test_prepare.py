"""`elman prepare`: a store is whole or not there, and a text is read once."""

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
from elman.valid_values import TOKENIZERS
from tests.conftest import Command

TEXT = "Once upon a time, said Zoë; the end — 時. \n" * 99


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two files, the second of which brings new symbols, and ids that take two bytes."""
    monkeypatch.chdir(tmp_path)
    one, two = Path("one.txt"), Path("two.txt.gz")
    one.write_text(TEXT, encoding="utf-8")
    others = " ".join(map(chr, range(0x400, 0x600)))
    two.write_bytes(gzip.compress((others + TEXT).encode()))
    return [str(one), str(two)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_are_one_text(texts: list[str], tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    new = tmp_path / "new" / "er" / "store"
    prepare(texts, new, "char", report=lambda *words: told.append(words))
    text = store.read(new)
    assert text.codec.text(text.ids) == "".join(text_files.blocks(map(Path, texts)))
    assert sorted(contents(new)) == ["ids.bin", "store.json", "vocab.json"]
    total = sum(Path(path).stat().st_size for path in texts)
    assert told[-1] == ("reading", total, total)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


def test_standard_input_is_a_text(
    texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(texts, tmp_path / "files", "word")
    raw = Path(texts[1]).read_bytes()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(raw)))
    prepare([texts[0], "-"], tmp_path / "piped", "word")
    assert contents(tmp_path / "piped") == contents(tmp_path / "files")


@pytest.mark.parametrize("name", TOKENIZERS)
def test_an_interrupted_preparation_leaves_no_files_and_begins_again(
    texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def interrupted(what: str, done: int, total: int) -> None:
        if what == "reading" and done > total / 2:
            raise KeyboardInterrupt

    prepare(texts, tmp_path / "whole", name)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 1000)
    with pytest.raises(KeyboardInterrupt):
        prepare(texts, tmp_path / "store", name, report=interrupted)
    assert sorted(tmp_path.rglob("*")) == before
    prepare(texts, tmp_path / "store", name)
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
    prepare(texts, tmp_path / "store", "bpe", lines=lines)
    assert opened == [*map(Path, texts)]
    monkeypatch.setattr(tokenization, "MAX_SAMPLE_CHARACTERS", 2000)
    prepare(texts, tmp_path / "sampled", "bpe", lines=lines)
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

    def sampled(paths: list[Path], share: float) -> list[int]:
        found = "".join(text_files.sample(paths, 2000, share)).splitlines()
        assert {*found} <= {*"".join(texts).splitlines()}
        numbers = [int(line.split()[0]) for line in found]
        assert numbers == sorted(numbers)
        return numbers

    numbers = sampled(paths, 1.0)
    assert np.diff(numbers).max() < 250  # but for the end of the compressed file
    assert numbers[-1] < 3200
    assert 2400 < sampled(paths[:2], 0.75)[-1] <= 2500


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"paths": ["none.txt"]}, "there is no file none.txt"),
    ({"paths": ["bad"]}, "bad is not UTF-8 text"),
    ({"paths": ["one.txt", "empty"]}, "empty is empty"),
    ({"paths": ["mark"]}, "the input contains no text"),
    ({"paths": ["one.txt", "-", "-"]}, "can only be read once, got - twice"),
    ({"paths": ["-"]}, "standard input is closed"),
    ({"tokenizer": "words"}, "got 'words': did you mean word?"),
    ({"vocab_size": 1}, "vocab size must be 2 or more, got 1"),
    ({"tokenizer": "bpe", "vocab_size": 256}, "vocab size must be 257 or more"),
    ({"tokenizer": "bpe", "vocab_size": 65_537}, "vocab size must be 65536 or less"),
    ({"tokenizer": "bpe", "min_freq": 9}, "min freq requires char or word"),
    ({"min_freq": 0}, "min freq must be 1 or more, got 0"),
    ({"newlines": "crlf"}, "newlines must be universal or keep, got 'crlf'"),
    ({"out": "one.txt"}, "one.txt exists already"),
    ({"out": "one.txt/store"}, "cannot write one.txt/store: one.txt is not a folder"),
    ({"tokenizer": "char"}, "must have 9 tokens or fewer, got .*: give a vocab size, or use bpe"),
    ({"paths": ["words"], "tokenizer": "word"}, "must have 100 different words or fewer.*: use"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED, ids=str)
def test_what_is_refused_leaves_no_files(
    texts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setattr("sys.stdin", None)  # as where the shell closes it
    monkeypatch.setattr(token_writer, "MAX_VOCAB_SIZE", 9)
    monkeypatch.setattr(token_writer, "MAX_DISTINCT_TOKENS", 100)
    for name, content in (("bad", b"good \xff bad"), ("empty", b""), ("mark", b"\xef\xbb\xbf")):
        Path(name).write_bytes(content)
    Path("words").write_text(" ".join(map(str, range(200))))
    before = sorted(tmp_path.rglob("*"))
    arguments = {"paths": texts[:1], "out": "new/store"} | given
    with pytest.raises(ElmanError, match=message):
        prepare(**arguments | {"out": Path(arguments["out"])})
    assert sorted(tmp_path.rglob("*")) == before


MEMORY = """
import re
from pathlib import Path
import elman.data.orders as orders
import elman.data.sequences as sequences
from elman.text import text_files
from elman.inference.evaluation import evaluate
from elman.data.store import prepare
from elman.numpy import TextFile
from tests.data.test_prepare import Guess

# As if the texts were larger.
sequences.MAX_RESIDENT_BYTES = orders.MAX_SHUFFLED_IDS = orders.BLOCK_IDS = 1 << 20

def peak():
    return int(re.findall(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[0])

for name in ("small", "large"):
    prepare([f"{name}.txt"], Path(name), "char", lines=LINES)
    for data in (TextFile(each, 4096, 32, lines=LINES) for each in (name, f"{name}.txt")):
        for train in (True, False):
            for batch in data.get_dataloader(train):
                pass
    if not LINES:
        evaluate(Guess(), text_files.blocks([Path(f"{name}.txt")]), data.codec)
    print(peak())
"""


class Guess(CompiledModel):
    """A model that is as quick as can be."""

    def score_ids(self, ids: Any) -> Iterator[Any]:
        for start in range(0, len(ids), 1 << 16):
            yield ids[start : start + (1 << 16)].astype(float)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak")
@pytest.mark.parametrize("lines", [False, True])
def test_memory_does_not_grow_with_the_text(tmp_path: Path, lines: bool) -> None:
    if lines:
        block = [f"{n * n:x}abcdefghijkl{n}" for n in range(20_000)]
        small, large = (
            "".join(f"{line}{c}\n" for c in range(n) for line in block) for n in (4, 60)
        )
    else:
        small, large = (TEXT * 100 * times for times in (20, 160))
    for name, text in (("small", small), ("large", large)):
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    tests = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", f"LINES = {lines}\n{MEMORY}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([tests, *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    first, last = (int(line) * 1024 for line in done.stdout.split())
    grown = len(large.encode()) - len(small.encode())
    assert grown > 25e6
    assert last - first < grown / 2


def test_the_command_tells_how_far_it_is_and_what_it_made(
    elman: Command, texts: list[str], tmp_path: Path
) -> None:
    done = elman("prepare", *texts, "--out", "store", "--tokenizer", "word")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"(reading [\d,]+ of [\d,]+ bytes\n)+", done.stderr)
    facts = store.read(tmp_path / "store")
    assert done.stdout.split("\n")[0] == f"tokens      {len(facts.ids):,}"
