"""Workers on several hosts, out of Linux namespaces, end in the bits of one process."""

from pathlib import Path

import pytest

from tests.conftest import STORY
from tests.hosts import reason_without_hosts, switched
from tests.robustness.hosts import BY_HAND, SHORT, ended, launch, left, named
from tests.workers import alone, digest, prepare, words

REASON = reason_without_hosts()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    prepare(tmp_path, STORY)
    return tmp_path


def test_two_hosts_end_in_the_bits_of_one_process(store: Path) -> None:
    assert alone(store, words("numba", "one", *SHORT)).returncode == 0
    with switched(named(2), megabits=100) as net:
        started = launch(net, store, words("numba", "two", *SHORT), BY_HAND)
        assert ended(started) == [0, 0], started[0].lines
        assert left(net.hosts) == []
    assert digest(store / "two") == digest(store / "one")
