"""`elman generate`: the text, whatever the terminal and the locale."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from elman import load
from elman.files.atomic import new_folder
from elman.inference.language_model import total_nll
from elman.model.weights import Architecture, initial
from elman.runs.run import write
from elman.text.codec import Codec
from elman.text.vocab import Vocab
from tests.conftest import QUICK, Command

NUMPY = ("--framework", "numpy")


def test_generate_writes_the_text_and_nothing_else(elman: Command, run: Path) -> None:
    greedy = elman("generate", run, "Once upon", "--tokens", "18", "--temperature", "0")
    assert (greedy.returncode, greedy.stderr) == (0, "")
    assert greedy.stdout == "Once upon a time, said he. \n"
    options = ("--top-k", "5", "--top-p", "0.9", "--min-p", "0.01", "--seed", "7")
    one, two = (elman("generate", run, "Once", *options).stdout for _ in range(2))
    assert one == two
    assert len(one) == len("Once") + 200 + 1


def test_several_prefixes_give_a_text_each(elman: Command, run: Path) -> None:
    texts = [
        elman("generate", run, prefix, "--tokens", "9", "--seed", seed).stdout
        for prefix, seed in (("Once", "4"), ("a", "5"))
    ]
    both = elman("generate", run, "Once", "a", "--tokens", "9", "--seed", "4")
    assert (both.returncode, both.stdout) == (0, "\n".join(texts))


def test_words_without_quotes_are_said_to_be_a_prefix_each(elman: Command, run: Path) -> None:
    short = ("--tokens", "9", *NUMPY)
    apart = elman("generate", run, "Once", "a", "time", *short)
    assert apart.stdout.count("\n\n") >= 2
    assert apart.stderr == (
        "elman: 3 prefixes, each continued separately: to continue one text of several words, "
        'quote it: "Once a time"\n'
    )
    quoted = elman("generate", run, "Once upon", "said he", *short)
    assert (quoted.returncode, quoted.stderr) == (0, "")


def test_n_samples_of_each_prefix_are_those_of_the_prefixes_one_by_one(
    elman: Command, run: Path
) -> None:
    options = ("--tokens", "20", "--seed", "4", "--temperature", "2", *NUMPY)
    done = elman("generate", run, "Once", "a", "--n", "2", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout == elman("generate", run, *["Once"] * 2, *["a"] * 2, *options).stdout
    texts = done.stdout.removesuffix("\n").split("\n\n")
    assert len(set(texts)) >= 4  # a text may have an empty line, too


def test_a_text_ends_before_a_stop_text(elman: Command, run: Path) -> None:
    greedy = ("generate", run, "Once upon", "--temperature", "0", *NUMPY)
    assert elman(*greedy, "--stop", "said", "--stop", "zebra").stdout == "Once upon a time, \n"
    whole = elman(*greedy, "--tokens", "30").stdout
    assert elman(*greedy, "--tokens", "30", "--stop", "zebra").stdout == whole


def test_a_beam_search_begins_with_a_text_no_less_likely_than_the_greedy_one(
    elman: Command, run: Path
) -> None:
    options = ("--tokens", "12", *NUMPY)
    best = elman("generate", run, "Once", "--beams", "4", "--n", "3", *options)
    assert (best.returncode, best.stderr) == (0, "")
    texts = best.stdout.removesuffix("\n").split("\n\n")
    assert len(set(texts)) == 3
    greedy = elman("generate", run, "Once", "--temperature", "0", *options).stdout
    assert elman("generate", run, "Once", "--beams", "1", *options).stdout == greedy
    model = load(run, "numpy")
    losses = [
        total_nll(model, np.array(model.codec.prefix_ids(text)))[0]
        for text in (*texts, greedy.removesuffix("\n"))
    ]
    assert losses[:3] == sorted(losses[:3])
    assert losses[0] <= losses[3]


def test_a_repetition_penalty_makes_repeats_rare(elman: Command, run: Path) -> None:
    options = ("--temperature", "0", "--tokens", "12", *NUMPY)
    plain = elman("generate", run, "Once", *options).stdout
    for framework in ("numpy", "numba"):
        words = ("--repetition-penalty", "3", "--framework", framework)
        varied = elman("generate", run, "Once", *options, *words).stdout
        assert len(set(varied)) > len(set(plain))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_terminal_shows_what_is_written_to_a_pipe(run: Path, tmp_path: Path) -> None:
    words = ("generate", str(run), "Once", "a time", "--n", "2", "--tokens", "300", *NUMPY)
    command = [sys.executable, "-P", "-m", "elman", *words]
    piped = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
    assert in_terminal(command, tmp_path).replace(b"\r\n", b"\n") == piped


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_terminal_shows_a_text_while_it_is_written() -> None:
    code = """if True:
        import sys
        from elman.cli.output import show_as_written

        def pieces():
            yield "one"
            assert sys.stdin.readline() == "go on\\n"
            yield " two"

        show_as_written([pieces(), ["three"]])
    """
    terminal, end = os.openpty()
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=end, text=True) as process:
        os.close(end)
        assert os.read(terminal, 99) == b"one"
        process.communicate("go on\n")
        shown = b""
        with suppress(OSError):  # the terminal's end, on Linux
            while more := os.read(terminal, 99):
                shown += more
    os.close(terminal)
    assert shown == b" two\r\n\r\nthree\r\n"
    assert process.returncode == 0


def in_terminal(command: list[str], folder: Path) -> bytes:
    """What a command shows in a terminal of its own."""
    terminal, end = os.openpty()
    shown = b""
    with subprocess.Popen(command, cwd=folder, stdout=end) as process:
        os.close(end)
        with suppress(OSError):  # the terminal's end, on Linux
            while more := os.read(terminal, 4096):
                shown += more
    os.close(terminal)
    assert process.returncode == 0
    return shown


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_a_reader_that_goes_away_ends_the_command(run: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = ("generate", str(run), "Once", "--tokens", "100000", *NUMPY)
    command = [sys.executable, "-P", "-m", "elman", *words]
    done = subprocess.run(command, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_the_unknown_symbol_is_written_only_where_it_is_allowed(
    elman: Command, tmp_path: Path
) -> None:
    # Of every two words one is seen only once, and so unknown.
    text = "".join(f"word {''.join(chr(97 + int(d)) for d in str(n))} " for n in range(400))
    (tmp_path / "words.txt").write_text(text)
    words = ("--tokenizer", "word", "--framework", "numpy", "--out", "words")
    trained = elman("train", "words.txt", *QUICK, "--epochs", "9", *words)
    assert trained.returncode == 0, trained.stderr
    assert "<unk>" not in trained.stdout
    for temperature in ("0", "1"):
        options = ("--tokens", "30", "--temperature", temperature)
        made = [
            elman("generate", "words", " word word", *options, *more)
            for more in ((), ("--framework", "numpy"), ("--allow-unknown",))
        ]
        assert [done.stderr for done in made] == ["", "", ""]
        assert made[0].stdout == made[1].stdout
        assert "<unk>" not in made[0].stdout
        assert "<unk>" in made[2].stdout


def test_a_prefix_with_unknown_symbols_is_refused(elman: Command, run: Path) -> None:
    done = elman("generate", run, "Zo\xeb")
    assert (done.returncode, done.stdout) == (2, "")
    assert "the model does not know 'Z', 'ë' in the prefix" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="other systems decode words otherwise")
def test_a_prefix_is_utf8_whatever_the_locale(
    elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path / "run", "caf\xe9 \u2014 ")
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    words = ("generate", "run", "\xe9", "--tokens", "0", "--framework", "numpy")
    command = [sys.executable, "-P", "-m", "elman", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\xc3\xa9\n", b"")
    done = subprocess.run([*command[:6], "\xfc", *words[3:]], cwd=tmp_path, capture_output=True)
    assert done.stderr.decode().startswith("elman: the model does not know '\xfc' in the prefix")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems decode words otherwise")
def test_a_prefix_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "elman", "generate", "run", b"a\xff"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("elman: ")
    assert done.stderr.endswith("it must be UTF-8, got the byte 0xff: convert it\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_escape_sequences_are_shown_escaped_in_a_terminal(tmp_path: Path) -> None:
    made(tmp_path / "run", "\x1b[2J\r")
    words = ("generate", "run", "\x1b[2J", "--tokens", "0", "--framework", "numpy")
    command = [sys.executable, "-P", "-m", "elman", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout == b"\x1b[2J\n"
    terminal, end = os.openpty()
    try:
        subprocess.run(command, cwd=tmp_path, stdout=end, check=True)
        assert os.read(terminal, 99) == b"\\x1b[2J\r\n"
    finally:
        os.close(terminal)
        os.close(end)


def made(folder: Path, text: str) -> None:
    """A run of a model that knows the characters of a text."""
    codec = Codec(Vocab(list(text)), "char", clean=False)
    arch = Architecture("rnn", len(codec.vocab), 4)
    with new_folder(folder) as part:
        write(part, arch, initial(arch), codec, "single", None, [])
