"""Workers that exchange by torch.distributed: gloo on CPUs, NCCL on GPUs."""

import os
import secrets
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from elman.errors import MachineError
from elman.training.workers.hosts import interface_towards, source_address
from elman.training.workers.processes import (
    WHOLE,
    Numbers,
    Workers,
    as_machine_error,
    divided,
    remaining,
    tree_sum,
)
from elman.training.workers.rows import Rows, packed, unpacked
from elman.training.workers.shared_memory import SharedMemory, shared_memory

REST, NUMBERS, FIRST_EARLY = range(3)  # tags of messages that are sent at the same time


@dataclass(frozen=True)
class Begun:
    """An exchange of a part of a vector that has begun.

    - `place`: of the part in the vector; of the rest, its length.
    - `own`: the part, which takes the sum.
    - `pieces`: the part as a piece for each worker, (size, piece); None if all of it is sent.
    - `received`: all pieces for this worker, (size, piece), or all of the other worker's part.
    - `waits`: what has to end before they are complete.
    """

    place: slice
    own: torch.Tensor
    pieces: torch.Tensor | None
    received: torch.Tensor
    waits: list[Any]


class TorchWorkers(Workers):
    """Workers started by torchrun, or by anything that sets its variables.

    A worker that does not answer for `seconds` counts as lost. With `on_gpus`, NCCL exchanges
    vectors on CUDA devices. Otherwise workers on one machine add them up in its memory.
    """

    def __init__(self, seconds: float, on_gpus: bool = False) -> None:
        backend = "gloo"
        self.gpu = int(os.environ.get("LOCAL_RANK", "0"))
        if on_gpus and self.gpu < torch.cuda.device_count():
            torch.cuda.set_device(self.gpu)
            backend = "cpu:gloo,cuda:nccl"
            # Wait for each exchange and raise its failure; otherwise NCCL would end the process.
            os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")
        timeout = timedelta(seconds=seconds)
        with as_machine_error(RuntimeError, ValueError):
            store, self.rank, self.size = next(rendezvous("env://", timeout=timeout))
            attempt, addresses = _attempt(store, self.rank, self.size, seconds)
            if (interface := interface_towards(addresses)) is not None:
                os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
            own = PrefixStore(attempt, store)
            dist.init_process_group(
                backend, store=own, rank=self.rank, world_size=self.size, timeout=timeout
            )
        self._memory: SharedMemory | None = None
        if backend == "gloo":
            with as_machine_error(OSError):
                self._memory = shared_memory(self, seconds)
        self.sends_vectors = self._memory is None
        self.sends_early = backend == "gloo" and self.sends_vectors
        self._early: list[Begun] = []

    def own_vector(self, length: int) -> Any:
        """Array in shared memory for this worker's next vector; None if there is no such memory."""
        if self._memory is None:
            return None
        with as_machine_error(OSError):
            return self._memory.own_vector(length)

    def exchange(
        self, vector: Any, numbers: Numbers, rows: Rows | None = None, per: int | None = None
    ) -> tuple[Any, Numbers]:
        """Sum the vectors of all workers along a tree, and gather each one's numbers, (size, n)."""
        if self._memory is None:
            return self._sent(vector, numbers, rows, per)
        given = vector.numpy() if isinstance(vector, torch.Tensor) else vector
        with as_machine_error(OSError):
            total, all_numbers = self._memory.exchange(given, numbers, per)
        return (torch.from_numpy(total) if given is not vector else total), all_numbers

    def send_early(self, vector: Any, part: slice) -> None:
        """Begin to exchange a part of the vector that the next `exchange` is given."""
        with as_machine_error(RuntimeError):
            tag = FIRST_EARLY + len(self._early)
            self._early.append(self._begin(vector[part], part, tag, whole=self.size == 2))

    def _sent(
        self, vector: Any, numbers: Numbers, rows: Rows | None, per: int | None
    ) -> tuple[Any, Numbers]:
        """Sum of the vectors and all numbers, exchanged through the network."""
        given = torch.zeros(0) if vector is None else _exchangeable(vector)
        early, self._early = self._early, []
        left = [given[place] for place in remaining(len(given), (one.place for one in early))]
        words = torch.from_numpy(numbers.view(np.float32)).to(given.device)
        with as_machine_error(RuntimeError):
            rest = torch.cat(left) if early else given
            if rows is not None:
                before = sum(len(one.own) for one in early if one.place.start < rows.start)
                rows = replace(rows, length=len(rest), start=rows.start - before)
                rest = packed(rest, rows, rest.new_zeros)
            last, all_numbers = self._begin_rest(rest, words)
            self._finish([*early, last], all_numbers, per)
            total = last.own
            if rows is not None:
                total = unpacked(total, rows, total.new_zeros)
            if early:
                for own, part in zip(left, total.split([*map(len, left)]), strict=True):
                    own[:] = part
                total = given
        return (total if vector is None else _like(vector, total)), all_numbers

    def _begin_rest(self, rest: torch.Tensor, words: torch.Tensor) -> tuple[Begun, Numbers]:
        """Begin to exchange what was not sent early, and gather the numbers of all workers.

        Two workers send a small vector and its numbers in one message.
        """
        length, all_words = len(rest), words.new_empty(self.size, len(words))
        all_words[self.rank] = words
        if self.size == 2 and length <= WHOLE and not rest.is_cuda:
            begun = self._begin(torch.cat([rest, words]), slice(0, length), REST, whole=True)
            _wait(begun.waits)
            all_words[1 - self.rank] = begun.received[length:]
            own, received = begun.own[:length], begun.received[:length]
            begun = replace(begun, own=own, received=received, waits=[])
        else:
            begun = self._begin(rest, slice(0, length), REST, whole=False)
            _wait(self._begin_rows(all_words, words.expand_as(all_words), NUMBERS))
        return begun, _numbers(all_words)

    def _begin(self, own: torch.Tensor, place: slice, tag: int, whole: bool) -> Begun:
        """Begin to exchange a vector, which must not change before the end.

        - `whole`: both of two workers send all of it and add up everything. That takes as many
          bytes as pieces, in half the messages.
        """
        if whole:
            received = torch.empty_like(own)
            both = received.expand(self.size, -1), own.expand(self.size, -1)
            return Begun(place, own, None, received, self._begin_rows(*both, tag))
        pieces = self._pieces(own)
        received = torch.empty_like(pieces)
        received[self.rank] = pieces[self.rank]
        return Begun(place, own, pieces, received, self._begin_rows(received, pieces, tag))

    def _finish(self, begun: list[Begun], numbers: Numbers, per: int | None) -> None:
        """Add up all parts, each worker a piece of each, and receive the other pieces."""
        joins = []
        for tag, one in enumerate(begun):
            _wait(one.waits)
            if one.pieces is None:
                one.own.add_(one.received)
                divided(one.own, numbers, per)
            else:
                one.pieces[self.rank] = divided(tree_sum(one.received), numbers, per)
                joins += self._begin_join(one.pieces, tag)
        _wait(joins)
        for one in begun:
            if one.pieces is not None and one.pieces.numel() > len(one.own):  # a padded copy
                one.own[:] = one.pieces.view(-1)[: len(one.own)]

    def _pieces(self, given: torch.Tensor) -> torch.Tensor:
        """View of a vector as a piece for each worker, (size, piece); a copy if it is padded."""
        padding = -len(given) % self.size
        whole = torch.nn.functional.pad(given, (0, padding)) if padding else given
        return whole.view(self.size, len(whole) // self.size)

    def _begin_join(self, pieces: torch.Tensor, tag: int) -> list[Any]:
        """Begin to receive each worker's piece, (size, piece), in its place."""
        own = pieces[self.rank]
        if pieces.is_cuda:
            return [dist.all_gather_into_tensor(pieces.view(-1), own, async_op=True)]
        return self._begin_rows(pieces, own.expand_as(pieces), tag)

    def _begin_rows(self, received: torch.Tensor, sent: torch.Tensor, tag: int) -> list[Any]:
        """Begin to send each of the other workers a row, and to receive one from it, (size, n).

        The own row need not be received.
        """
        if sent.is_cuda:
            return [dist.all_to_all_single(received, sent.contiguous(), async_op=True)]
        if not sent.numel():
            return []
        # Not by collectives of gloo, which take longer on slow links.
        others = [other for other in range(self.size) if other != self.rank]
        receiving = [dist.irecv(received[other], other, tag=tag) for other in others]
        return receiving + [dist.isend(sent[other], other, tag=tag) for other in others]

    def concatenate(self, part: Any, length: int) -> Any:
        """Concatenate the workers' parts of a vector of this length."""
        given = _exchangeable(part)
        pieces = given.new_empty(self.size, -(-length // self.size))
        pieces[self.rank, : len(given)] = given
        with as_machine_error(RuntimeError):
            _wait(self._begin_join(pieces, REST))
        return _like(part, pieces.view(-1)[:length])

    def gather(self, content: bytes) -> list[bytes]:
        """Gather the contents of all workers."""
        contents: list[Any] = [None] * self.size
        with as_machine_error(RuntimeError):
            dist.all_gather_object(contents, content)
        return contents

    def close(self) -> None:
        """Close the connections."""
        if self._memory is not None:
            self._memory.close()
        dist.destroy_process_group()


connect = TorchWorkers


def gpu_name(gpu: torch.device) -> str:
    """Name of a GPU, which the workers compare."""
    return torch.cuda.get_device_name(gpu) if gpu.type == "cuda" else gpu.type


def _wait(waits: list[Any]) -> None:
    """Wait until messages have been sent and received."""
    for each in waits:
        each.wait()


def _exchangeable(vector: Any) -> torch.Tensor:
    """A vector as a tensor that gloo or NCCL can exchange: neither supports MPS."""
    given = torch.as_tensor(vector)
    return given.cpu() if given.is_mps else given


def _numbers(words: torch.Tensor) -> Numbers:
    """Numbers of all workers, (size, n), in the words that were exchanged."""
    found: Numbers = words.contiguous().cpu().numpy().view(np.float64)
    return found


def _like(vector: Any, total: torch.Tensor) -> Any:
    """The total as an array of the vector's kind, on its device."""
    return total.numpy() if isinstance(vector, np.ndarray) else total.to(vector.device)


def _attempt(store: Any, rank: int, size: int, seconds: float) -> tuple[str, list[str]]:
    """Name that workers started together agree on, and addresses of all but the first.

    When torchrun restarts workers, its store still contains what the earlier ones wrote, such as
    their addresses (https://github.com/pytorch/pytorch/issues/135712).
    """
    address = source_address(os.environ.get("MASTER_ADDR", ""))
    own, end = f"{secrets.token_hex(8)}@{address}", time.monotonic() + seconds
    if rank == 0:
        store.set("elman", own)
    while time.monotonic() < end:
        first = store.get("elman").decode()  # possibly from an earlier attempt
        members = f"{first}/members"
        if rank:
            store.set(f"{first}/{rank}", own)
            if store.check([members]) and own in (names := store.get(members).decode().split()):
                return first, [name.partition("@")[2] for name in names]
        elif store.check([f"{first}/{other}" for other in range(1, size)]):
            names = [store.get(f"{first}/{other}").decode() for other in range(1, size)]
            store.set(members, " ".join(names))
            return first, [name.partition("@")[2] for name in names]
        time.sleep(0.05)
    raise MachineError(
        f"{size} workers must start together, got fewer within {seconds:g} seconds: start them at "
        "the same time"
    )
