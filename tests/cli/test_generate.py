"""`elman generate` and `elman next`: what a model writes, whatever the terminal and the locale."""

import os
import subprocess
import sys
from contextlib import suppress
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elman as package
from elman.files.atomic import new_folder
from elman.model.weights import Architecture, initial
from elman.runs.run import write
from elman.text.codec import Codec
from elman.text.vocab import Vocab
from tests.cli.conftest import ELMAN, in_terminal
from tests.conftest import Command

NUMPY = ("--framework", "numpy")


def test_generate_writes_the_text_and_nothing_else(elman: Command, run: Path) -> None:
    greedy = elman("generate", run, "Once upon", "--tokens", "18", "--temperature", "0")
    assert (greedy.returncode, greedy.stderr) == (0, "")
    assert greedy.stdout == "Once upon a time, said he. \n"
    drawn = elman("generate", run, "Once", "--seed", "7").stdout
    assert len(drawn) == len("Once") + 200 + 1


@pytest.mark.parametrize(
    "options",
    [
        {"tokens": 20, "seed": 4, "n": 3, "temperature": 2.0},
        {"top_k": 5, "top_p": 0.9, "min_p": 0.01, "seed": 7},
        {"temperature": 0.0, "stop": ["said"]},
        {"beams": 4, "n": 3, "tokens": 12},
        {"repetition_penalty": 3.0, "temperature": 0.0, "tokens": 30},
        {"allow_unknown": True, "temperature": 50.0, "tokens": 300},
    ],
    ids=lambda options: next(iter(options)),
)
def test_the_options_are_those_of_the_function_in_python(
    ok: Command, run: Path, options: dict[str, Any]
) -> None:
    words: list[str] = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        for each in value if isinstance(value, list) else [value]:
            words += [option] if each is True else [option, str(each)]
    done = ok("generate", run, "Once", "a", *words, *NUMPY)
    model = package.load(run, "numpy")
    seeds = options.get("n", 1)  # each text has the next
    wanted = [
        text
        for place, prefix in enumerate(("Once", "a"))
        for text in model.generate(
            prefix, **options | {"seed": options.get("seed", 0) + place * seeds}
        )
    ]
    assert done.stdout == "\n\n".join(wanted) + "\n"
    assert len({*wanted}) == len(wanted)


def test_words_without_quotes_are_said_to_be_a_prefix_each(elman: Command, run: Path) -> None:
    short = ("--tokens", "9", *NUMPY)
    apart = elman("generate", run, "Once", "a", "time", *short)
    assert apart.stderr == (
        "elman: 3 prefixes, each continued separately: to continue one text of several words, "
        'quote it: "Once a time"\n'
    )
    quoted = elman("generate", run, "Once upon", "said he", *short)
    assert (quoted.returncode, quoted.stderr) == (0, "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_terminal_shows_what_is_written_to_a_pipe(ok: Command, run: Path, tmp_path: Path) -> None:
    words = ("generate", run, "Once", "a time", "--n", "2", "--tokens", "300", *NUMPY)
    assert in_terminal(words, tmp_path) == ok(*words).stdout


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


def made(folder: Path, text: str) -> Path:
    """A run of a model that knows the characters of a text."""
    codec = Codec(Vocab(list(text)), "char", clean=False)
    arch = Architecture("rnn", len(codec.vocab), 4)
    with new_folder(folder) as part:
        write(part, arch, initial(arch), codec, "single", None, [])
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="other systems decode words otherwise")
def test_a_prefix_is_utf8_whatever_the_locale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made(tmp_path / "run", "caf\xe9 \u2014 ")
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)

    def generated(prefix: str | bytes) -> tuple[int, bytes, str]:
        command = [*ELMAN, "generate", run, prefix, "--tokens", "0", *NUMPY]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True)
        return done.returncode, done.stdout, done.stderr.decode()

    assert generated("\xe9") == (0, b"\xc3\xa9\n", "")
    unknown, not_utf8 = generated("\xfc"), generated(b"a\xff")
    assert unknown[:2] == not_utf8[:2] == (2, b"")
    assert unknown[2].startswith("elman: the model does not know '\xfc' in the prefix")
    assert not_utf8[2].startswith("elman: ")
    assert not_utf8[2].endswith("it must be UTF-8, got the byte 0xff: convert it\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_escape_sequences_are_shown_escaped_in_a_terminal(ok: Command, tmp_path: Path) -> None:
    run = made(tmp_path / "run", "\x1b[2J\r")
    words = ("generate", run, "\x1b[2J", "--tokens", "0", *NUMPY)
    assert ok(*words).stdout == "\x1b[2J\n"
    assert in_terminal(words, tmp_path) == "\\x1b[2J\n"


def test_the_likeliest_tokens_come_first_with_their_probabilities(
    elman: Command, run: Path
) -> None:
    model = package.load(run)
    size = len(model.codec.vocab)
    done = elman("next", run, "Once upon", "--top", str(size + 9))
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert rows[0][0] == " "
    assert len(rows) == size
    assert sorted(token for token, *_ in rows if len(token) > 1) == ["<unk>", "\\n"]
    values = [float(value) for *_, value in rows]
    percents = [float(percent.removesuffix("%")) for _, percent, _ in rows]
    assert percents == pytest.approx([100 * exp(value) for value in values], abs=0.02)
    logits = model.step(np.array([model.codec.prefix_ids("Once upon")]))[0][0, -1].astype(float)
    wanted = np.sort(logits - np.log(np.exp(logits).sum()))[::-1]
    assert values == pytest.approx(wanted.tolist(), abs=1e-3)
    assert elman("next", run, "Once upon", "--top", "2", *NUMPY).stdout == (
        "".join("\t".join(row) + "\n" for row in rows[:2])
    )
