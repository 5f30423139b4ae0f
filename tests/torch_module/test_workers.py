"""Workers end in the bits of one process, with PyTorch and with the engine.

Workers that are killed or stopped are started by torchrun. The others are forks.
"""

import os
import re
import signal
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed import HashStore

import elman
from elman.torch import workers as torch_workers
from tests.conftest import STORY
from tests.workers import (
    APART,
    EARLY,
    PARTS,
    PARTS_OF_VECTORS,
    PROGRAM,
    SENDING,
    SHARING,
    TELLING_ROWS,
    WIDE,
    await_checkpoint,
    digest,
    forked,
    kill,
    losses,
    prepare,
    start,
    words,
    workers_of,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are read from /proc")
EPOCHS = ("--epochs", "2")
WAITING = "TORCH_NCCL_BLOCKING_WAIT"
FRAMEWORKS = ("numba", pytest.param("torch", marks=pytest.mark.long))
ERRORS = re.compile(r"^elman: (.*)$", re.MULTILINE)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    prepare(tmp_path, STORY)
    return tmp_path


def run_alone(folder: Path, command: list[str]) -> None:
    """Run a command of elman in one process."""
    codes, _, err = forked(folder, 1, command)
    assert codes == [0], err


@pytest.mark.parametrize(
    ("program", "framework", "batching", "workers"),
    [
        (SHARING, "numba", "contiguous", 2),
        (SENDING, "numba", "shuffled", 4),
        (SENDING, "torch", "random", 2),
        (PROGRAM, "torch", "contiguous", 2),
    ],
    ids=["sharing-numba", "sending-numba", "sending-torch", "torch"],
)
def test_workers_end_in_the_bits_of_one_in_shared_memory_and_by_messages(
    store: Path, program: str, framework: str, batching: str, workers: int
) -> None:
    more = (*EPOCHS, "--batching", batching)
    if batching == "shuffled":  # in stretches of several windows
        more += ("--batch-size", "8", "--seq-len", "8")
    run_alone(store, words(framework, "one", *more))
    codes, out, err = forked(store, workers, words(framework, "run", *more), program)
    assert codes == [0] * workers, err
    assert out.count("nats/token") == 1  # the first worker alone reports
    assert digest(store / "run") == digest(store / "one")


@pytest.mark.parametrize(("size", "more"), [(2, PARTS), (4, ())], ids=["parts", "whole"])
def test_gradients_that_are_sent_early_have_the_bits_of_one_process(
    tmp_path: Path, size: int, more: tuple[str, ...]
) -> None:
    """The last batch has one line: all workers but one have no shard of it."""
    training, validation = tmp_path / "text.txt", tmp_path / "val.txt"
    for path, lines in {training: 16 * 3 + 1, validation: 10}.items():
        path.write_text("".join(f"the line {number}\n" for number in range(lines)))
    store = tmp_path / "store"
    elman.prepare(training, out=store, val=str(validation), lines=True, quiet=True)
    own = (*EPOCHS, "--lines", "--layers", "2", *more)
    run_alone(tmp_path, words("torch", "one", *own))
    codes, out, err = forked(tmp_path, size, words("torch", "run", *own), EARLY)
    assert codes == [0] * size, err
    assert "early" in out
    assert "late" not in out
    assert "no shard" in out
    assert digest(tmp_path / "run") == digest(tmp_path / "one")


@pytest.mark.parametrize("size", [2, 3, 4])
def test_parts_that_are_sent_early_have_the_sums_of_the_tree(tmp_path: Path, size: int) -> None:
    codes, _, err = forked(tmp_path, size, [], PARTS_OF_VECTORS)
    assert codes == [0] * size, err


def test_three_workers_have_the_losses_of_one_process(store: Path) -> None:
    """Two of them have three of eight shards."""
    run_alone(store, words("numba", "one", *EPOCHS))
    codes, _, err = forked(store, 3, words("numba", "run", *EPOCHS))
    assert codes == [0] * 3, err
    assert losses(store / "run") == pytest.approx(losses(store / "one"), abs=1e-6)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_training_goes_on_with_another_number_of_workers(store: Path, framework: str) -> None:
    more = (*PARTS, "--batching", "contiguous", "--dropout", "0.2", "--layers", "2")
    more = ("--epochs", "30", *more)
    run_alone(store, words(framework, "one", *more))
    launched = start(store, 2, words(framework, "run", *more, "--checkpoint-every", "0"))
    await_checkpoint(store / "run")
    launched.send_signal(signal.SIGTERM)
    _, err = launched.communicate(timeout=120)
    assert re.search(r"interrupted on \S+: to continue, type the same command", err)
    codes, _, err = forked(store, 4, ["train", "--resume", "run"])
    assert codes == [0] * 4, err
    assert digest(store / "run") == digest(store / "one")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_large_embedding_is_trained_as_in_one_process(tmp_path: Path, framework: str) -> None:
    prepare(tmp_path, WIDE, tokenizer="word")
    own = words(framework, "one", "--embedding", "64", "--epochs", "1")
    run_alone(tmp_path, own)
    own = ["run" if word == "one" else word for word in own]
    codes, out, err = forked(tmp_path, 2, own, TELLING_ROWS)
    assert codes == [0, 0], err
    numbers = [int(number) for number in re.findall(r"rows (\d+)", out)]
    assert numbers
    assert all(64 <= number <= 256 for number in numbers)  # symbols of 256 tokens
    assert digest(tmp_path / "run") == digest(tmp_path / "one")


@pytest.mark.parametrize(
    ("rank", "program"),
    [
        (0, SHARING),
        pytest.param(1, SHARING, marks=pytest.mark.long),
        pytest.param(1, SENDING, marks=pytest.mark.long),
    ],
    ids=["0-sharing", "1-sharing", "1-sending"],
)
def test_a_worker_that_is_killed_ends_all_and_loses_nothing(
    store: Path, rank: int, program: str
) -> None:
    command = words("numba", "run", "--epochs", "30", "--checkpoint-every", "0")
    (store / "wrapper.py").write_text(program)
    launched = start(store, 2, command, program=["wrapper.py"])
    await_checkpoint(store / "run")
    found = workers_of(launched)
    kill(found[rank])
    _, err = launched.communicate(timeout=120)
    assert launched.returncode == 1
    assert any("a worker has ended" in line for line in ERRORS.findall(err))
    assert not any(Path(f"/proc/{process}").exists() for process in found.values())
    run_alone(store, ["train", "--resume", "run"])
    run_alone(store, words("numba", "one", "--epochs", "30"))
    assert digest(store / "run") == digest(store / "one")


@pytest.mark.parametrize(
    ("framework", "size"), [pytest.param("torch", 2, marks=pytest.mark.long), ("numba", 1)]
)
def test_workers_that_are_started_again_go_on_by_themselves(
    store: Path, framework: str, size: int
) -> None:
    command = words(framework, "run", "--epochs", "20", "--checkpoint-every", "0")
    launched = start(store, size, command, restarts=1)
    await_checkpoint(store / "run")
    kill(workers_of(launched)[size - 1])
    _, err = launched.communicate(timeout=240)
    assert launched.returncode == 0, err
    run_alone(store, words(framework, "one", "--epochs", "20"))
    assert digest(store / "run") == digest(store / "one")


def test_no_worker_reads_the_text_of_another(store: Path) -> None:
    """A worker whose copy of the store has other ids where another one reads trains the same."""
    assert forked(store, 2, words("numba", "whole", *EPOCHS))[0] == [0, 0]
    text = np.fromfile(store / "store" / "ids.bin", np.uint8)
    training = len(text) * 8 // 10
    # Windows reach into the segment after theirs.
    for rank, spoilt in enumerate(
        (slice(training // 2 + 20, training), slice(0, training // 2 - 20))
    ):
        folder = store / f"worker{rank}" / "store"
        folder.mkdir(parents=True)
        for path in (store / "store").iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        ids = text.copy()
        ids[spoilt] = 255
        ids.tofile(folder / "ids.bin")
    codes, _, err = forked(store, 2, words("numba", "../spoilt", *EPOCHS), APART)
    assert codes == [0, 0], err
    assert digest(store / "spoilt") == digest(store / "whole")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["train", "text.txt", "--out", "run"], "several workers require a store, got text.txt"),
        (
            ["train", "store", "--out", "run", "--shards", "1"],
            "each of 2 workers needs a shard",
        ),
    ],
)
def test_what_workers_cannot_do_is_told_once(store: Path, more: list[str], message: str) -> None:
    codes, _, err = forked(store, 2, more)
    assert codes == [2, 2]
    assert [message in line for line in ERRORS.findall(err)].count(True) == 1
    assert "Traceback" not in err
    assert not (store / "run").exists()


@pytest.mark.parametrize(
    ("local_rank", "on_gpus", "backend"),
    [("1", True, "cpu:gloo,cuda:nccl"), ("2", True, "gloo"), ("1", False, "gloo")],
)
def test_a_worker_takes_the_gpu_of_its_local_rank_and_nccl(
    monkeypatch: pytest.MonkeyPatch, local_rank: str, on_gpus: bool, backend: str
) -> None:
    found: dict[str, object] = {}
    stand_ins = {"set_device": partial(found.__setitem__, "gpu"), "device_count": lambda: 2}
    for name, function in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, function)
    monkeypatch.setattr(torch_workers, "rendezvous", lambda *_, **__: iter([(HashStore(), 0, 1)]))
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda name, **_: found.update(backend=name)
    )
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    monkeypatch.setenv(WAITING, "0")  # so that it is taken back after the test
    monkeypatch.delenv(WAITING)
    worker = torch_workers.TorchWorkers(5, on_gpus)
    assert worker.gpu == int(local_rank)  # of which a Trainer tells that there is none
    assert found == ({"gpu": 1} if backend != "gloo" else {}) | {"backend": backend}
    assert os.environ.get(WAITING) == ("1" if backend != "gloo" else None)


def test_a_gpu_is_named_by_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda gpu: f"NVIDIA of {gpu}")
    assert torch_workers.gpu_name(torch.device("cuda:1")) == "NVIDIA of cuda:1"
    assert torch_workers.gpu_name(torch.device("mps")) == "mps"
