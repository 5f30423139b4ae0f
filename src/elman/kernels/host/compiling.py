"""Compiling in two processes at once.

    python -m elman.kernels.host.compiling CELL PRECISION

A training begins with the kernels for batches, needs the optimizer's next, and the kernels that
measure the model and write a text at the end. Numba compiles under one lock, so a second thread
would only wait. A second process fills the cache while the first one compiles the kernels for
batches.
"""

import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from threading import Thread

import numpy as np

from elman.core.model.options import ModelOptions
from elman.core.model.sampling import Sampler
from elman.core.model.weights import Architecture, initial
from elman.kernels.codegen.cache import folder
from elman.kernels.host.engine import Engine
from elman.kernels.host.optimizers import Optimization
from elman.kernels.host.threads import thread_count


def compile_beside(cell: str, precision: str) -> None:
    """Start the second process, if it has a core to run on and a cache to fill.

    It prints nothing, and gets no Ctrl-C except on Windows, where it then ends. If it fails, this
    process compiles the kernels. In a frozen program, `sys.executable` is that program.
    """
    if thread_count(2) == 1 or folder() is None or not sys.executable or hasattr(sys, "frozen"):
        return
    command = [sys.executable, "-P", "-m", __name__, cell, precision]
    Thread(target=_run, args=(command,), name="elman compiling", daemon=True).start()


def _run(command: Sequence[str]) -> None:
    """Run a command without input and output, if it can be started."""
    nothing = subprocess.DEVNULL
    with suppress(OSError):
        subprocess.run(
            command,
            stdin=nothing,
            stdout=nothing,
            stderr=nothing,
            start_new_session=True,
            check=False,
        )


def compile_kernels(cell: str, precision: str) -> None:
    """Compile the optimizer's kernel, and the kernels that score and write one text."""
    Optimization()
    arch = Architecture(cell, 2, 1)
    engine = Engine(arch, options=ModelOptions(precision=precision))
    engine.load({name: np.asarray(value, np.float32) for name, value in initial(arch).items()})
    ids = np.zeros(1, np.int64)
    engine.losses(ids, ids, ())
    seen = np.zeros((1, 0), np.bool_)
    engine.generate(ids[None], ids, (), [Sampler()], np.zeros((1, 1)), seen)


if __name__ == "__main__":
    compile_kernels(*sys.argv[1:])
