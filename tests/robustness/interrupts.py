"""A notebook whose kernel trains, and is interrupted as by the stop button."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
