"""Examples of the page on serving run as printed, but for the address."""

import json
import subprocess
from pathlib import Path

import pytest

import elman
from elman import numpy as specification
from elman.model.weights import Architecture, initial
from elman.text.codec import Codec
from elman.text.vocab import Vocab
from tests.docs import ROOT, SERVING, blocks
from tests.server.conftest import serving

PAGE = ROOT / "docs" / SERVING
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    codec = Codec(Vocab(list("\n it has.")), "char", clean=False)
    arch = Architecture("gru", len(codec.vocab), 8)
    model = specification.build(arch, initial(arch))
    model.codec = codec
    elman.save(tmp_path / "my-text", model)
    return tmp_path / "my-text"


def test_examples_run_as_printed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    python, (curl,) = blocks(PAGE, "python"), blocks(PAGE, "bash")
    with serving([run]) as server:
        for block in python:
            exec(block.replace(ADDRESS, server.address), {})
        assert len(capsys.readouterr().out) >= 200
        command = curl.replace(ADDRESS, server.address)
        answer = subprocess.run(["bash", "-c", command], capture_output=True, check=True)
    assert len(json.loads(answer.stdout)["choices"][0]["text"]) == 60
