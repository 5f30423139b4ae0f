"""`elman export`: what it writes and prints, and what it refuses in one line."""

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elman as package
from elman import numpy as specification
from elman.errors import ElmanError
from elman.formats import export, html, onnx
from elman.formats.onnx import graph
from elman.model.weights import initial
from elman.text.codec import Codec
from elman.text.vocab import Vocab
from tests.conftest import Command
from tests.docs import ROOT, blocks
from tests.export.models import model_of, saved

FILES = {
    "html": set[str](),
    "onnx": {"step.onnx", "no-state.onnx", "with-state.onnx", "tokens.txt", "vocab.json"},
    "torch": {"model.py", "model.safetensors", "vocab.json"},
}
NAMES = {"html": "run.html", "onnx": "run-onnx", "torch": "run-torch"}
every_format = pytest.mark.parametrize("to", FILES)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return saved(tmp_path, model_of("gru", embedding=4))


@every_format
def test_an_export_has_the_runs_name_and_is_the_same_each_time(
    to: str, elman: Command, run: Path, tmp_path: Path
) -> None:
    made, again = tmp_path / NAMES[to], tmp_path / "new" / "out"
    done = elman("export", run, "--to", to)
    paths = sorted(made.iterdir()) if made.is_dir() else [made]
    size = sum(path.stat().st_size for path in paths)
    assert (done.returncode, done.stdout) == (0, f"{made.name}  {size / 1e6:.1f} MB\n")
    assert not made.is_dir() or {path.name for path in paths} == FILES[to]
    assert elman("export", run, "--to", to, "--out", "new/out").returncode == 0
    for path in paths:
        assert (again / path.relative_to(made)).read_bytes() == path.read_bytes()


def test_the_size_is_that_of_all_files(elman: Command, tmp_path: Path) -> None:
    model = model_of("gru", tokenizer="bpe", layers=40)
    done = elman("export", saved(tmp_path, model), "--to", "torch", "--out", "out")
    size = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert size > 100_000
    assert done.stdout == f"out  {size / 1e6:.1f} MB\n"


@every_format
def test_single_precision_in_place_of_bfloat16_is_told(
    to: str, elman: Command, tmp_path: Path
) -> None:
    done = elman("export", saved(tmp_path, model_of("rnn", precision="bf16")), "--to", to)
    name = "a page" if to == "html" else to
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"elman: {name} uses single precision for a model trained in bf16")


@every_format
def test_a_damaged_run_and_a_place_that_cannot_be_are_refused_and_nothing_is_left(
    to: str, run: Path, tmp_path: Path, elman: Command
) -> None:
    (tmp_path / "taken").touch()
    words = ("export", run, "--to", to, "--out")
    before = sorted(tmp_path.rglob("*"))
    for out, line in {"taken/out": "taken is not a folder", "": "it is empty: give a path"}.items():
        assert line in elman(*words, out).stderr
    (run / "model.safetensors").write_bytes(b"")
    done = elman(*words, "new/out")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not a complete safetensors file" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def own_equations(name: str, **more: Any) -> Any:
    """A model whose cell looks at the shape of an array."""

    def looks(xp: Any, x: Any, r: Any, state: Any) -> Any:
        return (xp.tanh(x + r) * x.shape[1],)

    package.register(package.Cell(name, ("h",), looks))
    return model_of(name)


def broken() -> Any:
    """A model whose logits are infinite."""
    model = model_of("rnn-relu")
    for name in ("linear.weight", "rnn.weight_ih_l0"):
        model.parameters[name][:] = 3e38
    return model


def without_tokens() -> Any:
    """A model that knows nothing but the unknown symbol."""
    arch = specification.Architecture("rnn", 1, 2)
    model = specification.build(arch, initial(arch))
    model.codec = Codec(Vocab(), "char", clean=False)
    return model


SHAPE = "cannot be exported: 'Symbol' object has no attribute 'shape'; "


@pytest.mark.parametrize(
    ("to", "made", "change", "message"),
    [
        ("html", lambda: model_of("minlstm"), None, "^a page requires a built-in cell, got minlst"),
        ("html", without_tokens, None, "one token must be allowed"),
        ("html", broken, None, "the weights of this model are broken"),
        ("onnx", broken, None, "the weights of this model are broken"),
        ("onnx", lambda: own_equations("one"), None, f"^the cell one {SHAPE}"),
        ("torch", lambda: own_equations("two"), None, f"^the cell two {SHAPE}"),
        (
            "onnx",
            lambda: model_of("rnn"),
            (onnx, "MAX_BYTES", 1 << 10),
            "smaller than 2 GiB, got 0",
        ),
        ("onnx", lambda: model_of("rnn"), (graph, "OPSET", 7), "^step.onnx does not run in onnxru"),
    ],
)
def test_a_model_that_a_format_cannot_have_is_refused_and_nothing_is_left(
    to: str, made: Callable[[], Any], change: Any, message: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run = saved(tmp_path, made())
    if change is not None:
        monkeypatch.setattr(*change)
    with pytest.raises(ElmanError, match=message):
        export(run, to, tmp_path / "new" / "out")
    assert [*tmp_path.iterdir()] == [run]


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_a_package_that_is_missing_is_named_with_the_cure(
    name: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [each for each in sys.modules if each.startswith("elman.formats.onnx")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ElmanError, match=f"^{name} is not installed: pip install .*another format"):
        export(run, "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_of_a_page_are_halved_unless_the_odds_would_change(
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


@pytest.mark.parametrize("precision", ["half", "single"])
def test_a_model_too_large_for_a_page_is_refused_before_it_is_read(
    run: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    numbers = sum(value.size for value in model_of("gru", embedding=4).parameters.values())
    monkeypatch.setattr(html, "MAX_BYTES", 2 * numbers)
    html.page(run)
    if precision == "single":
        monkeypatch.setattr(html, "TOLERANCE", -1.0)
    else:
        monkeypatch.setattr(html, "MAX_BYTES", 2 * numbers - 1)
        (run / "model.safetensors").unlink()
    with pytest.raises(ElmanError, match=f"of weights or fewer, got 1 in {precision} precision: "):
        html.page(run)


def test_the_example_of_the_docs_writes_elmans_text(elman: Command, tmp_path: Path) -> None:
    model = model_of("lstm", layers=2)
    model.parameters["linear.bias"][model.codec.vocab.unk] = -100
    (tmp_path / "runs").mkdir()
    saved(tmp_path, model).rename(tmp_path / "runs" / "time-machine")
    page = ROOT / "docs" / "export.md"
    (commands,) = [block for block in blocks(page, "bash") if "--to onnx" in block]
    done = elman(*commands.splitlines()[-1].removeprefix("elman ").split())
    assert done.returncode == 0, done.stderr
    (example,) = blocks(page, "python")
    found = subprocess.run(
        [sys.executable, "-I", "-c", example], cwd=tmp_path, capture_output=True, text=True
    )
    assert found.stdout == model.predict("it has", 20) + "\n", found.stderr
