"""The command line with nothing but the base install."""

import contextlib
import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from elman import __version__
from elman.core.errors import alternatives
from elman.core.experiments.run import new_folder, read_history, write
from elman.core.model.cells import CELLS
from elman.core.model.weights import Architecture, initial
from elman.core.text.codec import Codec
from elman.core.text.vocab import Vocab
from tests.conftest import Command

QUICK = ("--epochs", "2", "--hidden", "8", "--batch-size", "16", "--seq-len", "16")


@pytest.fixture
def run(elman: Command, story: Path, tmp_path: Path) -> Path:
    done = elman("train", story, *QUICK, "--epochs", "30", "--out", "run")
    assert done.returncode == 0, done.stderr
    return tmp_path / "run"


def test_train_makes_a_run_directory_and_says_what_came_of_it(
    elman: Command, tmp_path: Path
) -> None:
    done = elman("train", *QUICK)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("it has")
    folder = tmp_path / "runs" / "time-machine"
    assert sorted(path.name for path in folder.iterdir()) == [
        *["config.json", "curves.png", "curves.svg"],
        *["history.csv", "model.safetensors", "vocab.json"],
    ]
    assert str(folder.relative_to(tmp_path)) in done.stdout
    assert "validation perplexity" in done.stdout
    lines = done.stderr.splitlines()
    assert [line.split()[1] for line in lines] == ["1/2", "2/2"]
    assert all(word in lines[0] for word in ("train", "val", "tokens/s", "s left"))
    assert "\x1b" not in done.stderr
    config = json.loads((folder / "config.json").read_text())
    assert config["training"]["settings"]["edition"] == "gutenberg"
    assert len(config["training"]["text_sha256"]) == 64


def test_the_defaults_are_the_books(elman: Command) -> None:
    shown = " ".join(elman("train", "--help").stdout.split())
    for option, default in [
        *[("seq-len", 32), ("batch-size", 1024), ("hidden", 32), ("epochs", 100)],
        *[("clip", 1.0), ("optimizer", "sgd"), ("framework", "numba"), ("cell", "rnn")],
    ]:
        described = shown.split(f"--{option} ")[1]
        assert f"[default: {default}]" in described.split(" --")[0]
    assert "[default: 1 with sgd" in shown


def test_a_run_has_the_weights_of_its_best_epoch(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    wild = ("--lr", "0.3", "--optimizer", "adam", "--clip", "0", "--epochs", "9")
    done = elman("train", story, *QUICK, *wild, "--patience", "3", "--out", "best")
    assert done.returncode == 0, done.stderr
    losses = [epoch.val_loss for epoch in read_history(tmp_path / "best")]
    best = losses.index(min(losses)) + 1
    assert len(losses) == min(9, best + 3)
    assert f"epoch                  {best} of {len(losses)}" in done.stdout
    assert (
        elman("train", story, *QUICK, *wild, "--epochs", str(best), "--out", "short").returncode
        == 0
    )
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("best", "short")]
    assert models[0] == models[1]
    assert f"{np.exp(min(losses)):.2f}" in elman("compare", "best").stdout


def test_minutes_bound_the_time_of_a_training(elman: Command, story: Path, tmp_path: Path) -> None:
    done = elman("train", story, *QUICK[2:], "--minutes", "0.005", "--out", "timed")
    assert done.returncode == 0, done.stderr
    assert read_history(tmp_path / "timed")[-1].seconds > 0.2
    assert done.stderr.splitlines()[-1].endswith(" 0 s left")


def test_two_trainings_with_one_seed_agree_and_get_folders_of_their_own(
    elman: Command, tmp_path: Path, story: Path
) -> None:
    for _ in range(2):
        assert elman("train", story, *QUICK).returncode == 0
    one, two = tmp_path / "runs" / "story", tmp_path / "runs" / "story-2"
    weights = [(folder / "model.safetensors").read_bytes() for folder in (one, two)]
    assert weights[0] == weights[1]
    columns = [
        [row.split(",")[:3] for row in (folder / "history.csv").read_text().splitlines()]
        for folder in (one, two)
    ]
    assert columns[0] == columns[1]


def test_every_option_reaches_the_model(elman: Command, tmp_path: Path, story: Path) -> None:
    done = elman(
        *["train", story, *QUICK, "--cell", "lstm", "--layers", "2", "--embedding", "8"],
        *["--tied", "--dropout", "0.1"],
        *["--tokenizer", "word", "--optimizer", "adam", "--lr", "0.01", "--clip", "5"],
        *["--device", "cpu", "--seed", "3", "--out", "run"],
    )
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["tokenizer"] == "word"
    assert config["architecture"] | {"vocab": 0} == {
        **{"cell": "lstm", "vocab": 0, "hidden": 8, "layers": 2, "embedding": 8, "tied": True}
    }
    assert config["training"]["settings"]["lr"] == 0.01
    assert config["training"]["settings"]["seed"] == 3


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


def test_evaluate_tells_loss_bits_and_unknown_symbols(
    elman: Command, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.txt").write_text("Once upon a time, said Zoë. \n", encoding="utf-8")
    done = elman("evaluate", run, "other.txt")
    assert done.returncode == 0, done.stderr
    shown = {line[:20].strip(): line[20:] for line in done.stdout.splitlines()}
    assert shown["unknown symbols"] == "2"
    assert shown["tokens"] == "28"
    assert shown["perplexity"].endswith("  (2 of 29 tokens unknown, 6.90%)")
    assert "  (a lower bound: " in shown["bits per character"]
    assert "  (a lower bound: " in shown["bits per byte"]
    bits = float(shown["bits per character"].split()[0])
    assert bits == pytest.approx(float(shown["loss"].split()[0]) / 0.693147, rel=1e-3)
    assert float(shown["bits per byte"].split()[0]) == pytest.approx(bits * 28 / 29, rel=1e-3)
    assert done.stderr.startswith("elman: in the text 2 of 29 tokens unknown, 6.90%: ")

    told = json.loads(elman("evaluate", run, "other.txt", "--json").stdout)
    assert told.pop("loss") == pytest.approx(float(shown["loss"].split()[0]), abs=1e-4)
    for name in ("perplexity", "bits_per_character", "bits_per_byte"):
        assert told.pop(name) == pytest.approx(
            float(shown[name.replace("_", " ")].split()[0]), 1e-3
        )
    assert told.pop("unknown_share") == pytest.approx(2 / 29)
    assert told == {
        **{"lower_bound": True, "tokens": 28, "characters": 28, "utf8_bytes": 29, "unknown": 2}
    }


def test_evaluate_reads_standard_input_as_it_reads_a_file(
    elman: Command, run: Path, story: Path, tmp_path: Path
) -> None:
    wanted = elman("evaluate", run, story)
    assert "lower bound" not in wanted.stdout  # all is known
    assert wanted.stderr == ""
    raw, piped = story.read_bytes(), tmp_path / "piped"
    for content in (raw, gzip.compress(raw)):
        piped.write_bytes(content)
        with piped.open("rb") as stdin:
            done = elman("evaluate", run, "-", stdin=stdin)
        assert (done.stdout, done.stderr) == (wanted.stdout, "")
    empty = elman("evaluate", run, "-", stdin=subprocess.DEVNULL)
    assert empty.returncode == 2
    assert "standard input is empty" in empty.stderr


def test_train_tells_how_many_tokens_are_unknown_and_keeps_what_the_test_part_gave(
    elman: Command, tmp_path: Path
) -> None:
    text = "Once upon a time, " * 100 + " ".join(f"word{n}" for n in range(99))
    (tmp_path / "words.txt").write_text(text)
    words = ("--tokenizer", "word", "--framework", "numpy", "--out", "words", "--seq-len", "4")
    done = elman("train", "words.txt", *QUICK, *words)
    assert done.returncode == 0, done.stderr
    shown = {line[:23].strip(): line[23:] for line in done.stdout.splitlines()}
    assert shown["validation perplexity"].endswith(" of 60 tokens unknown, 65.00%)")
    assert shown["test perplexity"].endswith("  (60 of 60 tokens unknown, 100.00%)")
    assert "  (a lower bound: " in shown["test bits/character"]
    assert "in the test part 60 of 60 tokens unknown, 100.00%: " in done.stderr
    training = json.loads((tmp_path / "words" / "config.json").read_text())["training"]
    perplexity = float(shown["test perplexity"].split()[0])
    assert np.exp(training["test_loss"]) == pytest.approx(perplexity, abs=0.01)
    characters = len("".join(f" word{n}" for n in range(40, 99)))
    assert training["test_bits_per_character"] == pytest.approx(
        training["test_loss"] * 59 / np.log(2) / characters
    )
    assert training["test_unknown_share"] == 1


def test_compare_shows_what_differs_as_a_table_and_as_json(
    elman: Command, run: Path, story: Path, tmp_path: Path
) -> None:
    assert elman("train", story, *QUICK, "--lr", "0.5", "--out", "other").returncode == 0
    done = elman("compare", run, "other")
    assert done.returncode == 0, done.stderr
    header = next(line for line in done.stdout.splitlines() if line.startswith("run "))
    assert header.split()[:3] == ["run", "epochs", "lr"]
    assert "text story.txt" in done.stdout
    told = json.loads(elman("compare", run, "other", "--json").stdout)["runs"]
    assert [each["settings"]["lr"] for each in told] == [1.0, 0.5]
    assert all(each["settings"]["tokenizer"] == "char" for each in told)
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    assert told[1]["results"]["test_loss"] == config["training"]["test_loss"]
    assert f"{told[1]['results']['test_loss']:.4f}" in done.stdout.splitlines()[-1]


def test_help_and_version_are_where_they_are_looked_for(elman: Command) -> None:
    for words in ((), ("train",), ("info",)):
        long, short = elman(*words, "--help"), elman(*words, "-h")
        assert (short.returncode, short.stderr) == (0, "")
        assert short.stdout == long.stdout != ""
    assert elman("--version").stdout == f"elman {__version__}\n"


def test_no_command_shows_the_help(elman: Command) -> None:
    done = elman()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == elman("--help").stdout
    assert "evaluate" in done.stdout


def test_info_names_every_framework(elman: Command) -> None:
    done = elman("info")
    assert done.returncode == 0
    assert f"numpy      {np.__version__}  cpu\n" in done.stdout
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["elman", "numba", "numpy", "torch", "tensorflow", "jax", "mxnet"]
    told = json.loads(elman("info", "--json").stdout)
    assert list(told["frameworks"]) == names[1:]
    assert told["frameworks"]["numpy"] == {"version": np.__version__, "devices": ["cpu"]}


BAD = [
    (["train", "empty.txt"], "empty.txt is empty"),
    (["train", "short.txt"], "a window of 32 steps needs 33 tokens"),
    (["train", "latin.txt"], "latin.txt is not UTF-8 text: byte 3 is 0xe9"),
    (["train", "none.txt"], "there is no file none.txt"),
    (["train", "."], "cannot read ."),
    (["train", "--hidden", "0"], "hidden must be 1 or more, got 0"),
    (["train", "--layers", "-1"], "layers must be 1 or more, got -1"),
    (["train", "--seq-len", "0"], "seq len must be 1 or more, got 0"),
    (["train", "--batch-size", "0"], "batch size must be 1 or more"),
    (["train", "--epochs", "0"], "epochs must be 1 or more"),
    (["train", "--seed", "-1"], "seed must be 0 or more"),
    (["train", "--embedding", "-1"], "embedding must be 0 or more"),
    (["train", "--hidden", "many"], "Invalid value for '--hidden'"),
    (["train", "--epochs", "1e3"], "'1e3'"),
    (["train", "--seq-len", "1000000"], "a window of 1000000 steps needs"),
    (["train", "--lr", "0"], "lr must be a finite number above 0, got 0.0"),
    (["train", "--lr", "-1"], "lr must be a finite number above 0, got"),
    (["train", "--lr", "nan"], "lr must be a finite number above 0, got"),
    (["train", "--lr", "inf"], "lr must be a finite number above 0, got"),
    (["train", "--clip", "-1"], "clip must be a finite number at least 0, got -1.0"),
    (["train", "--momentum", "2"], "momentum must be"),
    (["train", "--optimizer", "lion"], "optimizer must be sgd or adam, got 'lion'"),
    (["train", "--cell", "cnn"], f"cell must be {alternatives(tuple(CELLS))}, got 'cnn'"),
    (["train", "--tokenizer", "word"], "read by characters"),
    (
        ["train", "short.txt", "--tokenizer", "syllable"],
        "tokenizer must be char, byte, word or bpe, got",
    ),
    (["train", "--batching", "contiguous"], "The Time Machine is read in random windows"),
    (
        ["train", "short.txt", "--batching", "sliding"],
        "batching must be random or contiguous, got 'sliding'",
    ),
    (["train", "short.txt", "--batching", "contiguous"], "1024 sequences need 1025 tokens"),
    (["train", "--edition", "penguin"], "edition must be gutenberg or d2l, got 'penguin'"),
    (
        ["train", "--framework", "caffe"],
        "framework must be numba, numpy, torch, tensorflow, jax or mxnet, got 'caffe'",
    ),
    (["train", "--device", "tpu"], "device must be auto, cpu or gpu, got 'tpu'"),
    (["train", "--device", "gpu"], "numba can use no GPU here"),
    (["train", "--out", "short.txt"], "short.txt exists already"),
    (["train", "--out", "."], ". exists already"),
    (["train", "--out", "short.txt/run", "--epochs", "1"], "cannot write short.txt/run"),
    # Before the text is read, which may take long:
    (["train", "none.txt", "--out", "short.txt/run"], "cannot write short.txt/run"),
    (["train", "none.txt", "--tied"], "tied weights need an embedding as large as"),
    (
        ["train", "none.txt", "--checkpoint-every", "nan"],
        "seconds between checkpoints must be 0 or more",
    ),
    (["train", "--nonsense"], "No such option: --nonsense"),
    (["nonsense"], "No such command 'nonsense'"),
    (["train", "--hidden", "9" * 30], "hidden must be 65536 or less"),
    (["train", "--layers", "9" * 30], "layers must be 1000 or less"),
    (["train", "--hidden", "65536", "--layers", "1000"], "hidden units in 1000 layers takes"),
    (["train", "--epochs", "9" * 30], "epochs must be 500000 or less"),
    (["train", "--seed", "4294967296"], "seed must be 4294967295 or less, got 4294967296"),
    (["train", ""], "text must be a path, got ''"),
    (["train", "-"], "give the path of a file, or a store made by elman prepare - --out STORE"),
    (["train", "--out", ""], "Invalid value for '--out': it is empty: give a path"),
    (["train", "--resume", ""], "Invalid value for '--resume': it is empty: give a path"),
    (["train", "--out", "x" * 300, "--epochs", "1"], "cannot write xxx"),
    (["train", "short.txt", "--edition", "d2l"], "only The Time Machine has editions, got d2l"),
    (["evaluate", "none", "short.txt", "--edition", "d2l"], "only The Time Machine has editions"),
    (["generate", "", "it has"], "Invalid value for 'RUN': it is empty"),
    (["generate", "none", "it has", "--tokens", "9" * 10], "tokens must be 10000000 or less"),
    (["generate", "none", "it has", "--top-k", "9" * 30], "top k must be 2147483648 or less"),
    (["compare", ""], "Invalid value for 'RUN...': it is empty"),
    (["compare", "none", "--plot", "folder"], "cannot write folder: the extension must be one of"),
    (["generate", "none", "it has"], "none is not a run directory"),
    (["generate", "short.txt", "it has"], "short.txt is not a run directory"),
    (["evaluate", "none", "time-machine"], "none is not a run directory"),
    (["generate", "none", "it has", "--temperature", "-1"], "temperature must be"),
    (["generate", "none", "it has", "--tokens", "-1"], "tokens must be 0 or more"),
    (["generate", "none", "it has", "--top-k", "0"], "top k must be 1 or more"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_refused_in_one_line_and_leaves_no_files(
    elman: Command, tmp_path: Path, words: list[str], message: str
) -> None:
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "short.txt").write_text("too short")
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    before = sorted(tmp_path.rglob("*"))
    done = elman(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.startswith("elman: ")
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


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
        write(part, arch, initial(arch), codec, None, [])


def test_a_loss_that_becomes_nan_stops_and_leaves_nothing(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    done = elman(
        *["train", story, *QUICK, "--cell", "rnn-relu", "--lr", "1e30", "--clip", "0"],
        *["--out", "run"],
    )
    assert done.returncode == 1
    assert "training loss became" in done.stderr.splitlines()[-1]
    assert all(line.startswith("epoch ") for line in done.stderr.splitlines()[:-1])
    assert not (tmp_path / "run").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["story.txt"]


def test_a_framework_that_is_not_installed_names_its_packages(tmp_path: Path) -> None:
    # None in sys.modules is Python's own mark of a module that cannot be found.
    code = "import sys; sys.modules['torch'] = None; from elman.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "--framework", "torch"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert 'torch is not installed: pip install "torch>=' in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "option",
    [
        *[("--lr", "0.5"), ("--clip", "0.01"), ("--momentum", "0.5"), ("--seed", "1")],
        ("--batching", "contiguous"),
    ],
)
def test_an_option_changes_the_training(
    elman: Command, story: Path, tmp_path: Path, option: tuple[str, str]
) -> None:
    for out, words in (("one", ()), ("two", option)):
        assert elman("train", story, *QUICK, *words, "--out", out).returncode == 0
    one, two = ((tmp_path / out / "model.safetensors").read_bytes() for out in ("one", "two"))
    assert one != two


def test_a_model_that_breaks_in_the_last_update_is_not_kept(
    elman: Command, story: Path, tmp_path: Path
) -> None:
    words = ("--epochs", "1", "--batch-size", "100000", "--clip", "0", "--lr", "1e30")
    done = elman("train", story, *words, "--cell", "rnn-relu", "--out", "some/run")
    assert done.returncode == 1
    assert "the validation loss became" in done.stderr
    assert done.stderr.count("\n") == 2  # one of them advice
    assert not (tmp_path / "some").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_can_be_resumed(
    elman: Command, story: Path, tmp_path: Path, number: signal.Signals
) -> None:
    code = "from elman.cli import main; main()"
    command = [sys.executable, "-c", code, "train", str(story), *QUICK, "--epochs", "200"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as training:
        assert training.stderr is not None
        training.stderr.readline()  # the first epoch is over
        training.send_signal(number)
        lines = training.stderr.readlines()
    run = Path("runs/story")
    assert training.returncode == 130
    assert lines[-1] == f"elman: interrupted: resume with elman train --resume {run}\n"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["story"]
    early = elman("generate", run, "Once")
    assert early.returncode == 2
    assert early.stderr == (
        f"elman: {run} is still in training: finish it, with elman train --resume {run}\n"
    )

    resumed = elman("train", "--resume", run)
    assert resumed.returncode == 0, resumed.stderr
    whole = elman("train", story, *QUICK, "--epochs", "200", "--out", "whole")
    assert whole.returncode == 0, whole.stderr
    files = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert sorted(path.name for path in (tmp_path / run).iterdir()) == files
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in (run, "whole")]
    assert weights[0] == weights[1]
    histories = [(tmp_path / name / "history.csv").read_text() for name in (run, "whole")]
    columns = [[line.split(",")[:3] for line in text.splitlines()] for text in histories]
    assert columns[0] == columns[1]


def test_an_interrupt_of_the_report_tells_that_the_run_is_finished(
    story: Path, tmp_path: Path
) -> None:
    code = """if True:
        import signal
        from elman import cli
        from elman.core.experiments import train

        class Interrupted(train.Training):
            def write(self, folder):
                signal.raise_signal(signal.SIGTERM) if "write" in str(folder) else None
                super().write(folder)

            def test(self):
                signal.raise_signal(signal.SIGINT)

        train.Training = Interrupted
        cli.main()
    """
    for out in ("report", "write"):
        words = ["train", str(story), *QUICK, "--framework", "numpy", "--out", out]
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (130, "")
        assert done.stderr.splitlines()[2:] == [f"elman: interrupted: {out} is finished"]
        names = {path.name for path in (tmp_path / out).iterdir()}
        assert "config.json" in names
        assert not names & {"training.json", "checkpoints", ".lock"}


def test_an_interrupt_while_the_command_line_is_imported_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-m", "elman", "info"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (130, "elman: interrupted, nothing kept\n")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are Unicode")
def test_a_file_name_that_is_not_utf8_works(elman: Command, story: Path, tmp_path: Path) -> None:
    text, run = (os.fsdecode(b"caf\xe9" + ending) for ending in (b".txt", b""))
    story.rename(tmp_path / text)
    done = elman("train", text, *QUICK, "--framework", "numpy")
    assert done.returncode == 0, done.stderr
    made = Path("runs") / run
    assert elman("generate", made, "Once", "--framework", "numpy").returncode == 0
    assert "caf\ufffd" in elman("compare", made).stdout
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "training.json").write_text(json.dumps(run_settings(tmp_path / made)))
    done = elman("train", "--resume", "begun")
    assert done.returncode == 0, done.stderr


def test_only_a_run_in_training_can_be_resumed(
    elman: Command, run: Path, story: Path, tmp_path: Path
) -> None:
    def told(*words: str | Path) -> str:
        done = elman("train", *words)
        assert done.returncode == 2
        return done.stderr.removeprefix("elman: ").removesuffix("\n")

    assert told("--resume", "run").startswith("run is finished: there is nothing to resume; elman")
    assert told("--resume", "no") == "no is not a run in training: it has no training.json"
    assert told("--resume", "run", "--hidden", "9") == (
        "a training resumes with the settings it began with, got hidden with --resume: "
        "leave that out"
    )
    assert told(story, *QUICK, "--checkpoint-every", "-1") == (
        "seconds between checkpoints must be 0 or more, got -1.0"
    )
    begun = tmp_path / "begun"
    settings = run_settings(run)
    begun.mkdir()
    (begun / "training.json").write_text(json.dumps(settings | {"text_sha256": "0"}))
    assert told("--resume", "begun").startswith(f"{story} has changed since the training began")
    cure = "if another version of elman began this training, begin it again"
    (begun / "training.json").write_text("{}")
    assert told("--resume", "begun") == (
        f"begun/training.json: the field settings is missing; {cure}"
    )
    (begun / "training.json").write_text(
        json.dumps(settings | {"settings": settings["settings"] | {"lr": "1"}})
    )
    assert told("--resume", "begun") == (
        f'begun/training.json: settings.lr must be a number, got "1"; {cure}'
    )
    with FileLock(begun / ".lock"):
        assert told("--resume", "begun") == (
            "begun is being trained by another process: wait for it"
        )
    (begun / "training.json").write_text(json.dumps(settings))
    done = elman("train", "--resume", "begun")  # killed before its first checkpoint
    assert done.returncode == 0, done.stderr
    assert (begun / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def run_settings(run: Path) -> dict[str, Any]:
    """The content of training.json while a run was trained."""
    training = json.loads((run / "config.json").read_text())["training"]
    return {name: training[name] for name in ("settings", "text_sha256", "init_sha256")}


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a Unix thing")
def test_a_terminal_sees_a_bar_with_perplexities_speed_and_time_left(
    story: Path, tmp_path: Path
) -> None:
    import pty

    ours, theirs = pty.openpty()
    code = "from elman.cli import main; main()"
    command = [sys.executable, "-c", code, "train", str(story), *QUICK, "--epochs", "30"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    subprocess.run(command, cwd=tmp_path, stderr=theirs, stdout=subprocess.PIPE, env=environment)
    os.close(theirs)
    screen = b""
    with contextlib.suppress(OSError):  # Linux's end of a terminal
        while part := os.read(ours, 65536):
            screen += part
    os.close(ours)
    last = [line for line in screen.decode().split("\r") if "epoch" in line][-1]
    assert "epoch 30/30" in last
    assert all(word in last for word in ("train ", "val ", "tokens/s", "0:00:00"))
    assert "━" in last
