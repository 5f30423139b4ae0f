"""A server that the tests talk to, with the models of two runs."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from starlette.testclient import TestClient

import elman
from elman import numpy as specification
from elman.model.weights import Architecture, initial
from elman.server.access import ServerOptions
from elman.server.app import App, Served
from elman.text.codec import Codec
from elman.text.vocab import Vocab

LETTERS = "\n abcdefghij.é"
ASKED: dict[str, Any] = {"model": "letters", "prompt": "a", "max_tokens": 3}


def model_of(module: Any, lines: bool = False, tokenizer: str = "char") -> Any:
    """A model with random weights, large enough that some tokens are much likelier than others."""
    tokens = list(LETTERS) if tokenizer == "char" else [chr(byte) for byte in LETTERS.encode()]
    codec = Codec(Vocab(tokens), tokenizer, clean=False, lines=lines)
    arch = Architecture("gru", len(codec.vocab), 12, 2, 5)
    values = {name: 4 * value for name, value in initial(arch, 1).items()}
    model = module.build(arch, values)
    model.codec = codec
    return model


def client_of(models: dict[str, Any], **options: Any) -> TestClient:
    """A client of a server in this process; a page is that of the run with the model's name."""
    given = ServerOptions(**options)
    served = {
        name: model if isinstance(model, Served) else Served(model, Path(name))
        for name, model in models.items()
    }
    access = given.access()
    app = App(served, given, access, access.hosts_at(given.host))
    return TestClient(app.starlette, base_url="http://localhost")


@dataclass
class Server:
    """A server's process and its address."""

    process: subprocess.Popen[str]
    address: str

    def client(self, api_key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.address}/v1", api_key=api_key, max_retries=0)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.address + path)

    def post(self, content: bytes | str, kind: str = "application/json") -> httpx.Response:
        headers = {"content-type": kind}
        return httpx.post(f"{self.address}/v1/completions", content=content, headers=headers)


@contextmanager
def serving(
    runs: Sequence[Path], *options: str, files: int | tuple[int, int] | None = None
) -> Iterator[Server]:
    """Serve runs; at the end the server is told to end, and does so in order.

    - `files`: number of files that the process may open, or the soft and the hard limit.
    """
    words = ["serve", *map(str, runs), "--port", "0", *options]
    command = [sys.executable, "-P", "-m", "elman", *words]
    said = []
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=files and partial(_limit, files)
    ) as process:
        try:
            assert process.stderr
            for line in process.stderr:
                said.append(line)
                if found := re.search(r"^elman: serving .* at (http://\S+)$", line):
                    yield Server(process, found[1])
                    break
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, said
            rest = process.stderr.read().splitlines()
            assert all("half precision changes odds" in line for line in rest), rest  # of pages
        finally:
            process.kill()


def _limit(files: int | tuple[int, int]) -> None:
    import resource  # which Windows has not

    both = (files, files) if isinstance(files, int) else files
    resource.setrlimit(resource.RLIMIT_NOFILE, both)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A run of running text, and one of lines."""
    folder = tmp_path_factory.mktemp("runs")
    paths = [folder / "letters", folder / "names"]
    for path in paths:
        elman.save(path, model_of(specification, lines=path.name == "names"))
    return paths


@pytest.fixture(scope="session")
def server(runs: list[Path]) -> Iterator[Server]:
    with serving(runs) as started:
        yield started
