"""`elman score`: log-probability, bits and length of each line."""

import gzip
import os
import signal
import subprocess
import sys
from math import log
from pathlib import Path

import pytest

import elman as package
from tests.cli.conftest import ELMAN, in_terminal
from tests.cli.test_generate import made
from tests.conftest import STORY, Command

LINES = ["Once upon", "", "said he", "a time, a time", "Zo\xeb", "x\ty\\", "Once upon"]
NUMPY = ("--framework", "numpy")
ON_UNIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such streams")


@pytest.fixture
def some_lines(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_bytes("\r\n".join(LINES).encode())
    return path


def table(output: str) -> list[list[str]]:
    return [line.split("\t") for line in output.splitlines()]


def test_each_line_has_its_row_in_the_order_of_the_text(
    ok: Command, run: Path, some_lines: Path
) -> None:
    done = ok("score", run, some_lines, *NUMPY)
    rows = table(done.stdout)
    assert [int(row[2]) for row in rows] == [len(line) + 1 for line in LINES]  # with line ends
    assert rows[0] == rows[-1]
    for (nats, bits, predicted), line in zip(rows, LINES, strict=True):
        own = -float(nats) / log(2) / int(predicted)
        assert float(bits) == pytest.approx(own, abs=1e-4) or (
            float(bits) > own + 1 and not set(line) <= set(STORY)  # unknown characters are spelled
        )
    surprise = {line: float(row[1]) for line, row in zip(LINES, rows, strict=True)}
    assert surprise["Once upon"] < surprise["said he"] < surprise["Zo\xeb"]
    assert [
        (each.log_probability, each.bits_per_character, each.characters)
        for each in package.score(run, some_lines, framework="numpy")
    ] == [
        (pytest.approx(float(n), abs=1e-4), pytest.approx(float(b), abs=1e-4), int(c))
        for n, b, c in rows
    ]
    with_text = ok("score", run, some_lines, *NUMPY, "--text")
    texts = [f"{row}\t{line}" for row, line in zip(done.stdout.splitlines(), LINES, strict=True)]
    assert (with_text.stdout.splitlines(), with_text.stderr) == (texts, done.stderr)


def test_empty_lines_and_unknown_characters_are_named_with_their_lines(
    ok: Command, run: Path, some_lines: Path, caplog: pytest.LogCaptureFixture
) -> None:
    empty = "elman: line 2 is empty: only the line end is predicted\n"
    unknown = (
        r"elman: unknown to the model: 'Z', 'ë' in line 5; '\t', '\\', 'x', 'y' in line 6; nats "
        "and the bits of a token are of <unk>, bits/char include the spelling\n"
    )
    score = ("score", run, some_lines, *NUMPY)
    assert ok(*score).stderr == empty + unknown
    for options in (("--top", "9"), ("--by", "token")):
        assert ok(*score, *options).stderr == unknown
    caplog.clear()
    caplog.set_level("INFO", "elman")
    package.score(run, some_lines, framework="numpy")
    assert "".join(f"elman: {message}\n" for message in caplog.messages) == empty + unknown
    some_lines.write_text("ZYXWVUTSRQ\n" * 9 + "\n" * 3)
    empty, unknown = ok(*score).stderr.splitlines()
    assert empty == "elman: line 10 and 2 more are empty: only the line end is predicted"
    assert "'X', ... in line 1; " in unknown
    assert " in line 3; others in 6 more lines; nats " in unknown


def test_by_token_a_line_is_spelt_out_with_its_surprises(
    ok: Command, run: Path, some_lines: Path
) -> None:
    rows = table(ok("score", run, some_lines, *NUMPY, "--by", "token").stdout)
    of_lines = table(ok("score", run, some_lines, *NUMPY).stdout)
    known = dict.fromkeys("Z\xebxy\t\\", "<unk>") | {"\n": r"\n"}
    for n, (line, whole) in enumerate(zip(LINES, of_lines, strict=True), 1):
        tokens, bits = zip(*(row[1:] for row in rows if row[0] == str(n)), strict=True)
        assert list(tokens) == [known.get(character, character) for character in line + "\n"]
        assert sum(map(float, bits)) == pytest.approx(-float(whole[0]) / log(2), abs=2e-3)


def test_top_finds_the_lines_with_the_most_bits_per_character(
    ok: Command, run: Path, some_lines: Path
) -> None:
    score = ("score", run, some_lines, *NUMPY)
    rows = table(ok(*score).stdout)
    of_text = [n for n, line in enumerate(LINES[:-1]) if line]  # not empty, and each once
    order = sorted(of_text, key=lambda n: -float(rows[n][1]))
    wanted = ["\t".join([*rows[n], str(n + 1), LINES[n]]) for n in order]
    for top in (3, 99):
        assert ok(*score, "--top", str(top)).stdout.splitlines() == wanted[:top]
    assert ok(*score, "--top", "3", "--text").stdout.splitlines() == wanted[:3]
    some_lines.write_text("\n".join(LINES[2:5] * 200))  # of equal lines the first is named
    for top in (2, 999):
        found = [row[3:] for row in table(ok(*score, "--top", str(top)).stdout)]
        assert found == [["3", "Zo\xeb"], ["1", "said he"], ["2", "a time, a time"]][:top]


@ON_UNIX
@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["score"], ["nats", "bits/char", "characters"]),
        (["score", "--text"], ["nats", "bits/char", "characters", "text"]),
        (["score", "--top", "2"], ["nats", "bits/char", "characters", "line", "text"]),
        (["score", "--by", "token"], ["line", "token", "bits"]),
        (["next", "--top", "1"], ["token", "probability", "nats"]),
    ],
)
def test_a_terminal_shows_the_rows_below_a_header(
    ok: Command, run: Path, tmp_path: Path, words: list[str], names: list[str]
) -> None:
    (tmp_path / "Once").write_text("Once\nsaid")
    command = (words[0], run, "Once", *words[1:], *NUMPY)
    rows = [line.split() for line in ok(*command).stdout.splitlines()]
    header, *lines = in_terminal(command, tmp_path).splitlines()
    assert header.split() == names
    assert [line.split() for line in lines] == rows
    if names[-1] != "text":
        assert {len(line) for line in lines} == {len(header)}


@pytest.mark.parametrize("command", ["score", "evaluate"])
def test_standard_input_is_read_as_a_file_is(
    elman_process: Command, run: Path, some_lines: Path, tmp_path: Path, command: str
) -> None:
    wanted = elman_process(command, run, some_lines, *NUMPY)
    raw, piped = some_lines.read_bytes(), tmp_path / "piped"
    for content in (raw, gzip.compress(raw)):
        piped.write_bytes(content)
        with piped.open("rb") as stdin:
            done = elman_process(command, run, "-", *NUMPY, stdin=stdin)
        assert (done.stdout, done.stderr) == (wanted.stdout, wanted.stderr)
    empty = elman_process(command, run, "-", *NUMPY, stdin=subprocess.DEVNULL)
    assert empty.returncode == 2
    assert "standard input is empty" in empty.stderr


def test_a_line_that_nothing_predicts_has_no_bits(ok: Command, tmp_path: Path) -> None:
    score = ("score", made(tmp_path / "run", "abc "), "lines.txt", *NUMPY)  # knows no line end
    (tmp_path / "lines.txt").write_text("\na\nabc\n")
    done = ok(*score)
    *without, (nats, bits, characters) = table(done.stdout)
    assert without == [["0.0000", "nan", "0"]] * 2
    assert float(bits) == pytest.approx(-float(nats) / log(2) / 2, abs=1e-4)
    assert characters == "2"
    assert done.stderr == "elman: line 1 is empty: nothing is predicted\n"
    assert [row[3:] for row in table(ok(*score, "--top", "9").stdout)] == [["3", "abc"]]


@ON_UNIX
@pytest.mark.parametrize(
    "words", [("score", "many.txt"), ("generate", "Once", "--tokens", "100000")]
)
def test_a_reader_that_goes_away_ends_the_command(
    run: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "many.txt").write_text("Once upon a time\n" * 20_000)
    reading, writing = os.pipe()
    os.close(reading)
    command = [*ELMAN, words[0], str(run), *words[1:], *NUMPY]
    done = subprocess.run(command, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@ON_UNIX
def test_an_interrupt_is_told_of_in_one_line(run: Path, tmp_path: Path) -> None:
    command = [*ELMAN, "score", str(run), "-", *NUMPY]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, text=True, **streams) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(("Once" * 250 + "\n") * 1050)  # more than a block by less than a pipe
        process.stdin.flush()
        assert process.stdout.readline().endswith("\t1001\n")  # it has begun, and waits for more
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert (process.returncode, told) == (130, "elman: interrupted, nothing kept\n")
