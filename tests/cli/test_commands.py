"""Help, versions, comparisons, and bad input of every command."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from elman import __version__
from elman.cli import app
from elman.cli.help_pages import EXAMPLES
from elman.errors import alternatives
from elman.model.cells import CELLS
from tests.conftest import QUICK, Command


def test_compare_shows_what_differs_as_a_table_and_as_json(
    elman: Command, run: Path, story: Path, tmp_path: Path
) -> None:
    assert elman("train", story, *QUICK, "--lr", "0.5", "--out", "other").returncode == 0
    done = elman("compare", run, "other")
    assert done.returncode == 0, done.stderr
    header = next(line for line in done.stdout.splitlines() if line.startswith("run "))
    assert header.split()[:3] == ["run", "epochs", "lr"]
    assert "text story.txt" in elman("compare", run, "other", "--all").stdout
    told = json.loads(elman("compare", run, "other", "--json").stdout)["runs"]
    assert [each["settings"]["lr"] for each in told] == [1.0, 0.5]
    assert all(each["settings"]["tokenizer"] == "char" for each in told)
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    assert told[1]["results"]["test_loss"] == config["training"]["test_loss"]
    assert f"{told[1]['results']['test_loss']:.4f}" in done.stdout


def test_help_and_version_are_where_they_are_looked_for(elman: Command) -> None:
    for words in ((), ("train",), ("info",)):
        long, short = elman(*words, "--help"), elman(*words, "-h")
        assert (short.returncode, short.stderr) == (0, "")
        assert short.stdout == long.stdout != ""
    assert elman("--version").stdout == f"elman {__version__}\n"


@pytest.mark.parametrize("name", ["train", "sweep", "plan"])
def test_the_help_of_a_training_is_of_the_usual_options_and_all_are_a_word_away(
    elman: Command, name: str
) -> None:
    usual, every = (
        re.findall(r"^  (?:-h, )?(--\S+)", elman(name, word).stdout, re.MULTILINE)
        for word in ("--help", "--help-all")
    )
    assert {"--lines", "--minutes", "--hidden", "--framework", "--help-all"} < set(usual)
    assert len(usual) < 25
    assert set(usual) < set(every)
    options = typer.main.get_command(app).commands[name].params  # type: ignore[attr-defined]
    assert {each.opts[0] for each in options if each.opts[0].startswith("-")} <= set(every)
    again = elman(name, "--help")  # after --help-all in the same process
    assert [line for line in again.stdout.splitlines() if "--clip" in line] == []


def test_no_command_shows_the_help(elman: Command) -> None:
    done = elman()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == elman("--help").stdout
    assert "evaluate" in done.stdout


def test_info_names_every_framework(elman_process: Command) -> None:
    done = elman_process("info")
    assert done.returncode == 0
    assert f"numpy      {np.__version__}  cpu\n" in done.stdout
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["elman", "numba", "numpy", "torch", "tensorflow", "jax", "mxnet"]
    told = json.loads(elman_process("info", "--json").stdout)
    assert list(told["frameworks"]) == names[1:]
    assert told["frameworks"]["numpy"] == {"version": np.__version__, "devices": ["cpu"]}


BAD = [
    (["train", "empty.txt"], "empty.txt is empty"),
    (
        ["train", "short.txt"],
        "a window of 1 step needs 2 tokens, and the validation part has 1: give a text of 20 ",
    ),
    (["train", "short.txt", "--recipe", "book"], "a window of 32 steps needs 33 tokens"),
    (
        ["train", "none.txt", "--tied", "--embedding", "0"],
        "tied weights require an embedding, got embedding 0: give it a size, or leave it out",
    ),
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
    (["train", "--optimizer", "lion"], "optimizer must be sgd, adam or adamw, got 'lion'"),
    (["train", "--cell", "cnn"], f"cell must be {alternatives(tuple(CELLS))}, got 'cnn'"),
    (["train", "--tokenizer", "word"], "read by characters"),
    (
        ["train", "short.txt", "--tokenizer", "syllable"],
        "tokenizer must be char, byte, word or bpe, got",
    ),
    (["train", "--batching", "contiguous"], "The Time Machine is read in random windows"),
    (
        ["train", "short.txt", "--batching", "sliding"],
        "batching must be random, contiguous or shuffled, got 'sliding'",
    ),
    (
        ["train", "short.txt", "--recipe", "book", "--batching", "contiguous"],
        "1024 sequences need 1025 tokens",
    ),
    (["train", "--edition", "penguin"], "edition must be gutenberg or d2l, got 'penguin'"),
    (
        ["train", "--framework", "caffe"],
        "framework must be numba, numpy, torch, tensorflow, jax or mxnet, got 'caffe'",
    ),
    (["train", "--device", "tpu"], "device must be auto, cpu or gpu, got 'tpu'"),
    (["train", "--device", "gpu"], "numba can use no GPU here"),
    (["train", "--shards", "3"], "shards must be a power of two up to 1024, got 3"),
    (["train", "--partition-optimizer"], "--partition-optimizer requires --shards: give --shards"),
    (
        ["train", "--shards", "4", "--framework", "mxnet"],
        "shards require numba, numpy, torch or jax, got mxnet",
    ),
    (["train", "--out", "short.txt"], "short.txt exists already"),
    (["train", "--out", "."], ". exists already"),
    (["train", "--out", "short.txt/run", "--epochs", "1"], "cannot write short.txt/run"),
    # Before the text is read, which may take long:
    (["train", "none.txt", "--out", "short.txt/run"], "cannot write short.txt/run"),
    (
        ["train", "none.txt", "--recipe", "book", "--tied"],
        "tied weights require an embedding as large as",
    ),
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
    (["train", "-"], "give the path of a file, or of a store made by elman prepare - --out STORE"),
    (["train", "--out", ""], "Invalid value for '--out': it is empty: give a path"),
    (["train", "--resume", ""], "Invalid value for '--resume': it is empty: give a path"),
    (["train", "--out", "x" * 300, "--epochs", "1"], "cannot write xxx"),
    (["train", "short.txt", "--edition", "d2l"], "only The Time Machine has editions, got d2l"),
    (["evaluate", "none", "short.txt", "--edition", "d2l"], "only The Time Machine has editions"),
    (["generate", "", "it has"], "Invalid value for 'RUN': it is empty"),
    (["generate", "none", "it has", "--tokens", "9" * 10], "tokens must be 10000000 or less"),
    (["generate", "none", "it has", "--top-k", "9" * 30], "top k must be 2147483648 or less"),
    (["compare", ""], "Invalid value for 'RUN': it is empty"),
    (["compare", "none", "--plot", "folder"], "cannot write folder: the extension must be one of"),
    (["generate", "none", "it has"], "none is not a run directory"),
    (["generate", "short.txt", "it has"], "short.txt is not a run directory"),
    (["evaluate", "none", "time-machine"], "none is not a run directory"),
    (["generate", "none", "it has", "--temperature", "-1"], "temperature must be"),
    (["generate", "none", "it has", "--tokens", "-1"], "tokens must be 0 or more"),
    (["generate", "none", "it has", "--top-k", "0"], "top k must be 1 or more"),
    (["generate", "none", "it has", "--n", "0"], "n must be 1 or more, got 0"),
    (["generate", "none", "it has", "--stop", ""], "a stop text must have one character or more"),
    (["generate", "none", "it has", "--beams", "0"], "beams must be 1 or more, got 0"),
    (["generate", "none", "it has", "--beams", "2", "--n", "3"], "2 beams: use more beams"),
    (
        ["generate", "none", "it has", "--beams", "2", "--temperature", "1"],
        "temperature conflicts with beams, got 1.0: leave one of them out",
    ),
    (
        ["generate", "none", "it has", "--repetition-penalty", "0"],
        "repetition penalty must be from 0.01 to 100.0, got 0.0",
    ),
    (["next", "none", "it has"], "none is not a run directory"),
    (["next", "none", "it has", "--top", "0"], "top must be 1 or more, got 0"),
    (["score", "none", "short.txt"], "none is not a run directory"),
    (["score", "", "short.txt"], "Invalid value for 'RUN': it is empty"),
    (["score", "none", ""], "a text must be the path of a UTF-8 file, got ''"),
    (["score", "none", "short.txt", "--by", "word"], "by must be line or token, got 'word'"),
    (["score", "none", "short.txt", "--top", "0"], "top must be 1 or more, got 0"),
    (["score", "none", "short.txt", "--top", "9999999"], "top must be 1000000 or less"),
    (
        ["score", "none", "short.txt", "--top", "3", "--by", "token"],
        "the top is of lines, got 3 with by token: leave one of them out",
    ),
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


@pytest.mark.parametrize(
    ("option", "choice"),
    [
        ("--cell=GRU", "gru"),
        ("--cell=gr", "gru"),
        ("--cell=rnn_relu", "rnn-relu"),
        ("--optimizer=Adam", "adam"),
        ("--framework=pytorch", "torch"),
        ("--framework=numba,pytorch", "torch"),
        ("--framework=PyTorch", "torch"),
        ("--tokenizer=words", "word"),
        ("--batching=continuous", "contiguous"),
        ("--schedule=Cosine", "cosine"),
        ("--precision=BF16", "bf16"),
        ("--log=tensorbord", "tensorboard"),
    ],
)
def test_the_choice_that_is_meant_is_named(
    elman: Command, tmp_path: Path, option: str, choice: str
) -> None:
    (tmp_path / "short.txt").write_text("too short")
    given = option.rpartition("=")[2].split(",")[-1]
    done = elman("train", "short.txt", option)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f", got {given!r}: did you mean {choice}?\n")


def test_no_choice_is_named_that_is_not_meant(elman: Command) -> None:
    done = elman("train", "--device", "tpu")
    assert done.stderr == "elman: device must be auto, cpu or gpu, got 'tpu'\n"


@pytest.mark.parametrize(
    "words",
    [
        ["generate", "kjv", "And God"],
        ["next", "kjv", "And God"],
        ["score", "kjv", "short.txt"],
        ["evaluate", "kjv", "short.txt"],
        ["compare", "kjv"],
        ["export", "kjv", "--to", "html"],
        ["train", "short.txt", "--init", "kjv"],
    ],
    ids=lambda words: words[0],
)
def test_the_name_of_a_run_is_answered_with_its_path(
    elman: Command, tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "short.txt").write_text("too short")
    (tmp_path / "runs" / "kjv").mkdir(parents=True)
    (tmp_path / "runs" / "kjv" / "config.json").write_text("{}")
    done = elman(*words)
    meant = Path("runs", "kjv")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"elman: kjv is not a run directory: did you mean {meant}?\n"


def test_the_name_of_an_interrupted_run_is_answered_with_its_path(
    elman: Command, tmp_path: Path
) -> None:
    (tmp_path / "runs" / "kjv").mkdir(parents=True)
    (tmp_path / "runs" / "kjv" / "training.json").write_text("{}")
    done = elman("train", "--resume", "kjv")
    meant = Path("runs", "kjv")
    assert done.stderr == f"elman: kjv is not a run in training: did you mean {meant}?\n"


def test_an_export_without_a_format_lists_the_formats(elman: Command) -> None:
    done = elman("export", "run")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "elman: the format is missing: give --to html, onnx or torch\n"


def test_an_interrupt_while_the_command_line_is_imported_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-m", "elman", "info"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (130, "elman: interrupted, nothing kept\n")


@pytest.mark.parametrize(
    "failure",
    ["import signal; signal.raise_signal(signal.SIGINT)", "raise BaseException(REFUSAL)"],
    ids=["OpenBLAS", "tokenizers"],
)
def test_a_library_that_can_start_no_thread_ends_in_one_line(failure: str, tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text(f"""if True:
        import threading
        REFUSAL = "ThreadPoolBuildError: Resource temporarily unavailable"
        def start(thread):
            raise RuntimeError("can't start new thread")
        threading.Thread.start = start
        {failure}
    """)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-m", "elman", "generate", "run", "Once"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (
        1,
        "elman: no thread can be started: end others, or allow more (ulimit -u)\n",
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device here")
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_output_to_a_full_disk_ends_in_one_line(unbuffered: str) -> None:
    code = "from elman.cli import main; main()"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )
    assert (done.returncode, done.stderr) == (
        1,
        "elman: cannot use standard output: No space left on device\n",
    )


def test_the_examples_of_the_help_name_options_that_exist() -> None:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert {"elman", *known} == {*EXAMPLES}
    for line in (line for lines in EXAMPLES.values() for line in lines):
        _, name, *words = shlex.split(line.partition(" | ")[0].partition(" < ")[0])
        if name == "COMMAND":
            continue
        options = {option for parameter in known[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, line
