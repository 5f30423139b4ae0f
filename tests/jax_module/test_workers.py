"""Workers of JAX end in the bits of one process, started by torchrun or by hand."""

import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import jax
import pytest

from elman.errors import ElmanError
from elman.jax.workers import connect, gpu_name
from elman.training.workers.processes import free_port
from tests.conftest import STORY
from tests.workers import (
    PARTS,
    TELLING_ROWS,
    WIDE,
    alone,
    digest,
    environment,
    prepare,
    together,
    words,
)

EPOCHS = ("--epochs", "1", "--batching", "contiguous")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    prepare(tmp_path, STORY)
    return tmp_path


def test_workers_of_torchrun_end_in_the_bits_of_one_process(store: Path) -> None:
    more = (*EPOCHS, *PARTS)
    done = alone(store, words("jax", "one", *more))
    assert done.returncode == 0, done.stderr
    code, _, err = together(store, 2, words("jax", "two", *more))
    assert code == 0, err
    assert digest(store / "two") == digest(store / "one")


def test_workers_started_by_hand_end_in_the_bits_of_one_process(
    tmp_path: Path,
) -> None:
    """Gradients of their large embedding are exchanged as rows."""
    prepare(tmp_path, WIDE, tokenizer="word")
    command = words("jax", "one", *EPOCHS, "--embedding", "64")
    done = alone(tmp_path, command)
    assert done.returncode == 0, done.stderr
    (tmp_path / "wrapper.py").write_text(TELLING_ROWS)
    command = ["hand" if word == "one" else word for word in command]
    place = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, "-P", "wrapper.py", *command],
            cwd=tmp_path,
            env=environment() | place | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=240)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    numbers = [int(number) for number in re.findall(r"rows (\d+)", "".join(said))]
    assert numbers
    assert all(64 <= number <= 256 for number in numbers)  # symbols of 256 tokens
    assert digest(tmp_path / "hand") == digest(tmp_path / "one")


def test_a_gpu_is_named_by_its_model() -> None:
    assert gpu_name(Mock(device_kind="NVIDIA H100")) == "NVIDIA H100"


def test_a_version_that_connects_no_workers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "__version_info__", (0, 6, 2))
    monkeypatch.setattr(jax, "__version__", "0.6.2")
    with pytest.raises(ElmanError, match=r"need JAX 0.7 or later, got 0.6.2: pip install -U jax"):
        connect(1)
