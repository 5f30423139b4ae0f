"""Workers of JAX end in the bits of one process, started by torchrun or by hand."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import STORY
from tests.workers import alone, digest, environment, prepare, together, words

EPOCHS = ("--epochs", "1", "--batching", "contiguous")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    prepare(tmp_path, STORY)
    return tmp_path


def test_workers_of_torchrun_end_in_the_bits_of_one_process(store: Path) -> None:
    more = (*EPOCHS, "--partition-optimizer")
    done = alone(store, words("jax", "one", *more))
    assert done.returncode == 0, done.stderr
    code, _, err = together(store, 2, words("jax", "two", *more))
    assert code == 0, err
    assert digest(store / "two") == digest(store / "one")


def test_workers_started_by_hand_end_in_the_bits_of_one_process(
    store: Path, free_port: int
) -> None:
    done = alone(store, words("jax", "one", *EPOCHS))
    assert done.returncode == 0, done.stderr
    place = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port), "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", "elman", *words("jax", "hand", *EPOCHS)],
            cwd=store,
            env=environment() | place | {"RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=240) for process in started] == [0, 0]
    assert digest(store / "hand") == digest(store / "one")


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])
