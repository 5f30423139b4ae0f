"""A custom cell is exported by its equations, or refused in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elman
from elman.errors import ElmanError
from elman.formats import export
from elman.formats.onnx.check import run, zero_state
from elman.model.cells import STEP_FUNCTIONS, Cell
from elman.model.registry import cell_named
from tests.export.custom_cells import CUSTOM, everything
from tests.export.models import model_of, saved
from tests.export.test_onnx import session_of


@pytest.mark.parametrize("cell", CUSTOM)
def test_a_graph_computes_what_numpy_computes_from_any_state(cell: str, tmp_path: Path) -> None:
    model = model_of(cell, layers=2, embedding=5)
    out = export(saved(tmp_path, model), "onnx", tmp_path / "out")
    session = session_of(out / "step.onnx")
    ids = np.array([model.codec.prefix_ids(text) for text in ("Once upon", "said he.\n")])
    state, found, wanted_state = zero_state(session, len(ids)), [], None
    for part in np.split(ids, [1, 4], axis=1):
        outputs = run(session, {"ids": part} | state)
        state = {name: outputs[f"next_{name}"] for name in state}
        logits, wanted_state = model.step(part, wanted_state)
        np.testing.assert_allclose(outputs["logits"], logits, atol=1e-4)
        found.append(logits)
    assert len(state) == cell_named(cell).states


def test_all_functions_of_a_step_are_tried_here() -> None:
    assert set(STEP_FUNCTIONS) <= set(everything.__code__.co_names)


def test_a_page_refuses_a_cell_that_it_does_not_run(tmp_path: Path) -> None:
    with pytest.raises(ElmanError, match=r"^a page requires a built-in cell, got minlstm: exp"):
        export(saved(tmp_path, model_of("minlstm")), "html", tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_equations_that_cannot_be_written_are_refused_in_one_line(to: str, tmp_path: Path) -> None:
    def looks(xp: Any, x: Any, r: Any, state: Any) -> Any:
        return (xp.tanh(x + r) * x.shape[1],)

    elman.register(Cell(f"looks-{to}", ("h",), looks))
    wanted = f"^the cell looks-{to} cannot be exported: 'Symbol' object has no attribute 'shape'; "
    with pytest.raises(ElmanError, match=wanted):
        export(saved(tmp_path, model_of(f"looks-{to}")), to, tmp_path / "out")
    assert not (tmp_path / "out").exists()
