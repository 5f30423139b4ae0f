"""Lines that a model writes: from the start to the end, different, and not those of its text."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

import elman
from elman.data.sizes import Size
from elman.data.store import prepare
from elman.errors import ElmanError
from elman.files import atomic
from elman.inference.writing import Writing, write
from elman.model.weights import Architecture, initial
from elman.runs import new_lines, run
from elman.runs.new_lines import KnownLines, write_lines
from elman.runs.records import RunSettings, TrainingRecord
from elman.runs.settings import Settings
from elman.text.codec import Codec
from elman.text.vocab import Vocab

CODEC = Codec(Vocab(list("abcd\n")), "char", clean=False, lines=True)
ARCH = Architecture("gru", len(CODEC.vocab), 5)


def model_of(framework: str = "numpy") -> Any:
    values = {name: 3 * value for name, value in initial(ARCH, 1).items()}
    model = elman.framework_module(framework).build(ARCH, values)
    model.codec = CODEC
    return model


def written(model: Any, number: int, *words: Any, prefix: str = "", **options: Any) -> list[str]:
    return list(write_lines(model, [prefix], number, Writing(temperature=1.0, **options), *words))


def test_lines_that_differ_or_are_new_are_the_first_of_their_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of()
    model.parameters["linear.bias"][CODEC.line_end] += 1
    every = written(model, 400, tokens=3, seed=2)  # as they are drawn
    assert every.count("") > 20
    assert len({*every}) < 100
    wanted = list(filter(None, every))  # an empty line is neither
    assert written(model, 20, True, tokens=3, seed=2) == list(dict.fromkeys(wanted))[:20]
    text, more = tmp_path / "text", tmp_path / "more"
    text.write_bytes("\r\n".join(every[:20]).encode())
    more.write_text(every[25])
    known = {*every[:20], every[25]}
    wanted = [line for line in wanted if line not in known]
    files = KnownLines(tmp_path, CODEC, [str(text), str(more)])
    assert written(model, 30, False, files, tokens=3, seed=2) == wanted[:30]
    assert written(model, 9, True, files, tokens=3, seed=2) == list(dict.fromkeys(wanted))[:9]
    prepare([str(text), str(more)], tmp_path / "store", "char", lines=True, val=str(more))
    stored = KnownLines(tmp_path, CODEC, [str(tmp_path / "store")])
    monkeypatch.setattr(new_lines, "CHUNK_IDS", 2)
    assert stored.among({*every}) == files.among({*every}) == known - {""}


def test_the_text_of_a_run_is_known_while_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("ab\n")
    (tmp_path / "b").write_text("cd\n")
    settings = Settings(text=str(tmp_path / "a"), more_texts=[str(tmp_path / "b")], lines=True)
    digest = hashlib.sha256(b"ab\ncd\n").hexdigest()
    record = TrainingRecord(
        **vars(RunSettings(settings, digest)),
        epoch=1,
        framework_version="1",
        python_version="3",
        trained=Size(4, 4, 4),
    )
    for name, kept in (("run", record), ("saved", None)):
        with atomic.new_folder(tmp_path / name) as part:
            run.write(part, ARCH, initial(ARCH), CODEC, "single", kept, [])
    lines = {"ab", "cd", "abcd"}
    assert KnownLines(tmp_path / "run", CODEC).among(lines) == {"ab", "cd"}
    for change, name, fragment in (
        (lambda: (tmp_path / "b").write_text("changed"), "run", "has changed: restore it"),
        (lambda: (tmp_path / "b").unlink(), "run", "/b of .*run does not exist: give"),
        (lambda: None, "saved", "does not record its training text"),
    ):
        change()
        with pytest.raises(ElmanError, match=fragment):
            KnownLines(tmp_path / name, CODEC)


def test_a_search_for_lines_that_there_are_not_ends_with_a_notice(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_lines, "MORE_DRAWS", 0)
    found = written(model_of(), 50, True, tokens=1)
    assert sorted(found) == ["a", "b", "c", "d"]
    assert caplog.messages == [
        "found 4 of 50 different lines in 5000 draws: use a higher temperature"
    ]


def test_each_prefix_has_its_lines_and_draws_its_own() -> None:
    model, asked = model_of(), Writing(temperature=1.0, tokens=9)
    plain = list(write_lines(model, ["a", "b"], 3, asked))
    assert [line[0] for line in plain] == list("aaabbb")
    different = list(write_lines(model, ["a", "a"], 5, asked, unique=True))
    assert len({*different}) == 10
    assert list(write_lines(model, ["", ""], 4, asked)) == written(model, 8, tokens=9)


@pytest.mark.parametrize(
    ("number", "options", "codec", "fragment"),
    [
        (0, {}, CODEC, "lines must be 1 or more, got 0"),
        (1 << 30, {}, CODEC, "lines must be 1000000 or less"),
        (2, {"beams": 3}, CODEC, "lines conflict with beams, got beams 3: leave one of them out"),
        (2, {}, Codec(CODEC.vocab, "char", clean=False), "new require a model of lines: train one"),
    ],
)
def test_what_writes_no_lines_is_refused(
    number: int, options: dict[str, int], codec: Codec, fragment: str
) -> None:
    model = model_of()
    model.codec = codec
    with pytest.raises(ElmanError, match=fragment):
        list(write_lines(model, ["a"], number, Writing(**options)))  # type: ignore[arg-type]


def test_a_beam_search_ends_with_the_line() -> None:
    (text,) = ("".join(pieces) for pieces in write(model_of(), ["ab"], Writing(beams=3, tokens=99)))
    assert text.startswith("ab")
    assert "\n" not in text
