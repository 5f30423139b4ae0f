"""Workers that exchange by JAX's multi-process runtime."""

import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from elman.errors import ElmanError
from elman.training.workers.processes import (
    Numbers,
    Workers,
    as_machine_error,
    divided,
    free_port,
    tree_sum,
)
from elman.training.workers.rows import Rows, packed, unpacked
from elman.training.workers.shared_memory import SharedMemory, shared_memory

AXIS = PartitionSpec("worker")
FIRST_VERSION = 0, 7  # with a timeout after which a worker counts as lost


class JaxWorkers(Workers):
    """Workers that are connected by `jax.distributed.initialize`, each with its first device.

    Those on one machine, without GPUs, add up vectors in its memory.
    """

    def __init__(self, seconds: int, **places: Any) -> None:
        """Connect; `places` are arguments of `initialize`, none if JAX finds them itself.

        A worker that does not answer for twice the `seconds` counts as lost.
        """
        with as_machine_error(RuntimeError, ValueError):
            jax.distributed.initialize(
                **places,
                initialization_timeout=seconds,
                # JAX ends the process without a message of ours: a lost host is found before.
                heartbeat_timeout_seconds=2 * seconds,
                shutdown_timeout_seconds=seconds,
            )
        self.rank, self.size = jax.process_index(), jax.process_count()
        first = {device.process_index: device for device in reversed(jax.devices())}
        self.mesh = Mesh(np.array([first[rank] for rank in range(self.size)]), ("worker",))
        self._exchange, self._join = self._collective(_exchange), self._collective(_join)
        self._memory: SharedMemory | None = None
        if jax.default_backend() == "cpu":
            with as_machine_error(OSError):
                self._memory = shared_memory(self, seconds)
        self.sends_vectors = self._memory is None

    def _collective(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compile a function of a worker's rows that calls collectives."""
        return jax.jit(
            jax.shard_map(function, mesh=self.mesh, in_specs=AXIS, out_specs=AXIS, check_vma=False)
        )

    def exchange(
        self, vector: Any, numbers: Numbers, rows: Rows | None = None, per: int | None = None
    ) -> tuple[Any, Numbers]:
        """Sum the vectors of all workers along a tree, and gather each one's numbers, (size, n)."""
        if self._memory is not None:
            given = None if vector is None else np.asarray(vector)
            with as_machine_error(OSError):
                total, all_numbers = self._memory.exchange(given, numbers, per)
            return None if total is None else jnp.array(total), all_numbers
        return self._sent(vector, numbers, rows, per)

    def _sent(
        self, vector: Any, numbers: Numbers, rows: Rows | None, per: int | None
    ) -> tuple[Any, Numbers]:
        """Sum of the vectors and all numbers, exchanged through the network."""
        given = np.zeros(1, np.float32) if vector is None else np.asarray(vector)
        length = len(given)
        if rows is not None:
            given = packed(given, rows, _zeros)
        padded = np.pad(given, (0, -len(given) % self.size))
        words = numbers.view(np.uint32)
        with as_machine_error(RuntimeError, ValueError):
            total, all_words = self._exchange(
                self._global(padded.reshape(1, self.size, -1)), self._global(words[None])
            )
            own_sum, own_words = map(_local, (total, all_words))
        own_sum = own_sum[:length] if rows is None else unpacked(own_sum, rows, _zeros)
        all_numbers = own_words.view(np.float64)
        return divided(jnp.asarray(own_sum), all_numbers, per), all_numbers

    def concatenate(self, part: Any, length: int) -> Any:
        """Concatenate the workers' parts of a vector of this length."""
        padded = np.pad(part, (0, -(-length // self.size) - len(part)))
        with as_machine_error(RuntimeError, ValueError):
            total = _local(self._join(self._global(padded[None])))
        return jnp.asarray(total[:length])

    def _global(self, own: Any) -> Any:
        """Array of all workers, (size, ...). Each worker has a row."""
        sharding = NamedSharding(self.mesh, AXIS)
        return jax.make_array_from_process_local_data(
            sharding, np.asarray(own), (self.size, *own.shape[1:])
        )

    def gather(self, content: bytes) -> list[bytes]:
        """Gather the contents of all workers."""
        with as_machine_error(RuntimeError, ValueError):
            sizes = multihost_utils.process_allgather(np.array([len(content)]))[:, 0]
            padded = np.frombuffer(content.ljust(int(sizes.max()), b"\0"), np.uint8)
            found = multihost_utils.process_allgather(padded)
        return [row[:size].tobytes() for row, size in zip(found, sizes, strict=True)]

    def close(self) -> None:
        """Close the connections."""
        if self._memory is not None:
            self._memory.close()
        jax.distributed.shutdown()


def _exchange(pieces: Any, words: Any) -> tuple[Any, Any]:
    """Sum of the vectors, (1, n), and the words of all, (1, size, words), in one worker."""
    received = lax.all_to_all(pieces[0], "worker", 0, 0)  # (size, piece)
    total = lax.all_gather(tree_sum(received), "worker", tiled=True)
    return total[None], lax.all_gather(words[0], "worker")[None]


def _join(part: Any) -> Any:
    """Concatenate the vectors of all workers; they have equal lengths."""
    return lax.all_gather(part[0], "worker", tiled=True)[None]


def _zeros(length: int) -> Any:
    return np.zeros(length, np.float32)


def _local(rows: Any) -> Any:
    """The row of this worker."""
    return np.array(rows.addressable_shards[0].data)[0]


def connect(seconds: int, on_gpus: bool = False) -> JaxWorkers:
    """Connect the workers started by torchrun, Slurm, Open MPI, or anything that sets RANK."""
    if jax.__version_info__ < FIRST_VERSION:
        needed = ".".join(map(str, FIRST_VERSION))
        raise ElmanError(
            f"workers need JAX {needed} or later, got {jax.__version__}: pip install -U jax"
        )
    if "RANK" not in os.environ:
        return JaxWorkers(seconds)
    rank, size = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
    host, port = (os.environ[name] for name in ("MASTER_ADDR", "MASTER_PORT"))
    if "TORCHELASTIC_RUN_ID" in os.environ:
        port = _port_of_first(seconds)
    return JaxWorkers(
        seconds,
        coordinator_address=f"{host}:{port}",
        num_processes=size,
        process_id=rank,
        local_device_ids=int(os.environ.get("LOCAL_RANK", "0")),
    )


def gpu_name(gpu: jax.Device) -> str:
    """Name of a GPU, which the workers compare."""
    return str(gpu.device_kind)


def _port_of_first(seconds: int) -> str:
    """Free port of the first worker; torchrun, at MASTER_PORT, distributes it."""
    from elman.torch.workers import TorchWorkers

    workers = TorchWorkers(seconds)
    port = workers.gather(str(free_port()).encode())[0]
    workers.close()
    return port.decode()
