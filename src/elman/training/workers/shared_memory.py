"""Sums of the vectors of workers on one machine, in memory that they share.

Each worker has a vector in this memory, and a socket to each of the others. A message on all of
its sockets says that a worker has finished a phase of an exchange. When a worker ends, its sockets
close, and the others notice at once.

The memory is a file without a name. The sockets have names in the network namespace: hosts that are
namespaces of one machine share no memory.
"""

import mmap
import os
import secrets
import select
import socket
import struct
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from elman.training.workers.processes import WHOLE, Numbers, Workers, divided, piece_of, tree_sum

Vector = NDArray[np.float32]
Connections = dict[int, socket.socket]  # to the other workers, by rank
BLOCK = 1 << 16  # numbers of each worker that are added at a time, in a cache
NUMBER, MAX_MESSAGE = 4, 1 << 12  # bytes
NEXT, NOWHERE = b"next", b"nowhere"  # a phase is finished; there is no address
SPIN_SECONDS = 1e-3  # waking a thread takes longer than the exchange of a small model
CREDENTIALS = "3i"  # of the process at the other end of a socket: process, user, group


class SharedMemory:
    """Vectors of all workers of a machine. Its methods raise an OSError if a worker is lost.

    A worker that does not answer for `seconds` counts as lost.
    """

    def __init__(
        self, rank: int, files: Sequence[int], others: Connections, seconds: float
    ) -> None:
        """Take the `files` of all workers, by rank, and connections to the others."""
        self._rank, self._size = rank, len(files)
        self._files, self._others, self._seconds = files, others, seconds
        self._vectors = [np.zeros(0, np.float32) for _ in files]
        self._has_readers = False  # others may still read this worker's vector
        self._spin = SPIN_SECONDS if len(os.sched_getaffinity(0)) >= self._size else 0.0
        self._arrivals = {rank: select.poll() for rank in others}
        for other, connection in others.items():
            connection.setblocking(False)
            self._arrivals[other].register(connection, select.POLLIN)

    def own_vector(self, length: int) -> Vector:
        """This worker's vector, to be filled. `exchange` copies any other one to it."""
        self._await_readers()
        if length > len(self._vectors[self._rank]):
            os.ftruncate(self._files[self._rank], NUMBER * length)
            self._map(self._rank)
        return self._vectors[self._rank][:length]

    def exchange(
        self, vector: Vector | None, numbers: Numbers, per: int | None = None
    ) -> tuple[Vector | None, Numbers]:
        """Sum of all vectors, and all numbers, as in `Workers`; the next exchange may change it."""
        self._await_readers()
        own = None if vector is None else self._placed(vector)
        contents = self._meet(numbers.tobytes())
        all_numbers = np.frombuffer(b"".join(contents)).reshape(self._size, -1)
        if own is None:
            return None, all_numbers
        for other in self._others:
            if len(self._vectors[other]) < len(own):
                self._map(other)
        add = self._sum_of_wholes if len(own) <= WHOLE else self._sum_of_pieces
        return add(own, all_numbers, per), all_numbers

    def _map(self, rank: int) -> None:
        """Map the file of a worker, once this worker has enlarged it."""
        self._vectors[rank] = np.frombuffer(mmap.mmap(self._files[rank], 0), np.float32)

    def _placed(self, vector: Vector) -> Vector:
        """This worker's vector with the numbers of another one."""
        own = self.own_vector(len(vector))
        if own.ctypes.data != vector.ctypes.data:
            own[:] = vector
        return own

    def _sum_of_wholes(self, own: Vector, numbers: Numbers, per: int | None) -> Vector:
        """Sum of the vectors: each worker adds up everything, after one message."""
        total = np.empty_like(own)
        self._add(slice(0, len(own)), total, numbers, per)
        self._tell(NEXT)
        self._has_readers = True
        return total

    def _sum_of_pieces(self, own: Vector, numbers: Numbers, per: int | None) -> Vector:
        """Sum of the vectors: each worker adds up a piece, and copies the others' pieces."""
        pieces = [piece_of(len(own), rank, self._size) for rank in range(self._size)]
        self._add(pieces[self._rank], own, numbers, per)  # the others read other pieces
        self._meet(NEXT)
        for other in self._others:
            own[pieces[other]] = self._vectors[other][pieces[other]]
        self._meet(NEXT)
        return own

    def _add(self, piece: slice, total: Vector, numbers: Numbers, per: int | None) -> None:
        """Write a piece of the sum."""
        for start in range(piece.start, piece.stop, BLOCK):
            block = slice(start, min(start + BLOCK, piece.stop))
            terms = [vector[block] for vector in self._vectors]
            terms[::2] = [term.copy() for term in terms[::2]]  # their memory takes the sums
            total[block] = divided(tree_sum(terms), numbers, per)

    def _await_readers(self) -> None:
        if self._has_readers:
            self._has_readers = False
            for other in self._others:
                self._next_of(other)

    def _meet(self, content: bytes) -> list[bytes]:
        """Wait for all others; return the contents of all workers."""
        self._tell(content)
        ranks = range(self._size)
        return [content if rank == self._rank else self._next_of(rank) for rank in ranks]

    def _tell(self, content: bytes) -> None:
        for connection in self._others.values():
            connection.send(content)

    def _next_of(self, other: int) -> bytes:
        """Next message of another worker."""
        arrived, end = self._arrivals[other].poll, perf_counter() + self._spin
        while not arrived(0):
            os.sched_yield()  # to a worker on the same core
            if perf_counter() >= end and not arrived(1000 * self._seconds):
                raise TimeoutError(f"no answer for {self._seconds:g} seconds")
        if content := self._others[other].recv(MAX_MESSAGE):
            return content
        raise ConnectionError("connection closed")

    def close(self) -> None:
        """Close the connections, once the others need them no more.

        The memory is freed with the last array in it.
        """
        with suppress(OSError):
            self._await_readers()
        for connection in self._others.values():
            connection.close()
        for file in self._files:
            os.close(file)


def shared_memory(workers: Workers, seconds: float) -> SharedMemory | None:
    """Memory that several workers share; None unless all are on one machine, with Linux.

    - `seconds`: without an answer, until a worker counts as lost.
    """
    if workers.size == 1:
        return None
    with ExitStack() as stack, _server(workers.size) as server:
        file = _new_file(stack)
        addresses = workers.gather(NOWHERE if file is None else server.getsockname())
        if file is None or NOWHERE in addresses:
            return None
        others = {other: stack.enter_context(_socket()) for other in range(workers.rank)}
        found = _find(others, workers.rank, addresses)
        if NOWHERE in workers.gather(server.getsockname() if found else NOWHERE):
            return None
        server.settimeout(seconds)
        while len(others) < workers.size - 1:
            connection = stack.enter_context(server.accept()[0])
            if _user_of(connection) == os.getuid():
                others[int(connection.recv(MAX_MESSAGE))] = connection
        files = _exchanged_files(workers.rank, file, others)
        stack.pop_all()
        return SharedMemory(workers.rank, files, others, seconds)


def _new_file(stack: ExitStack) -> int | None:
    """File without a name, closed by the stack; None on another system than Linux."""
    with suppress(AttributeError, OSError):
        file = os.memfd_create("elman")
        stack.callback(os.close, file)
        return file
    return None


def _socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _server(size: int) -> socket.socket:
    """Socket that takes connections of this many workers, with a name that is no file's."""
    server = _socket()
    server.bind(f"\0elman-{secrets.token_hex(8)}")
    server.listen(size)
    return server


def _find(others: Connections, rank: int, addresses: Sequence[bytes]) -> bool:
    """Connect to other workers; return False if one is on another machine."""
    with suppress(OSError):
        for other, connection in others.items():
            connection.connect(addresses[other])
            connection.send(str(rank).encode())
        return True
    return False


def _user_of(connection: socket.socket) -> int:
    """User of the process at the other end."""
    size = struct.calcsize(CREDENTIALS)
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack(CREDENTIALS, found)[1])


def _exchanged_files(rank: int, file: int, others: Connections) -> list[int]:
    """Files of all workers, by rank."""
    for connection in others.values():
        socket.send_fds(connection, [NEXT], [file])
    files = {rank: file}
    for other, connection in others.items():
        _, received, _, _ = socket.recv_fds(connection, MAX_MESSAGE, 1)
        if not received:
            raise ConnectionError("connection closed")
        (files[other],) = received
    return [files[rank] for rank in sorted(files)]
