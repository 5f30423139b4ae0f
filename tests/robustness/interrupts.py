"""Interrupt the kernel of a notebook at random moments of a training, and go on with each.

    python tests/robustness/interrupts.py [INTERRUPTS] [SEED]

A cell trains in the engine, and the kernel is interrupted as by the stop button of a notebook. The
next cell resumes the run, and is interrupted too, until the training has ended. It must then have
the weights and the history of one that was not interrupted. A cell that raises KeyboardInterrupt
has lost its training, unless that had not begun. Exits with 1 where that is not so.
"""

import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel

TIMEOUT = 300  # seconds for a cell
INTERRUPTED = "KeyboardInterrupt"
BEGIN = """
import os
from hashlib import sha256
from tempfile import mkdtemp

import elman

os.chdir(mkdtemp())
text = "Once upon a time, said he.\\n" * 999
options = dict(recipe="book", cell="lstm", layers=2, dropout=0.2, hidden=16, optimizer="adam")
sizes = dict(epochs=8, batch_size=16, seq_len=16, schedule="cosine")


def train(**more):
    return elman.train(text, **options, **sizes, **more)


def outcome(run):
    history = [run.history[name] for name in ("epoch", "train_ppl", "val_ppl")]
    return sha256((run.path / "model.safetensors").read_bytes()).hexdigest(), history


def newest(run):
    "The updates of the newest checkpoint."
    return max(int(path.stem) for path in run.path.glob("checkpoints/*"))
"""


class Notebook:
    """A kernel, and what its cells print."""

    def __init__(self, kernel: KernelManager, client: BlockingKernelClient) -> None:
        self.kernel, self.client = kernel, client

    def run(self, code: str, show: Callable[[str], None] = lambda text: None) -> str:
        """Run a cell, and return what it has printed, or INTERRUPTED if it was.

        `show` is called with each piece that is printed, in time.
        """
        printed: list[str] = []

        def hear(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
                printed.append(message["content"]["text"])
                show(printed[-1])

        reply = self.client.execute_interactive(code, output_hook=hear, timeout=TIMEOUT)
        content = reply["content"]
        if content["status"] == "ok":
            return "".join(printed)
        if content["ename"] == INTERRUPTED:
            return INTERRUPTED
        raise RuntimeError("\n".join(content["traceback"]))

    def stop(self) -> None:
        """What the stop button does."""
        self.kernel.interrupt_kernel()

    def run_for(self, seconds: float, code: str) -> str:
        """Run a cell that is interrupted after a time, unless it has ended."""
        timer = Timer(seconds, self.stop)
        timer.start()
        try:
            return self.run(code)
        finally:
            timer.cancel()
            timer.join()


@contextmanager
def notebook() -> Iterator[Notebook]:
    """A notebook that can train, and that is closed at the end of the block."""
    kernel, client = start_new_kernel(kernel_name="python3")
    try:
        started = Notebook(kernel, client)
        assert started.run(BEGIN) == ""
        yield started
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)


def main() -> int:
    """Interrupt so many times; 0 where nothing was lost."""
    wanted, seed = [*map(int, sys.argv[1:]), *(20, 0)[len(sys.argv) - 1 :]]
    chance = random.Random(seed)
    moments: list[int] = []  # updates before each interrupt
    early = ended = 0
    with notebook() as cells:
        cells.run("train()")  # compiles
        began = time.monotonic()
        whole = cells.run("print(outcome(train()))")
        most = time.monotonic() - began
        while len(moments) < wanted:
            folder = f"run-{ended}-{early}"
            told = cells.run_for(chance.uniform(0, most), f"run = train(out={folder!r})")
            while told != INTERRUPTED and cells.run("print(run.finished)") == "False\n":
                moments.append(int(cells.run("print(newest(run))")))
                print(f"interrupted after {moments[-1]} updates", flush=True)
                cells.run_for(chance.uniform(0, most), "run = elman.resume(run)")
            if told == INTERRUPTED:
                if cells.run(f"print(os.path.exists({folder!r}))") != "False\n":
                    print("a training that had begun was lost")
                    return 1
                early += 1
                continue
            if cells.run("print(outcome(run))") != whole:
                print("a training ended otherwise than one that nobody interrupted")
                return 1
            ended += 1
            cells.run("del run")
    print(f"{len(moments)} interrupts resumed, {ended} trainings ended in the same bits")
    print(f"{early} interrupts before a training had begun")
    return 0


if __name__ == "__main__":
    sys.exit(main())
