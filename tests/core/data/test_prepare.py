"""`elman prepare`: a store is whole or not there, and what was interrupted goes on."""

import errno
import gzip
import io
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

from elman.core.data import prepare as preparing
from elman.core.data import store, token_writer
from elman.core.data.prepare import prepare
from elman.core.errors import ElmanError, InterruptedWorkError
from elman.core.files import atomic
from elman.core.model.language_model import CompiledModel
from elman.core.text import text_files
from elman.core.text.tokenizers import tokenizer
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
    found = text.codec.text(text.tokens.ids)
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
    assert list(dict.fromkeys(what for what, _, _ in told)) == ["measuring", "learning", "reading"]


class Killed(BaseException):
    """The process ends here, and does nothing more."""


@pytest.mark.parametrize("name", TOKENIZER_NAMES)
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, Killed])
def test_preparation_resumed_from_any_point_gives_the_same_bytes(
    texts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    interrupt: type[BaseException],
) -> None:
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 2000)
    monkeypatch.setattr(preparing, "SECONDS_BETWEEN_SAVES", 0)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    prepare(texts, tmp_path / "finished", name, size_for(name))
    whole, number, ended = contents(tmp_path / "finished"), 0, False
    places: list[int] = []
    monkeypatch.setattr(preparing, "TokenWriter", recording(places))
    while not ended:
        number += 1
        out = tmp_path / str(number)
        with stopping(monkeypatch, number, interrupt) as calls:
            try:
                prepare(texts, out, name, size_for(name))
                ended = calls[0] < number
            except (interrupt, InterruptedWorkError):
                pass
        if not out.exists():
            prepare(texts, out, name, size_for(name))
        assert contents(out) == whole
    assert number > 20
    assert len({*places} - {0}) > 3  # some went on from where they had been stopped


def recording(places: list[int]) -> Any:
    def make(used: Any, part: Path, place: Any, *words: Any) -> Any:
        places.append(place.pieces if place else 0)
        return token_writer.TokenWriter(used, part, place, *words)

    return make


class stopping:  # noqa: N801
    """Within the block the call of that number, of those that reach the disk, does not return."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int, error: type[BaseException]) -> None:
        self.number, self.error, self.context = number, error, patch.context()

    def __enter__(self) -> list[int]:
        within, calls = self.context.__enter__(), [0]

        def wrapped(function: Any) -> Any:
            def call(*words: Any, **options: Any) -> Any:
                calls[0] += 1
                if calls[0] == self.number:
                    raise self.error
                return function(*words, **options)

            return call

        if self.error is Killed:  # a killed process removes nothing
            within.setattr("shutil.rmtree", lambda path, **options: None)
        for owner, name in ((Path, "open"), (Path, "rename"), (Path, "replace"), (os, "fsync")):
            within.setattr(owner, name, wrapped(getattr(owner, name)))
        return calls

    def __exit__(self, *error: Any) -> None:
        self.context.__exit__(*error)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_preparation_is_resumed_after_a_kill(texts: list[str], tmp_path: Path) -> None:
    Path(texts[0]).write_text(TEXT * 300, encoding="utf-8")
    out = tmp_path / "store"
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from elman.core.data import prepare\n"
        "from elman.core.text import text_files\n"
        "text_files.BLOCK_BYTES, prepare.SECONDS_BETWEEN_SAVES = 100_000, 0\n"
        "def report(what, done, total):\n"
        "    if done > int(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "prepare.prepare(sys.argv[3:], Path(sys.argv[2]), 'word', report=report)\n"
    )
    command = [sys.executable, "-c", code]
    for killed_at in (300_000, 900_000):
        done = subprocess.run([*command, str(killed_at), str(out), *texts])
        assert done.returncode == -signal.SIGKILL
        assert not out.exists()
        assert (tmp_path / ".store.part" / "state.json").exists()
    assert subprocess.run([*command, "999999999", str(out), *texts]).returncode == 0
    assert subprocess.run([*command, "999999999", f"{out}-2", *texts]).returncode == 0
    assert contents(out) == contents(tmp_path / "store-2")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["one.txt", "store", "store-2", "two.txt.gz"]


def interrupted(texts: list[str], out: Path, name: str, patch: pytest.MonkeyPatch) -> None:
    """A store that is half made."""

    def report(what: str, done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with patch.context() as within:
        within.setattr(text_files, "BLOCK_BYTES", 1000)
        within.setattr(preparing, "SECONDS_BETWEEN_SAVES", 0)
        with pytest.raises(InterruptedWorkError, match="run the same command again to resume"):
            prepare(texts, out, name, report=report)


def change(number: int, part: Path, texts: list[str]) -> None:
    one = Path(texts[0])
    if number == 1:  # as long as before
        one.write_bytes(one.read_bytes().swapcase())
        os.utime(one, ns=(1, 1))
    if number == 2:
        status = one.stat()
        one.write_text("Quite another text. \n" * 99)
        os.utime(one, ns=(status.st_atime_ns, status.st_mtime_ns))
    if number == 3:
        (part / "state.json").write_text("{")
    if number == 4:
        (part / "first.1").write_bytes(b"")


def test_work_of_another_command_is_not_resumed(
    texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 1000)
    for number in range(5):
        out, whole = tmp_path / str(number), tmp_path / f"{number} whole"
        interrupted(texts, out, "byte" if number else "word", monkeypatch)
        change(number, tmp_path / f".{number}.part", texts)
        prepare(texts, out, "byte")
        prepare(texts, whole, "byte")
        assert contents(out) == contents(whole)


@pytest.mark.parametrize("name", ["first.1", "first_seen.jsonl"])
@pytest.mark.parametrize("content", [b"\xff", b'"ab"\n', b'"a"\n', b"3\n", b"\0"])
def test_saved_work_that_is_damaged_is_refused(
    texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes
) -> None:
    out = tmp_path / "store"
    interrupted(texts[:1], out, "char", monkeypatch)
    path = tmp_path / ".store.part" / name
    size = path.stat().st_size
    path.write_bytes((content * (size // len(content))).rjust(size))
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 1000)
    with pytest.raises(ElmanError, match=f"{name} is damaged: run the same command again"):
        prepare(texts[:1], out, "char")
    prepare(texts[:1], out, "char")
    assert store.read(out).tokens.characters == len(TEXT) - 1


def test_work_on_a_text_that_has_changed_is_not_resumed(
    texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, one = tmp_path / "store", Path(texts[0])
    status = one.stat()
    for changed in (one.read_bytes().swapcase(), b" " * status.st_size):
        interrupted(texts[:1], out, "word", monkeypatch)
        one.write_bytes(changed)
        os.utime(one, ns=(status.st_atime_ns, status.st_mtime_ns))
        with monkeypatch.context() as within:
            within.setattr(text_files, "BLOCK_BYTES", 1000)
            with pytest.raises(ElmanError, match="the text has changed since the command was"):
                prepare(texts[:1], out, "word")
        assert not (tmp_path / ".store.part").exists()
        one.write_text(TEXT, encoding="utf-8")
        os.utime(one, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_forged_state_is_refused(
    texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "store"
    for name, value in {"lengths": [7, *[0] * 8], "first_seen": 4, "written": []}.items():
        interrupted(texts[:1], out, "char", monkeypatch)
        path = tmp_path / ".store.part" / "state.json"
        kept = json.loads(path.read_text())
        kept["state"][name] = value
        path.write_text(json.dumps(kept))
        monkeypatch.setattr(text_files, "BLOCK_BYTES", 1000)
        with pytest.raises(ElmanError, match="is damaged: run the same command again"):
            prepare(texts[:1], out, "char")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="users have no numbers here")
def test_preparation_refuses_another_users_folder(
    texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, user = tmp_path / "store", os.geteuid()
    interrupted(texts, out, "char", monkeypatch)
    before = contents_below(tmp_path / ".store.part")
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with pytest.raises(ElmanError, match=r"\.store\.part belongs to another user"):
        prepare(texts, out, "char")
    assert contents_below(tmp_path / ".store.part") == before


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="users have no numbers here")
def test_the_folder_of_intermediate_files_is_private(
    texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, modes = tmp_path / ".store.part", []

    def report(what: str, done: int, total: int) -> None:
        modes.append(stat.S_IMODE(part.stat().st_mode))

    for _ in range(2):
        interrupted(texts, tmp_path / "store", "char", monkeypatch)
        part.chmod(0o777)
        prepare(texts, tmp_path / "store", "char", report=report)
        shutil.rmtree(tmp_path / "store")
    prepare(texts, tmp_path / "store", "char", report=report)
    assert {*modes} == {0o700}
    assert (tmp_path / "store").stat().st_mode & 0o700 == 0o700


@pytest.mark.parametrize("killed", [False, True])
def test_a_finished_store_is_reported_and_leaves_no_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    (tmp_path / "text.txt").write_text("Once upon a time, said he. \n" * 9)
    words = ([str(tmp_path / "text.txt")], tmp_path / "store", "char")

    def interrupt(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as within:
        within.setattr(atomic, "fsync_dir", lambda folder: None)
        within.setattr(
            store, "write", lambda *words: within.setattr(atomic, "fsync_dir", interrupt)
        )
        if killed:
            within.setattr(preparing.shutil, "rmtree", lambda *words, **options: None)
        with pytest.raises(InterruptedWorkError, match="store is finished"):
            prepare(*words)
    with pytest.raises(ElmanError, match="store exists already"):
        prepare(*words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "text.txt"]


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="links are always followed here")
@pytest.mark.parametrize("name", ["first.1", "first.2", "first_seen.jsonl"])
def test_a_link_made_meanwhile_is_not_followed(tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("dear")
    folder = tmp_path / "part"
    folder.mkdir()
    made = token_writer.TokenWriter(tokenizer("char"), folder)
    (folder / name).symlink_to(precious)
    with pytest.raises(OSError, match="symbolic link"):
        text = iter(["ab", "".join(map(chr, range(0x400, 0x600)))])
        made.read([text], lambda made: made.save())
    with pytest.raises(ElmanError, match="cannot write"):
        atomic.lock(folder / name, "busy")
    assert precious.read_text() == "dear"


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
    assert store.read(tmp_path / "new" / "er" / "store").tokens.parts[0].tokens


def test_files_of_others_are_neither_removed_nor_written_to(
    texts: list[str], tmp_path: Path
) -> None:
    mine, part = tmp_path / "mine", tmp_path / ".store.part"
    (mine / "finished").mkdir(parents=True)
    for name in ("letter", "state.json", "finished/ids.bin"):
        (mine / name).write_text("dear")
    before = contents_below(mine)

    def refused(message: str) -> None:
        with pytest.raises(ElmanError, match=message):
            prepare([texts[0]], tmp_path / "store", "char")
        assert contents_below(mine) == before

    part.symlink_to(mine)
    refused("is a symbolic link: remove it")
    part.unlink()
    part.mkdir()
    for name in ("standard input", "state.json", "first.1", ".lock", "finished"):
        (part / name).symlink_to(mine if name == "finished" else mine / "letter")
        refused("is a symbolic link: remove it")
        (part / name).unlink()
    for name in ("letter", "mine/letter", "state.json/letter", "finished/letter", "finished/.lock"):
        (part / name).parent.mkdir(exist_ok=True)
        (part / name).write_text("dear")
        refused("was not made by elman: move it")
        assert contents_below(part) == {name: "dear"}
        (part / name).unlink()
        if "/" in name:
            (part / name).parent.rmdir()
    part.rmdir()
    part.write_text("dear")
    refused("was not made by elman: move it")
    assert part.read_text() == "dear"


def contents_below(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_more_tokens_than_a_model_can_have_are_refused(
    texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_writer, "MAX_VOCAB_SIZE", 9)
    with pytest.raises(
        ElmanError, match=r"must have 9 tokens or fewer, got .*: give a vocab size, or use bpe"
    ):
        prepare(texts, tmp_path / "store", "word")
    assert sorted(tmp_path.iterdir()) == sorted(map(Path, texts))


def test_two_at_once_are_kept_apart(texts: list[str], tmp_path: Path) -> None:
    part = tmp_path / ".store.part"
    part.mkdir()
    with (
        FileLock(part / ".lock"),
        pytest.raises(ElmanError, match="store is being made by another process"),
    ):
        prepare(texts, tmp_path / "store", "char")
    prepare(texts, tmp_path / "store", "char")


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
    for seconds in (0, 1000):
        monkeypatch.setattr(preparing, "SECONDS_BETWEEN_SAVES", seconds)
        with pytest.raises(ElmanError, match=r"cannot write .*: No space left on device"):
            prepare(texts, tmp_path / "store", "char")
        assert sorted(tmp_path.rglob("*")) == before


MEMORY = """
import re
from pathlib import Path
import elman.core.data.orders as windows
import elman.core.data.sequences as sequences
from elman.core.text import text_files
from elman.core.model.evaluation import evaluate
from elman.core.data.prepare import prepare
from elman.numpy import TextFile
from tests.core.data.test_prepare import Guess

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
    tests = str(Path(__file__).parents[3])
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
    assert done.stdout.split("\n")[0] == f"tokens      {len(facts.tokens.ids):,}"
