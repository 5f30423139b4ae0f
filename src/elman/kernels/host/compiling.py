"""Compiling in two processes at once.

    python -m elman.kernels.host.compiling CELL PRECISION VOCAB HIDDEN BATCH

A training begins with the kernels for batches, forward and backward, needs the optimizer's next,
and the kernels that measure the model and write a text at the end. Numba compiles under one lock,
so a second thread would only wait. While the training compiles the forward pass, a second process
compiles the others into the cache. It prints a line when those of an update are there, and reads
one before it compiles those for the end of the training.
"""

import os
import subprocess
import sys
from contextlib import suppress
from threading import Event, Thread
from typing import Any

import numpy as np

from elman.inference.sampling import Sampler
from elman.kernels.codegen.cache import folder
from elman.kernels.host.engine import MAX_GROUP_HIDDEN, MAX_GROUP_TOKENS, Engine
from elman.kernels.host.optimizers import Optimization
from elman.kernels.host.threads import thread_count
from elman.model.options import ModelOptions
from elman.model.weights import Architecture, initial

PATIENCE = 30.0  # seconds; after that, no process waits for the other


class SecondProcess:
    """Process that compiles the kernels of a training, except the forward pass.

    It gets no Ctrl-C except on Windows, where it then ends. If it fails, this process compiles the
    kernels.
    """

    def __init__(self, arch: Architecture, precision: str, batch: int) -> None:
        # Larger models have the kernels of these sizes.
        vocab = min(arch.vocab, MAX_GROUP_TOKENS + 1)
        hidden = min(arch.hidden, MAX_GROUP_HIDDEN + 1)
        self.arguments = [arch.cell, precision, *map(str, (vocab, hidden, batch))]
        self.has_compiled = Event()  # the kernels of an update, if it can
        self.may_proceed = Event()  # to the kernels for the end of the training
        self._thread: Thread | None = None

    def start(self) -> None:
        """Start it, if it has a core to run on and a cache to fill.

        In a frozen program, `sys.executable` is that program. It is no error if no thread can be
        started to wait for it.
        """
        executable = sys.executable
        if thread_count(2) == 1 or folder() is None or not executable or hasattr(sys, "frozen"):
            return
        command = [executable, "-P", "-m", __name__, *self.arguments]
        thread = Thread(target=self._run, args=(command,), name="elman compiling", daemon=True)
        with suppress(RuntimeError):
            thread.start()
            self._thread = thread

    def wait(self) -> None:
        """Wait until the kernels of an update are in the cache, or until it has failed."""
        if self._thread is not None:
            self.has_compiled.wait(PATIENCE)

    def _run(self, command: list[str]) -> None:
        """Run a command without messages, if it can be started."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        options: Any = {**pipes, "start_new_session": True}
        with suppress(OSError), subprocess.Popen(command, **options) as process:
            assert process.stdout is not None
            process.stdout.readline()
            self.has_compiled.set()
            self.may_proceed.wait(PATIENCE)
            process.communicate(b"\n")
        self.has_compiled.set()


def compile_kernels(arch: Architecture, precision: str, batch: int) -> None:
    """Compile the kernels of an update except the forward pass, and those that score and write."""
    engine = Engine(arch, options=ModelOptions(precision=precision))
    engine.compile_backward(batch)
    Optimization()
    with suppress(OSError):  # the training has ended
        os.write(1, b"compiled\n")
    sys.stdin.readline()  # empty if the training has ended
    engine.load({name: np.asarray(value, np.float32) for name, value in initial(arch).items()})
    ids = np.zeros(1, np.int64)
    engine.losses(ids, ids, ())
    seen = np.zeros((1, 0), np.bool_)
    engine.generate(ids[None], ids, (), [Sampler()], np.zeros((1, 1)), seen)


if __name__ == "__main__":
    cell, precision, *sizes = sys.argv[1:]
    vocab, hidden, batch = map(int, sizes)
    compile_kernels(Architecture(cell, vocab, hidden), precision, batch)
