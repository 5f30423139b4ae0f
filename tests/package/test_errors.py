"""Every kind of error is in docs/errors.md; what refusals.md lists is refused with its message."""

import inspect
import re
import shlex
from importlib import metadata
from pathlib import Path

import pytest

import elman
from elman import errors
from elman.errors import ElmanError
from elman.experiments import compare
from elman.experiments.choice import settled
from elman.experiments.train import Training
from elman.files import atomic
from elman.model import weights
from elman.model.weights import Architecture
from elman.runs import run, run_folder
from elman.runs.settings import Settings
from tests.conftest import CommandIn
from tests.copying import codec_of

REFUSALS = Path(__file__).with_name("refusals.md").read_text(encoding="utf-8")
PAGE = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")


def test_a_message_is_a_bounded_line_with_its_rule_and_its_cure() -> None:
    assert errors.printable("no  such  file\r\nor\nfolder\n") == "no  such  file or folder"
    assert errors.printable("\x1b[2J\t\udce9") == "\ufffd[2J\ufffd\ufffd"
    shown = errors.printable(f"the rule, got {'x' * 900_000}: the cure")
    assert len(shown) == 1005
    assert shown.startswith("the rule, got xxx")
    assert shown.endswith("xxx: the cure")
    assert errors.printable("x" * 1000) == "x" * 1000


def test_control_characters_are_escaped_and_nothing_else() -> None:
    assert errors.escaped("\x1b[2J\x07\r\x7f\x9b\udce9") == "\\x1b[2J\\x07\\r\\x7f\\x9b\\udce9"
    text = "lines\n\tand Zo\xeb \u6642\u3000\U0001f469\u200d\U0001f680 \xa0\u061c\ue000"
    assert errors.escaped(text) == text


def rows(columns: int, page: str = REFUSALS) -> list[list[str]]:
    """The rows of a page's tables with so many columns, without headers and rules."""
    tables = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    cut = [[line.strip("| ").split(" | ") for line in table.splitlines()[2:]] for table in tables]
    return [
        [cell.strip("`") for cell in row] for table in cut for row in table if len(row) == columns
    ]


CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if kind.__module__ == errors.__name__
]


def test_every_class_is_in_the_table_with_its_exit_code() -> None:
    table = {name: int(code) for name, code, _, _ in rows(4, PAGE)}
    assert table == {kind.__name__: kind.exit_code for kind in CLASSES}
    assert all(issubclass(kind, ElmanError) for kind in CLASSES)


FILES = {
    "story.txt": "Once upon a time, said he. \n" * 30,
    "empty.txt": "",
    "short.txt": "too short a text.",
    "plurals.tsv": "cat\tcats\ndog\tdogs\n",
    "empty.py": "import elman",
    "folder/empty.txt": "",
    "runs/kjv/config.json": "{}",
    "runs/begun/training.json": "{}",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs, and with texts that can serve and that cannot."""
    folder = tmp_path_factory.mktemp("errors")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    story = str(folder / "story.txt")
    settings = Settings(text=story, hidden=4, seq_len=8, batch_size=16, epochs=1)
    training = Training(settled(settings))
    training.fit()
    with atomic.new_folder(folder / "run") as part:
        training.write(part)
    codec = codec_of()
    arch = Architecture("gru", len(codec.vocab), 4, 1, 4, source_vocab=len(codec.source.vocab))
    with atomic.new_folder(folder / "pairs") as part:
        run.write(part, arch, weights.initial(arch), codec, "single", None, ())
    return folder


@pytest.mark.parametrize(("command", "message"), rows(2), ids=[row[0] for row in rows(2)])
def test_a_command_is_refused_in_one_line_with_its_message(
    made: Path, command: str, message: str, elman_in: CommandIn
) -> None:
    before = sorted(made.rglob("*"))
    done = elman_in(made)(*shlex.split(command)[1:])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"elman: {message}")
    assert done.stderr.count("\n") == 1
    assert sorted(made.rglob("*")) == before


@pytest.mark.parametrize(("name", "content", "message"), rows(3))
def test_a_file_is_refused_with_its_message(
    made: Path, name: str, content: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    config, file = Path("run/config.json"), Path("run") / name
    good = file.read_bytes() if file.exists() else None
    settings = config.read_bytes()
    file.write_text(content)
    try:
        with pytest.raises(ElmanError) as error:
            if name == "training.json":
                config.unlink()
                with run_folder.resumed_training(Path("run")):
                    pass
            elif name == "history.csv":
                compare.compare([Path("run")], Path("curves.png"), print)
            else:
                elman.load("run")
        assert str(file) in error.value.in_shell()
        assert message in error.value.in_shell()
        assert len(error.value.in_shell().splitlines()) == 1
    finally:
        config.write_bytes(settings)
        file.unlink()
        if good is not None:
            file.write_bytes(good)


def test_the_packages_of_an_extra_are_words_for_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    words = errors.requirements("jax").split()
    assert [word.partition(">")[0] for word in words] == ['"flax', '"jax', '"optax']
    assert "python_version" not in errors.requirements("mxnet")
    assert errors.requirements("none") == ""
    missing = ModuleNotFoundError(name="flax")
    assert 'flax is not installed: pip install "flax>=' in str(errors.not_installed("jax", missing))

    def unknown(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", unknown)
    assert "pip install flax, or" in str(errors.not_installed("jax", missing))
