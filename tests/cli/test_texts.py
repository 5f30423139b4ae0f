"""`elman train` on stores, on texts in parts, on lines, with byte pairs and in bf16."""

import json
import math
import re
from pathlib import Path

import pytest

import elman as package
from elman.inference import evaluation
from tests.cli.conftest import begun
from tests.conftest import QUICK, STORY, Command, CommandIn
from tests.robustness.kills import outcome

NAMES = [f"{a}{b}{c}" for a in "abcde" for b in "aeiou" for c in "nrstlm"]
FILES = {
    **{
        "story.txt": STORY,
        "names.txt": "\n".join(NAMES),
        "other.txt": "".join(map("{} more \n".format, range(200))),
    },
    **{"a": STORY[:1000], "b": STORY[1000:], "v": STORY[:500], "t": STORY[:900]},
}
PARTS = ("a", "b", "--val", "v", "--test", "t")
LINES = ("names.txt", "--lines")
NUMPY = ("--framework", "numpy")


@pytest.fixture(autouse=True)
def _texts(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)


def train(ok: Command, *words: str, out: str = "run") -> str:
    """Train, and return the report."""
    done = ok("train", *words, *QUICK, "--out", out)
    return str(done.stdout)


@pytest.mark.parametrize(
    ("words", "more", "text"),
    [(["story.txt"], [], "story.txt"), (PARTS, [], None), (LINES, ["--lines"], "names.txt")],
    ids=["text", "parts", "lines"],
)
def test_a_store_trains_the_model_of_its_texts_and_is_measured_as_they_are(
    ok: Command,
    tmp_path: Path,
    words: list[str],
    more: list[str],
    text: str | None,
) -> None:
    ok("prepare", *words, "--out", "kept")
    train(ok, *words, out="one")
    train(ok, "kept", *more, out="two")
    assert outcome(tmp_path / "one") == outcome(tmp_path / "two")
    if text is not None:
        assert ok("evaluate", "one", text).stdout == ok("evaluate", "two", "kept").stdout


def test_a_store_is_read_as_it_was_made(elman: Command, ok: Command) -> None:
    ok("prepare", *LINES, "--out", "lines")
    refused = elman("train", "lines", *QUICK)
    assert "lines was made for separate lines: give --lines" in refused.stderr
    ok("prepare", "story.txt", "--tokenizer", "word", "--out", "words")
    train(ok, "story.txt")
    refused = elman("evaluate", "run", "words")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "words has other tokens than the model" in refused.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["story.txt"], {"story.txt": "story.txt"}),
        (PARTS, {"b": "a or b", "v": "v", "t": "t"}),
        (LINES, {"names.txt": "names.txt"}),
        (["kept"], {"kept": "kept"}),
    ],
    ids=["text", "parts", "lines", "store"],
)
def test_a_training_resumes_with_the_texts_it_began_with_and_no_others(
    elman: Command, ok: Command, tmp_path: Path, words: list[str], told: dict[str, str]
) -> None:
    for text, store in (("story.txt", "kept"), ("other.txt", "other")):
        ok("prepare", text, "--out", store)
    train(ok, *words)
    begun(tmp_path / "run")
    for name, named in told.items():
        own, aside = tmp_path / name, tmp_path / "aside"
        other = tmp_path / ("other" if own.is_dir() else "other.txt")
        own.rename(aside)
        other.rename(own)
        refused = elman("train", "--resume", "begun")
        assert refused.returncode == 2
        assert f"elman: {named} has changed since the training began" in refused.stderr
        own.rename(other)
        aside.rename(own)
    ok("train", "--resume", "begun")
    assert outcome(tmp_path / "run") == outcome(tmp_path / "begun")


def test_the_report_measures_each_part_in_three_units(ok: Command) -> None:
    head, *rows = (line.split() for line in train(ok, *PARTS).splitlines()[:4])
    assert head == ["bits/char", "perplexity", "nats/token"]
    shown = {name: [*map(float, values)] for name, *values in rows}
    assert [*shown] == ["training", "validation", "test"]
    for bits, perplexity, loss in shown.values():
        assert perplexity == pytest.approx(math.exp(loss), abs=0.01)
        assert bits == pytest.approx(loss / math.log(2), abs=0.001)
    evaluated = json.loads(ok("evaluate", "run", "t", "--json").stdout)
    assert shown["test"][2] == pytest.approx(evaluated["loss"], abs=1e-4)
    assert evaluated["tokens"] == 899


def test_without_a_test_part_nothing_is_said_of_it(ok: Command) -> None:
    report = train(ok, "story.txt", "--split", "0.8,0.2")
    assert [line.split()[0] for line in report.splitlines()[1:3]] == ["training", "validation"]
    assert "test" not in report
    ok("compare", "run")


def test_a_run_with_byte_pairs_has_all_that_reading_and_writing_take(
    elman: Command, ok: Command, tmp_path: Path
) -> None:
    words = ("--tokenizer", "bpe", "--embedding", "8", "--out", "run")
    done = ok("train", "story.txt", *QUICK, *words)
    assert re.search(r"epoch 1.* train \d\.\d{3} +val \d\.\d{3} +bits/char", done.stderr)
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[:3]}
    bits, _, loss = map(float, rows["validation"])
    assert bits < loss / math.log(2)  # a token has more than one character
    model = json.loads((tmp_path / "run" / "tokenizer.json").read_text())
    assert list(model["model"]["vocab"]) == json.loads((tmp_path / "run/vocab.json").read_text())
    text = ok("generate", "run", "Zoë — 時 once", "--tokens", "9")
    assert text.stdout.startswith("Zoë — 時 once")
    told = json.loads(ok("evaluate", "run", "story.txt", "--json").stdout)
    left_out = len(package.load(tmp_path / "run").codec.tokenizer.split(STORY)[0])
    wanted = told["loss"] * told["tokens"] / math.log(2) / (len(STORY) - left_out)
    assert (told["unknown"], told["bits_per_byte"]) == (0, pytest.approx(wanted, rel=1e-6))
    (tmp_path / "run" / "tokenizer.json").unlink()
    assert "there is no file run/tokenizer.json" in elman("generate", "run", "a").stderr


def test_a_run_on_the_current_folder_has_its_name(
    ok: Command, elman_in: CommandIn, tmp_path: Path
) -> None:
    ok("prepare", "story.txt", "--out", "kept")
    done = elman_in(tmp_path / "kept")("train", ".", *QUICK, *NUMPY)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "kept" / "runs").iterdir()] == ["kept"]


def test_lines_are_measured_as_they_are_scored(ok: Command, tmp_path: Path) -> None:
    train(ok, *LINES)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["lines"]
    shown = json.loads(ok("evaluate", "run", "names.txt", "--json").stdout)
    assert shown["tokens"] == shown["characters"] == 4 * len(NAMES)  # with line ends
    scored = ok("score", "run", "names.txt").stdout.splitlines()
    nats = -sum(float(line.split()[0]) for line in scored)
    assert shown["loss"] * shown["tokens"] == pytest.approx(nats, rel=1e-4)


@pytest.mark.parametrize("recipe", ["auto", "book"])
def test_a_text_of_names_without_lines_is_noticed(ok: Command, recipe: str) -> None:
    few = ("--recipe", recipe, "--epochs", "1", "--hidden", "8", *NUMPY, "--seq-len", "4")
    first, *_ = ok("train", "names.txt", *few, "--out", "run").stderr.splitlines()
    assert first == (
        "elman: names.txt has short lines, such as 'aan', 'aar' or 'aas': with --lines each is a "
        "separate sequence"
    )
    for more in (("--init", "run", "--out", "more"), ("--lines", "--out", "lines")):
        assert "short lines" not in ok("train", "names.txt", *few, *more).stderr


def test_lines_are_written_from_their_start_to_their_end(
    elman: Command, ok: Command, tmp_path: Path
) -> None:
    train(ok, *LINES)
    ten = ok("generate", "run", "--lines", "10", "--seed", "3")
    assert ten.stderr == ""
    lines = ten.stdout.split("\n")
    assert len(lines) == 11
    assert ok("generate", "run", "--seed", "3").stdout == lines[0] + "\n"
    started = elman("generate", "run", "ba", "--lines", "3").stdout.splitlines()
    assert [line[:2] for line in started] == ["ba"] * 3
    new = elman("generate", "run", "--lines", "20", "--unique", "--new", "--temperature", "1.5")
    assert len({*new.stdout.splitlines()} - {*NAMES}) == 20
    (tmp_path / "names.txt").rename(tmp_path / "moved")
    words = ("generate", "run", "--lines", "2", "--new")
    gone = elman(*words)
    assert (gone.returncode, gone.stdout) == (2, "")
    assert "of run does not exist: give --known FILE" in gone.stderr
    ok(*words, "--known", "moved")
    (tmp_path / "names.txt").write_text("another\n")
    changed = elman(*words)
    assert (changed.returncode, changed.stdout) == (2, "")
    assert "the training text of run has changed: restore it" in changed.stderr
    none = elman("generate", "run", "--lines", "0")
    assert (none.returncode, none.stderr) == (2, "elman: lines must be 1 or more, got 0\n")


def test_a_run_in_bf16_is_trained_measured_and_continued_in_bf16(
    ok: Command, tmp_path: Path
) -> None:
    for precision in ("single", "bf16"):
        train(ok, "story.txt", *NUMPY, "--precision", precision, out=precision)
    single, bf16 = (outcome(tmp_path / precision)[0] for precision in ("single", "bf16"))
    assert single != bf16
    config = json.loads((tmp_path / "bf16" / "config.json").read_text())
    assert config["precision"] == config["training"]["settings"]["precision"] == "bf16"
    measured = json.loads(ok("evaluate", "bf16", "story.txt", *NUMPY, "--json").stdout)
    losses = []
    for precision in ("bf16", "single"):
        model = package.load(tmp_path / "bf16", "numpy", precision)
        losses.append(evaluation.evaluate(model, STORY, model.codec).loss)
    assert measured["loss"] == losses[0] != losses[1]
    words = ("--tokens", "50", "--temperature", "0")
    written = ok("generate", "bf16", "Once", *NUMPY, *words)
    assert written.stdout == package.load(tmp_path / "bf16", "numpy").predict("Once", 50) + "\n"
