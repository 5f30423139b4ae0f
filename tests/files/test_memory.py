"""The memory that a process can have is the least of all bounds on it."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from elman.errors import ElmanError
from elman.files import memory
from elman.model import weights
from elman.model.weights import Architecture


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which control groups are found."""
    monkeypatch.setattr(memory, "_machine", lambda: iter([10**12]))
    monkeypatch.setattr(memory, "_address_space", lambda: iter(()))
    monkeypatch.setattr(memory, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "MOUNTED", tmp_path / "mounted")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "bounds", "least"),
    [
        ("0::/a/b", {"a/b/memory.max": "max", "a/memory.max": "4000"}, 4000),
        ("0::/a/b", {"a/b/memory.max": "3000", "a/memory.max": "4000"}, 3000),
        ("0::/", {"memory.max": "5000"}, 5000),
        ("0::/not/seen/within", {"memory.max": "5000"}, 5000),
        ("0::/../outside", {"memory.max": "5000"}, 5000),
        ("4:memory:/a", {"memory/a/memory.limit_in_bytes": "6000"}, 6000),
        ("4:cpu,memory:/a", {"memory/memory.limit_in_bytes": "6000"}, 6000),
        ("4:cpu:/a", {"memory/a/memory.limit_in_bytes": "6000"}, 10**12),
        ("no group", {}, 10**12),
        (None, {}, 10**12),
    ],
)
def test_a_control_group_and_those_above_it_bound_the_memory(
    machine: Path, line: str | None, bounds: dict[str, str], least: int
) -> None:
    if line:
        (machine / "cgroup").write_text(line + "\n")
    for name, bound in bounds.items():
        path = machine / "mounted" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(bound + "\n")
    assert memory.limit() == least


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not heed the bound")
def test_an_address_space_that_was_bounded_bounds_the_memory() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32)); "
        "from elman.files import memory; print(memory.limit())"
    )
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    output = subprocess.check_output([sys.executable, "-c", code], env=environment)
    assert int(output) <= 1 << 32


def test_a_model_that_takes_more_is_refused_before_it_is_drawn_or_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = Architecture("rnn", vocab=100, hidden=1000)
    monkeypatch.setattr(memory, "limit", lambda: 9 << 20)  # for 4.5 MiB of weights
    message = r"a model of 1000 hidden units in 1 layers takes \d+ MiB, but this process may use 9"
    for make in (weights.initial, partial(weights.load, tmp_path / "model.safetensors")):
        with pytest.raises(ElmanError, match=message):
            make(arch)


@pytest.mark.parametrize(
    ("words", "kind"), [("CUDA out of Memory", MemoryError), ("wrong shape", RuntimeError)]
)
def test_a_frameworks_error_for_lack_of_memory_becomes_a_memory_error(
    words: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=words), memory.as_memory_error(RuntimeError, "memory"):
        raise RuntimeError(words)
