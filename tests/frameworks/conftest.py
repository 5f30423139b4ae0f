"""The tests here ask the same of every framework; `pytest --framework NAME` says of which."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import elman
from elman.valid_values import SHARDED
from tests.conftest import STORY

EVEN = 3860  # characters of a text whose random batches of 8 sequences of 16 are all whole
BOOKS = ("torch", "tensorflow", "jax", "mxnet")
# Files with tests of what only some frameworks have.
OF_SOME = {
    **dict.fromkeys(("book", "custom_cells", "from_d2l", "pairs", "reference", "seq2seq"), BOOKS),
    **dict.fromkeys(("dynamic", "shards"), SHARDED),
}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what the framework under test does not have."""
    having = OF_SOME.get(collection_path.stem.removeprefix("test_"))
    return True if having and config.getoption("framework") not in having else None


@pytest.fixture(scope="session")
def framework(pytestconfig: pytest.Config) -> str:
    """The name of the framework under test; where it cannot be imported, its tests fail."""
    name = pytestconfig.getoption("framework")
    if name is None:
        raise pytest.UsageError("say which framework is to be tested: --framework NAME")
    return str(name)


@pytest.fixture(scope="session")
def module(framework: str) -> Any:
    """The framework's module."""
    return elman.framework_module(framework)


@pytest.fixture(scope="module", autouse=True)
def _free_compiled_code(pytestconfig: pytest.Config) -> Iterator[None]:
    """JAX keeps what it compiled, and a process on Linux may map 65,530 pieces of memory."""
    yield
    if pytestconfig.getoption("framework") == "jax":
        sys.modules["jax"].clear_caches()


@pytest.fixture
def even_story(story: Path) -> Path:
    """A text for whose batches a step is compiled once: none is smaller than the others."""
    story.write_text(STORY[:EVEN], encoding="utf-8")
    return story
