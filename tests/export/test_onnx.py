"""step.onnx computes in onnxruntime what the specification computes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import elman
from elman.errors import ElmanError
from elman.formats import onnx
from elman.formats.onnx import check
from elman.formats.onnx.check import run, zero_state
from elman.formats.onnx.layers import LanguageModel
from elman.model.cells import CELLS, STEP_FUNCTIONS
from elman.model.registry import cell_named
from tests.export.custom_cells import CUSTOM, everything
from tests.export.models import ARCHITECTURES, TEXT, model_of, saved

TEXTS = st.text(st.sampled_from(sorted(set(TEXT))), min_size=1, max_size=40)


def session_of(path: Path) -> Any:
    """A session of onnxruntime."""
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def exported(folder: Path, model: Any) -> Path:
    """The folder to which a model is exported."""
    onnx.write(saved(folder, model), folder / "out")
    return folder / "out"


@pytest.fixture(
    scope="module",
    params=[*ARCHITECTURES, *((cell, 2, 5, False) for cell in CUSTOM)],
    ids=lambda sizes: "-".join(map(str, sizes)),
)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model and the session of its step.onnx."""
    model = model_of(*request.param)
    return model, session_of(exported(tmp_path_factory.mktemp("onnx"), model) / "step.onnx")


def step(session: Any, ids: NDArray[Any], state: Any = None) -> tuple[NDArray[Any], Any]:
    """Logits of ids, (batch, steps), and the next state."""
    state = zero_state(session, len(ids)) if state is None else state
    outputs = run(session, {"ids": ids} | state)
    return outputs["logits"], {name: outputs[f"next_{name}"] for name in state}


@given(texts=st.lists(TEXTS, min_size=1, max_size=3), cuts=st.lists(st.integers(1, 39), max_size=3))
def test_any_texts_in_any_parts_have_the_specifications_logits(
    pair: Any, texts: list[str], cuts: list[int]
) -> None:
    model, session = pair
    steps = min(map(len, texts))
    ids = np.array([model.codec.prefix_ids(text[:steps]) for text in texts])
    parts, state = [], None
    for part in np.split(ids, sorted({cut for cut in cuts if cut < steps}), axis=1):
        logits, state = step(session, part, state)
        parts.append(logits)
    np.testing.assert_allclose(np.concatenate(parts, 1), model.step(ids)[0], atol=1e-4)


def greedy(session: Any, ids: list[int], tokens: int, unknown: int) -> list[int]:
    """Ids with the likeliest ones after them."""
    found, given, state = list(ids), np.array([ids]), None
    for _ in range(tokens):
        logits, state = step(session, given, state)
        logits[..., unknown] = -np.inf
        given = logits[:, -1:].argmax(axis=2)
        found.append(int(given[0, 0]))
    return found


def test_a_greedy_text_is_elmans(pair: Any) -> None:
    model, session = pair
    ids = greedy(session, model.codec.prefix_ids("Once"), 200, model.codec.vocab.unk)
    assert model.codec.text(ids) == model.predict("Once", 200)


@pytest.mark.parametrize("tokenizer", ["byte", "word", "bpe"])
def test_the_tokens_of_every_tokenizer_lie_beside_the_graph(tokenizer: str, tmp_path: Path) -> None:
    model = model_of("gru", tokenizer=tokenizer, lines=True)
    out = exported(tmp_path, model)
    assert json.loads((out / "vocab.json").read_text()) == model.codec.vocab.idx_to_token
    assert (out / "tokenizer.json").exists() == (tokenizer == "bpe")
    ids = greedy(
        session_of(out / "step.onnx"), model.codec.prefix_ids("Once"), 20, model.codec.vocab.unk
    )
    assert model.codec.written(ids) == model.predict("Once", 20)


def test_a_graph_has_the_states_of_its_cell(pair: Any) -> None:
    model, session = pair
    arch = model.architecture()
    names = {"lstm": ["h", "c"]}.get(arch.cell, ["h"]) if arch.cell in CELLS else None
    inputs = {part.name: part.shape for part in session.get_inputs()}
    assert inputs.pop("ids") == ["batch", "steps"]
    assert len(inputs) == cell_named(arch.cell).states
    assert all(shape == [arch.layers, "batch", 8] for shape in inputs.values())
    assert names is None or [*inputs] == names
    outputs = [output.name for output in session.get_outputs()]
    assert outputs == ["logits", *(f"next_{name}" for name in inputs)]


def test_all_functions_of_a_step_are_tried_here() -> None:
    assert set(STEP_FUNCTIONS) <= set(everything.__code__.co_names)


def test_a_run_in_bfloat16_is_computed_in_single_precision(tmp_path: Path) -> None:
    model = model_of("lstm", embedding=4, precision="bf16")
    session = session_of(exported(tmp_path, model) / "step.onnx")
    ids = np.array([model.codec.prefix_ids("Once upon a time")])
    single = elman.load(tmp_path / "run", precision="single")
    np.testing.assert_allclose(step(session, ids)[0], single.step(ids)[0], atol=1e-4)
    assert np.abs(step(session, ids)[0] - model.step(ids)[0]).max() > 1e-4


@pytest.mark.parametrize(
    ("module", "function", "file"),
    [
        (onnx, "step_graph", "step.onnx"),
        (onnx.speech, "sentences", "no-state.onnx"),
        (onnx.speech, "streaming", "with-state.onnx"),
    ],
)
def test_a_graph_that_computes_something_else_is_not_kept(
    module: Any, function: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = getattr(module, function)

    def wrong(model: LanguageModel, *others: Any) -> Any:
        weights = model.weights | {"linear.weight": model.weights["linear.weight"] * 1.01}
        return made(LanguageModel(model.arch, weights), *others)

    monkeypatch.setattr(module, function, wrong)
    run = saved(tmp_path, model_of("lstm"))
    with pytest.raises(
        ElmanError,
        match=f"^{file} must equal elman.numpy within 0.[0-9]+, got a difference of 0.[0-9]+",
    ):
        onnx.write(run, tmp_path / "new" / "out")
    assert list(tmp_path.iterdir()) == [run]


def test_the_text_of_the_check_has_a_batch_and_is_the_same_each_time() -> None:
    one, other = check._random(50), check._random(50)
    assert one.shape == (check.BATCH, check.STEPS)
    assert (one == other).all()
