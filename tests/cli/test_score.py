"""`elman score`: log-probability, bits and length of each line."""

import gzip
import os
import random
import signal
import subprocess
import sys
from math import log
from pathlib import Path

import pytest

import elman as package
from tests.cli.test_generate import in_terminal
from tests.conftest import QUICK, STORY, Command

LINES = ["Once upon", "", "said he", "a time, a time", "Zo\xeb", "x\ty\\", "Once upon"]


@pytest.fixture
def some_lines(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_bytes("\r\n".join(LINES).encode())
    return path


NUMPY = ("--framework", "numpy")


def table(output: str) -> list[list[str]]:
    return [line.split("\t") for line in output.splitlines()]


def test_each_line_has_its_row_in_the_order_of_the_text(
    elman: Command, run: Path, some_lines: Path
) -> None:
    done = elman("score", run, some_lines, *NUMPY)
    assert done.returncode == 0, done.stderr
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


def test_empty_lines_and_unknown_characters_are_named_with_their_lines(
    elman: Command, run: Path, some_lines: Path, caplog: pytest.LogCaptureFixture
) -> None:
    empty = "elman: line 2 is empty: only the line end is predicted\n"
    unknown = (
        r"elman: unknown to the model: 'Z', 'ë' in line 5; '\t', '\\', 'x', 'y' in line 6; nats "
        "and the bits of a token are of <unk>, bits/char include the spelling\n"
    )
    for options, told in (
        *[((), empty + unknown), (("--text",), empty + unknown)],
        *[(("--top", "9"), unknown), (("--by", "token"), unknown)],
    ):
        assert elman("score", run, some_lines, *NUMPY, *options).stderr == told
    caplog.clear()
    caplog.set_level("INFO", "elman")
    package.score(run, some_lines, framework="numpy")
    assert "".join(f"elman: {message}\n" for message in caplog.messages) == empty + unknown


def test_a_few_lines_are_named_and_the_others_counted(
    elman: Command, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "many.txt").write_text("ZYXWVUTSRQ\n" * 9 + "\n" * 3)
    empty, unknown = elman("score", run, "many.txt", *NUMPY).stderr.splitlines()
    assert empty == "elman: line 10 and 2 more are empty: only the line end is predicted"
    assert "'X', ... in line 1; " in unknown
    assert " in line 3; others in 6 more lines; nats " in unknown


def test_the_engine_gives_what_the_specification_gives(
    elman: Command, run: Path, tmp_path: Path
) -> None:
    rng = random.Random(0)
    story = "Once upon a time, said he. " * 20
    lines = [story[: rng.randrange(540)] for _ in range(300)]
    (tmp_path / "many.txt").write_text("\n".join(lines))
    found, wanted = (
        table(elman("score", run, "many.txt", "--framework", name).stdout)
        for name in ("numba", "numpy")
    )
    assert len(found) == len(lines)
    for one, other in zip(found, wanted, strict=True):
        assert list(map(float, one)) == pytest.approx(list(map(float, other)), rel=1e-5, abs=2e-4)


def test_by_token_a_line_is_spelt_out_with_its_surprises(
    elman: Command, run: Path, some_lines: Path
) -> None:
    rows = table(elman("score", run, some_lines, *NUMPY, "--by", "token").stdout)
    of_lines = table(elman("score", run, some_lines, *NUMPY).stdout)
    for n, (line, whole) in enumerate(zip(LINES, of_lines, strict=True), 1):
        tokens, bits = zip(*(row[1:] for row in rows if row[0] == str(n)), strict=True)
        known = {"Z": "<unk>", "\xeb": "<unk>", "x": "<unk>", "y": "<unk>"}
        known |= {"\t": "<unk>", "\\": "<unk>", "\n": r"\n"}
        assert list(tokens) == [known.get(character, character) for character in line + "\n"]
        assert sum(map(float, bits)) == pytest.approx(-float(whole[0]) / log(2), abs=2e-3)


def test_top_finds_the_lines_with_the_most_bits_per_character(
    elman: Command, run: Path, some_lines: Path
) -> None:
    rows = table(elman("score", run, some_lines, *NUMPY).stdout)
    of_text = [n for n, line in enumerate(LINES[:-1]) if line]  # not empty, and each once
    order = sorted(of_text, key=lambda n: -float(rows[n][1]))
    found = elman("score", run, some_lines, *NUMPY, "--top", "3").stdout.splitlines()
    wanted = ["\t".join([*rows[n], str(n + 1), LINES[n]]) for n in order]
    assert found == wanted[:3]
    assert elman("score", run, some_lines, *NUMPY, "--top", "99").stdout.splitlines() == wanted


def test_the_text_of_each_line_is_its_last_column(
    elman: Command, run: Path, some_lines: Path
) -> None:
    score = ("score", run, some_lines, *NUMPY)
    rows = elman(*score).stdout.splitlines()
    with_text = elman(*score, "--text").stdout.splitlines()
    assert with_text == [f"{row}\t{line}" for row, line in zip(rows, LINES, strict=True)]
    top = (*score, "--top", "3")  # its rows have their text already
    assert elman(*top, "--text").stdout == elman(*top).stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize(
    ("options", "names"),
    [
        ([], ["nats", "bits/char", "characters"]),
        (["--text"], ["nats", "bits/char", "characters", "text"]),
        (["--top", "2"], ["nats", "bits/char", "characters", "line", "text"]),
        (["--by", "token"], ["line", "token", "bits"]),
    ],
)
def test_a_terminal_shows_the_rows_below_a_header(
    elman: Command, run: Path, tmp_path: Path, options: list[str], names: list[str]
) -> None:
    (tmp_path / "two.txt").write_text("Once\nsaid")
    words = ("score", str(run), "two.txt", *NUMPY, *options)
    rows = [line.split() for line in elman(*words).stdout.splitlines()]
    command = [sys.executable, "-P", "-m", "elman", *words]
    header, *lines = in_terminal(command, tmp_path).decode().split("\r\n")[:-1]
    assert header.split() == names
    assert [line.split() for line in lines] == rows
    if names[-1] != "text":
        assert {len(line) for line in lines} == {len(header)}


def test_of_equal_lines_the_first_is_among_the_top(
    elman: Command, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "many.txt").write_text("\n".join(LINES[2:5] * 200))
    score = ("score", run, "many.txt", *NUMPY)
    rows = table(elman(*score, "--top", "999").stdout)
    assert [row[3:] for row in rows] == [["3", "Zo\xeb"], ["1", "said he"], ["2", "a time, a time"]]
    assert table(elman(*score, "--top", "2").stdout) == rows[:2]


def test_standard_input_is_read_as_a_file_is(
    elman_process: Command, run: Path, some_lines: Path, tmp_path: Path
) -> None:
    wanted = elman_process("score", run, some_lines, *NUMPY).stdout
    raw, piped = some_lines.read_bytes(), tmp_path / "piped"
    for content in (raw, gzip.compress(raw), raw + b"\r\n"):
        piped.write_bytes(content)
        with piped.open("rb") as stdin:
            assert elman_process("score", run, "-", *NUMPY, stdin=stdin).stdout == wanted


def test_a_line_that_nothing_predicts_has_no_bits(elman: Command, tmp_path: Path) -> None:
    (tmp_path / "one-line.txt").write_text("abc " * 900)
    done = elman("train", "one-line.txt", *QUICK, "--framework", "numpy", "--out", "run")
    assert done.returncode == 0, done.stderr
    (tmp_path / "lines.txt").write_text("\na\nabc\n")
    done = elman("score", "run", "lines.txt", *NUMPY)
    rows = table(done.stdout)
    assert rows[0] == ["0.0000", "nan", "0"]
    assert rows[1] == ["0.0000", "nan", "0"]
    assert float(rows[2][1]) == pytest.approx(-float(rows[2][0]) / log(2) / 2, abs=1e-4)
    assert rows[2][2] == "2"
    assert done.stderr == "elman: line 1 is empty: nothing is predicted\n"
    top = elman("score", "run", "lines.txt", *NUMPY, "--top", "9")
    assert [row[3:] for row in table(top.stdout)] == [["3", "abc"]]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_a_reader_that_goes_away_ends_the_command(run: Path, tmp_path: Path) -> None:
    (tmp_path / "many.txt").write_text("Once upon a time\n" * 20_000)
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-P", "-m", "elman", "score", str(run), "many.txt", *NUMPY]
    done = subprocess.run(command, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_an_interrupt_is_told_of_in_one_line(run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "elman", "score", str(run), "-", *NUMPY]
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
