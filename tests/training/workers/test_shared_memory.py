"""Workers on one machine add up vectors in shared memory, with the bits of the tree."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.training.workers import shared_memory as module
from elman.training.workers.processes import Numbers, tree_sum
from elman.training.workers.shared_memory import SharedMemory, Vector, shared_memory
from tests.training.workers.together import Together, at_once, group

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory without a name is Linux's")
SIZES = 2, 3, 4, 8
SECONDS = 60


def connected(size: int, seconds: float = SECONDS) -> list[SharedMemory]:
    """Memory that some workers share, as each of them has it."""

    def connect(worker: Together) -> SharedMemory:
        found = shared_memory(worker, seconds)
        assert found is not None
        return found

    return at_once(connect, group(size))


@pytest.fixture(scope="module")
def of_sizes() -> Iterator[dict[int, list[SharedMemory]]]:
    """Memory of several numbers of workers."""
    found = {size: connected(size) for size in SIZES}
    yield found
    for memories in found.values():
        for memory in memories:
            memory.close()


@pytest.fixture
def two() -> Iterator[list[SharedMemory]]:
    """Memory of two workers."""
    found = connected(2)
    yield found
    for memory in found:
        memory.close()


def exchanged(
    memories: list[SharedMemory], vectors: list[Vector], per: int | None = None
) -> list[tuple[Vector, Numbers]]:
    """What each worker gets for its vector and the numbers 1 and its rank."""

    def exchange(rank: int) -> tuple[Vector, Numbers]:
        own = memories[rank].own_vector(len(vectors[rank]))
        own[:] = vectors[rank]
        total, numbers = memories[rank].exchange(own, np.array([1.0, rank]), per)
        assert total is not None
        return total.copy(), numbers

    with ThreadPoolExecutor(len(memories)) as threads:
        return [*threads.map(exchange, range(len(memories)))]


@given(
    st.sampled_from(SIZES),
    st.lists(st.integers(0, 300), min_size=1, max_size=4),
    st.integers(1, 100),
    st.integers(0, 300),
)
def test_a_sum_in_blocks_of_any_size_has_the_bits_of_the_tree(
    of_sizes: dict[int, list[SharedMemory]], size: int, lengths: list[int], block: int, whole: int
) -> None:
    rng = np.random.default_rng(lengths)
    with patch.object(module, "BLOCK", block), patch.object(module, "WHOLE", whole):
        for length in lengths:
            vectors = rng.standard_normal((size, length), np.float32)
            vectors *= np.float32(10.0) ** rng.integers(-6, 6, (size, 1))
            expected = tree_sum(vectors.copy()) / np.float32(size)
            for total, numbers in exchanged(of_sizes[size], [*vectors], per=0):
                assert total.tobytes() == expected.tobytes()
                assert numbers.tolist() == [[1, rank] for rank in range(size)]


def test_numbers_are_exchanged_without_a_vector(two: list[SharedMemory]) -> None:
    exchanged(two, [np.ones(5, np.float32)] * 2)
    with ThreadPoolExecutor(2) as threads:
        found = [*threads.map(lambda one: one.exchange(None, np.array([3.0])), two)]
    assert [vector for vector, _ in found] == [None, None]
    assert [numbers.tolist() for _, numbers in found] == [[[3], [3]]] * 2


@pytest.mark.parametrize("whole", [0, 100])
def test_a_vector_anywhere_is_copied_and_one_in_shared_memory_is_not(
    two: list[SharedMemory], monkeypatch: pytest.MonkeyPatch, whole: int
) -> None:
    monkeypatch.setattr(module, "WHOLE", whole)
    elsewhere, here = np.arange(9, dtype=np.float32), two[1].own_vector(9)
    here[:] = 1
    with ThreadPoolExecutor(2) as threads:
        pairs = zip(two, (elsewhere, here), strict=True)
        found = [*threads.map(lambda one: one[0].exchange(one[1], np.ones(1)), pairs)]
    for total, _ in found:
        assert total is not None
        assert total.tolist() == [*range(1, 10)]
    assert elsewhere.tolist() == [*range(9)]
    assert np.shares_memory(found[1][0], here) == (whole == 0)


def test_a_worker_that_is_done_waits_until_the_others_have_read_its_vector() -> None:
    def exchange_once(memory: SharedMemory) -> float:
        total, _ = memory.exchange(np.ones(3, np.float32), np.ones(1))
        assert total is not None
        memory.close()
        return float(total[0])

    with ThreadPoolExecutor(2) as threads:
        assert [*threads.map(exchange_once, connected(2))] == [2, 2]


@pytest.mark.parametrize(
    ("ends", "told"),
    [(True, "connection closed|Broken pipe"), (False, r"no answer for 0\.01 seconds")],
)
def test_a_worker_that_ends_or_does_not_answer_is_given_up(ends: bool, told: str) -> None:
    first, second = connected(2, seconds=SECONDS if ends else 0.01)
    if ends:
        first.close()
    with pytest.raises(OSError, match=told):
        second.exchange(np.ones(3, np.float32), np.ones(1))
    for memory in (second,) if ends else (first, second):
        memory.close()


@pytest.mark.parametrize("address", [b"nowhere", b"\0elman-elsewhere"])
def test_workers_on_several_machines_share_nothing(address: bytes) -> None:
    class Far(Together):
        """A worker that the others cannot reach, if it is the first."""

        def gather(self, content: bytes) -> list[bytes]:
            hidden = self.rank == 0 and content.startswith(b"\0")
            return super().gather(address if hidden else content)

    workers = group(3)
    found = at_once(
        lambda worker: shared_memory(worker, SECONDS),
        [Far(worker.rank, worker.contents, worker.meeting) for worker in workers],
    )
    assert found == [None] * 3
