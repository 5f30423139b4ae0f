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

from elman.core.errors import MachineError
from elman.core.workers.hosts import interface_towards, source_address
from elman.core.workers.processes import (
    WHOLE,
    Numbers,
    as_machine_error,
    divided,
    remaining,
    tree_sum,
)
from elman.core.workers.rows import Rows, packed, unpacked
from elman.core.workers.shared_memory import SharedMemory, shared_memory

FIRST_EARLY = 2  # tag of the first part that is sent early; others are below


@dataclass(frozen=True)
class Begun:
    """Exchange of a part of a vector that has begun.

    - `place`: where it is in the vector.
    - `part`: view of the vector; takes the sum.
    - `pieces`: the part, or a copy with padding, (size, piece); None if all of it is sent.
    - `received`: rows of all workers, (size, piece) or (size, length of the part).
    - `exchanges`: what has to end before they are complete.
    """

    place: slice
    part: torch.Tensor
    pieces: torch.Tensor | None
    received: torch.Tensor
    exchanges: list[Any]


class TorchWorkers:
    """Workers started by torchrun, or by anything that sets its variables.

    A worker that does not answer for `seconds` counts as lost. With `on_gpus`, NCCL exchanges
    vectors on CUDA devices. With `share_memory`, workers on one machine add them up in its memory.
    """

    def __init__(self, seconds: float, on_gpus: bool = False, share_memory: bool = True) -> None:
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
        if backend == "gloo" and share_memory:
            with as_machine_error(OSError):
                self._memory = shared_memory(self, seconds)
        self.sends_vectors = self._memory is None
        self.sends_early = backend == "gloo" and self.sends_vectors
        self._begun: list[Begun] = []

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
        if self._begun:
            return self._sent_with_begun(vector, numbers, rows, per)
        if self._memory is None:
            return self._sent(vector, numbers, rows, per)
        given = vector.numpy() if isinstance(vector, torch.Tensor) else vector
        with as_machine_error(OSError):
            total, all_numbers = self._memory.exchange(given, numbers, per)
        return (torch.from_numpy(total) if given is not vector else total), all_numbers

    def send_early(self, vector: Any, part: slice) -> None:
        """Begin to exchange a part of the vector that is given to the next exchange."""
        own = vector[part]
        pieces = None if self.size == 2 else self._pieces(own)
        sent = own.expand(self.size, len(own)) if pieces is None else pieces
        received = torch.empty_like(sent, memory_format=torch.contiguous_format)
        received[self.rank] = sent[self.rank]
        tag = FIRST_EARLY + len(self._begun)
        with as_machine_error(RuntimeError):
            exchanges = self._begin_rows(received, sent, tag)
        self._begun.append(Begun(part, own, pieces, received, exchanges))

    def _sent_with_begun(
        self, vector: torch.Tensor, numbers: Numbers, rows: Rows | None, per: int | None
    ) -> tuple[torch.Tensor, Numbers]:
        """Sum of the vectors, in place, and all numbers; some parts have been sent early."""
        begun, self._begun = self._begun, []
        left = [vector[place] for place in remaining(len(vector), (one.place for one in begun))]
        rest = torch.cat(left)
        if rows is not None:
            before = sum(len(one.part) for one in begun if one.place.start < rows.start)
            rows = replace(rows, length=len(rest), start=rows.start - before)
        total, all_numbers = self._sent(rest, numbers, rows, per)
        for own, part in zip(left, total.split([len(own) for own in left]), strict=True):
            own[:] = part
        with as_machine_error(RuntimeError):
            for one in begun:
                _wait(one.exchanges)
                self._add(one, all_numbers, per)
            self._join_parts(begun)
        return vector, all_numbers

    def _add(self, begun: Begun, numbers: Numbers, per: int | None) -> None:
        """Write the sum of a part, or of this worker's piece of it."""
        total = divided(tree_sum(begun.received), numbers, per)
        if begun.pieces is None:
            begun.part[:] = total
        else:
            begun.pieces[self.rank] = total

    def _join_parts(self, begun: list[Begun]) -> None:
        """Receive the pieces of the other workers' sums, those of all parts at once."""
        in_pieces = [(one.part, one.pieces) for one in begun if one.pieces is not None]
        exchanges = []
        for number, (_, pieces) in enumerate(in_pieces):
            own = pieces[self.rank].expand_as(pieces)
            exchanges += self._begin_rows(pieces, own, FIRST_EARLY + number)
        _wait(exchanges)
        for part, pieces in in_pieces:
            part[:] = pieces.view(-1)[: len(part)]

    def _sent(
        self, vector: Any, numbers: Numbers, rows: Rows | None, per: int | None
    ) -> tuple[Any, Numbers]:
        """Sum of the vectors and all numbers, exchanged through the network."""
        given = torch.zeros(0) if vector is None else _exchangeable(vector)
        zeros = given.new_zeros
        if rows is not None:
            given = packed(given, rows, zeros)
        words = torch.from_numpy(numbers.view(np.float32)).to(given.device)
        whole = self.size == 2 and len(given) <= WHOLE
        with as_machine_error(RuntimeError):
            total, all_numbers = (self._sum_of_wholes if whole else self._sum_of_pieces)(
                given, words, per
            )
        total = total if rows is None else unpacked(total, rows, zeros)
        return (total if vector is None else _like(vector, total)), all_numbers

    def _sum_of_wholes(
        self, given: torch.Tensor, words: torch.Tensor, per: int | None
    ) -> tuple[torch.Tensor, Numbers]:
        """Sum of the vectors and all numbers in one message: each worker adds up everything.

        Two workers send as many bytes as in pieces, in half the messages.
        """
        length = len(given)
        both = given.new_empty(self.size, length + len(words))
        both[self.rank, :length], both[self.rank, length:] = given, words
        self._join(both)
        numbers = _numbers(both[:, length:])
        return divided(tree_sum(both[:, :length]), numbers, per), numbers

    def _sum_of_pieces(
        self, given: torch.Tensor, words: torch.Tensor, per: int | None
    ) -> tuple[torch.Tensor, Numbers]:
        """Sum of the vectors, in place, and all numbers: each worker adds up a piece."""
        pieces = self._pieces(given)
        received, all_words = torch.empty_like(pieces), words.new_empty(self.size, len(words))
        received[self.rank], all_words[self.rank] = pieces[self.rank], words
        self._exchange_rows((received, pieces), (all_words, words.expand_as(all_words)))
        numbers = _numbers(all_words)
        pieces[self.rank] = divided(tree_sum(received), numbers, per)
        self._join(pieces)
        return pieces.view(-1)[: len(given)], numbers

    def _pieces(self, given: torch.Tensor) -> torch.Tensor:
        """View of a vector as a piece for each worker, (size, piece); a copy if it is padded."""
        padding = -len(given) % self.size
        whole = torch.nn.functional.pad(given, (0, padding)) if padding else given
        return whole.view(self.size, -1)

    def _exchange_rows(self, *messages: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Send each of the other workers a row, and receive one from it, all messages at once.

        - `messages`: rows received and rows sent, (size, n). The own row need not be received.
        """
        exchanges: list[Any] = []
        for tag, (received, sent) in enumerate(messages):
            exchanges += self._begin_rows(received, sent, tag)
        _wait(exchanges)

    def _begin_rows(self, received: torch.Tensor, sent: torch.Tensor, tag: int) -> list[Any]:
        """Begin to send each of the other workers a row, and to receive one from it."""
        if sent.is_cuda:
            return [dist.all_to_all_single(received, sent.contiguous(), async_op=True)]
        if not sent.numel():
            return []
        # Not by collectives of gloo, which take longer on slow links.
        others = [other for other in range(self.size) if other != self.rank]
        receiving = [dist.irecv(received[other], other, tag=tag) for other in others]
        return receiving + [dist.isend(sent[other], other, tag=tag) for other in others]

    def _join(self, pieces: torch.Tensor) -> None:
        """Receive each worker's piece, (size, piece), in its place."""
        own = pieces[self.rank]
        if pieces.is_cuda:
            dist.all_gather_into_tensor(pieces.view(-1), own)
        else:
            self._exchange_rows((pieces, own.expand_as(pieces)))

    def concatenate(self, part: Any, length: int) -> Any:
        """Concatenate the workers' parts of a vector of this length."""
        given = _exchangeable(part)
        pieces = given.new_empty(self.size, -(-length // self.size))
        pieces[self.rank, : len(given)] = given
        with as_machine_error(RuntimeError):
            self._join(pieces)
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


def _wait(exchanges: list[Any]) -> None:
    """Wait until exchanges have ended."""
    for exchange in exchanges:
        exchange.wait()


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
