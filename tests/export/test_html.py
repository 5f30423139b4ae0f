"""`elman export --to html`: the file, its precision, and what it refuses."""

import logging
from pathlib import Path

import numpy as np
import pytest

from elman import numpy as specification
from elman.errors import ElmanError
from elman.formats import html
from elman.model.weights import initial
from elman.text.codec import Codec
from elman.text.vocab import Vocab
from tests.conftest import Command
from tests.export.models import model_of, saved


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return saved(tmp_path, model_of("gru", embedding=4))


def test_the_page_has_the_runs_name_and_is_the_same_each_time(
    elman: Command, run: Path, tmp_path: Path
) -> None:
    done = elman("export", run, "--to", "html")
    assert (done.returncode, done.stderr) == (0, "")
    content = (tmp_path / "run.html").read_text("utf-8")
    assert done.stdout == f"run.html  {len(content.encode()) / 1e6:.1f} MB\n"
    assert content == html.page(run)
    assert elman("export", run, "--to", "html", "--out", "new/page.html").returncode == 0
    assert (tmp_path / "new" / "page.html").read_text("utf-8") == content


def test_wrong_input_is_one_line_and_leaves_nothing(
    elman: Command, run: Path, tmp_path: Path
) -> None:
    def told(*words: str | Path) -> str:
        before = sorted(tmp_path.rglob("*"))
        done = elman("export", *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert sorted(tmp_path.rglob("*")) == before
        (line,) = done.stderr.splitlines()
        return line

    page = ("--to", "html")
    assert told("none", *page) == "elman: none is not a run directory: it has no config.json"
    assert "format must be html, onnx or torch, got 'pdf'" in told(run, "--to", "pdf")
    (tmp_path / "taken.html").touch()
    exists = "taken.html exists already: choose another name, or remove it"
    assert told(run, *page, "--out", "taken.html") == f"elman: {exists}"
    inside = "cannot write taken.html/page.html: taken.html is not a folder"
    assert told(run, *page, "--out", "taken.html/page.html") == f"elman: {inside}"
    assert "it is empty: give a path" in told(run, *page, "--out", "")
    assert told(run) == "elman: the format is missing: give --to html, onnx or torch"
    (run / "model.safetensors").write_bytes(b"")
    assert "is not a complete safetensors file" in told(run, *page, "--out", "new/page.html")


def test_weights_are_halved_unless_the_odds_would_change(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert '"half":true' in html.page(run)
    monkeypatch.setattr(html, "TOLERANCE", 1e-6)
    with caplog.at_level(logging.INFO, "elman"):
        assert '"half":false' in html.page(run)
    (message,) = caplog.messages
    assert message.startswith("weights in single precision: half precision changes odds by")


def test_weights_beyond_half_precision_are_bounded_if_that_changes_nothing() -> None:
    model = model_of("rnn")
    model.parameters["rnn.weight_ih_l0"][0, 0] = 1e5
    values, codec = model.parameters, model.codec
    stored = html.smallest(model.architecture(), values, codec)
    assert stored.half
    assert np.frombuffer(stored.content, "<f2").max() == 65504
    values["linear.bias"][:] = 1e5 + np.arange(len(codec.vocab))
    assert not html.smallest(model.architecture(), values, codec).half


def test_a_model_that_is_too_large_is_refused_before_it_is_read(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = sum(value.size for value in model_of("gru", embedding=4).parameters.values())
    monkeypatch.setattr(html, "MAX_BYTES", 2 * numbers)
    html.page(run)
    monkeypatch.setattr(html, "TOLERANCE", -1.0)
    with pytest.raises(ElmanError, match="of weights or fewer, got 1 in single precision: train"):
        html.page(run)
    monkeypatch.setattr(html, "MAX_BYTES", 2 * numbers - 1)
    (run / "model.safetensors").unlink()
    with pytest.raises(ElmanError, match="of weights or fewer, got 1 in half precision: train"):
        html.page(run)


def test_a_model_without_anything_to_write_is_refused(tmp_path: Path) -> None:
    arch = specification.Architecture("rnn", 1, 2)
    model = specification.build(arch, initial(arch))
    model.codec = Codec(Vocab(), "char", clean=False)
    with pytest.raises(ElmanError, match="one token must be allowed"):
        html.page(saved(tmp_path, model))


def test_a_broken_model_is_refused(tmp_path: Path) -> None:
    model = model_of("rnn-relu")
    model.parameters["linear.weight"][:] = 3e38
    model.parameters["rnn.weight_ih_l0"][:] = 3e38
    with pytest.raises(ElmanError, match="the weights of this model are broken"):
        html.page(saved(tmp_path, model))


def test_a_model_of_bfloat16_runs_in_single_precision_with_a_notice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = model_of("gru", precision="bf16")
    with caplog.at_level(logging.INFO, "elman"):
        html.page(saved(tmp_path, model))
    (message,) = caplog.messages
    assert message.startswith("a page uses single precision for a model trained in bf16")
