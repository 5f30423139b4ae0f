"""A custom cell is checked, registered once, and found by its name."""

import json
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elman
from elman import numpy as specification
from elman.errors import ElmanError
from elman.files import json_files
from elman.model import layers, step_arrays, weights
from elman.model import registry as registered_cells
from elman.model.cell_checks import check_equations, fingerprint
from elman.model.cells import CELLS, Cell
from elman.model.registry import cell_named, register
from elman.model.weights import Architecture
from elman.runs import run_folder
from elman.runs.records import RunSettings
from elman.runs.settings import Settings

MODULE = """\
import elman
CELL = elman.Cell("packed", ("h",), lambda xp, x, r, state: (xp.tanh(x + r),))
OTHER = elman.Cell("other", ("h",), lambda xp, x, r, state: (xp.tanh(x + r),))
NUMBER = 3
"""
POINTS = """\
[elman.cells]
packed = packed_cells:CELL
renamed = packed_cells:OTHER
number = packed_cells:NUMBER
missing = no_such_module:CELL
"""


def half_step(xp: Any, x: Any, r: Any, state: Any) -> Any:
    """h = (h + tanh(x + r)) / 2."""
    return ((state[0] + xp.tanh(x + r)) / 2,)


def other_step(xp: Any, x: Any, r: Any, state: Any) -> Any:
    """h = tanh(x + r)."""
    return (xp.tanh(x + r),)


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, Cell]:
    """Cells that are registered, none at the beginning."""
    registered: dict[str, Cell] = {}
    monkeypatch.setattr(registered_cells, "_registered", registered)
    return registered


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package with entry points, some of which are wrong."""
    info = tmp_path / "packed_cells-1.0.dist-info"
    info.mkdir()
    (tmp_path / "packed_cells.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: packed-cells\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("packed_cells", None)


def half(**arguments: Any) -> Cell:
    return Cell(**{"name": "half", "gates": ("h",), "step": half_step} | arguments)


def stepping(step: Any) -> dict[str, Any]:
    return {"step": step}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"name": "Half"}, "the name of a cell must have lowercase letters"),
    ({"name": "../half"}, "the name of a cell must have lowercase letters"),
    ({"name": 3}, "got 3"),
    ({"gates": ()}, r"one gate or more, with different names, got \(\) for half"),
    ({"gates": ("h", "h")}, "different names"),
    ({"gates": "h"}, "gates must be a tuple of names, got 'h'"),
    ({"gates": ("h 1",)}, "the name of a gate must have"),
    ({"step": None}, r"one function, step or linear, got \[\]"),
    ({"step": 3}, r"one function, step or linear, got \[3\]"),
    ({"linear": half_step}, "one function, step or linear, got"),
    ({"step": None, "linear": half_step, "states": 2}, "one state, got 2"),
    ({"states": 0}, "states must be 1 or more, got 0"),
    ({"sigmoids": ("z",)}, "gate must be h, got 'z'"),
    ({"gates": ("a", "b"), "separate": ("a",)}, "separate gates must be the last"),
    ({"separate": ("h",), "recurrent": False}, "separate gates must be the last"),
    ({"parameters": {"bias": 0.0}}, "weight and bias are reserved names, got the parameter"),
    ({"parameters": ["gain"]}, r"parameters must map names to initial values, got \['gain'\]"),
    ({"parameters": {"gain": "1"}}, "the initial value of gain must be finite, got '1'"),
    ({"name": "gru"}, "the name gru is already used by a cell"),
    ({"name": "taken"}, "the name taken is already used by a cell of tests.model"),
    (stepping(lambda xp, x, r, state: x + r), "a tuple with its number of states, 1, got"),
    (stepping(lambda xp, x, r, state: (x + r, x)), "a tuple with its number of states, 1"),
    (stepping(lambda xp, x, r, state: (xp.softmax(x),)), "equations of the cell half fail: Attri"),
    (stepping(lambda xp, x, r: (x,)), "the equations of the cell half fail: TypeError"),
    (stepping(lambda xp, x, r, state: (x[:1],)), r"\(2, 3\) here, got \(1, 3\) from half"),
    (stepping(lambda xp, x, r, state: (x[0:1] + r,)), "each row of a batch separately"),
    (stepping(lambda xp, x, r, state: (r + xp.reduce_sum(x, 0),)), "each row of a batch separ"),
    (stepping(lambda xp, x, r, state: (x * random.random(),)), "got two results from half: leave"),
    (stepping(lambda xp, x, r, state: (np.tanh(x + r),)), "TypeError: np.tanh takes arrays"),
    (stepping(lambda xp, x, r, state: (np.ones(3) * x,)), "TypeError: np.multiply takes"),
    (stepping(lambda xp, x, r, state: (np.where([1], x, r),)), "TypeError: np.where takes"),
    (
        {"step": None, "linear": lambda xp, x, decay: (decay, x), "parameters": {"decay": 0.5}},
        r"\(2, 3\) here, got \(3,\), \(2, 3\) from half",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=[row[1] for row in REFUSED])
def test_a_cell_that_cannot_be_trained_is_not_registered(
    registry: dict[str, Cell], arguments: dict[str, Any], message: str
) -> None:
    register(taken := half(name="taken", step=other_step))
    with pytest.raises(ElmanError, match=message):
        register(half(**arguments))
    assert registry == {"taken": taken}


@pytest.mark.parametrize(
    "step",
    [
        lambda xp, x, r, state: (np.sqrt(2.0) * x + r * np.float64(3),),
        lambda xp, x, r, state: (xp.split(x, x.shape[1] // 3, 1)[0] + r[:, :3] + state[0][:, :1],),
    ],
    ids=["numbers of numpy", "shapes and slices"],
)
def test_numbers_shapes_and_slices_are_no_reason_to_refuse_a_cell(step: Any) -> None:
    register(half(step=step))


def test_the_built_in_cells_pass_the_checks_of_a_registration() -> None:
    for cell in CELLS.values():
        check_equations(cell)
        assert fingerprint(cell) is None


def test_the_same_code_is_registered_again() -> None:
    register(half())
    again = half(parameters={})
    register(again)
    assert cell_named("half") is again


def test_a_cell_that_is_registered_again_has_its_new_weights() -> None:
    def with_gates(*gates: str) -> Cell:
        def first_gate(xp: Any, x: Any, r: Any, state: Any) -> Any:
            return (xp.tanh(xp.split(x + r, len(gates), 1)[0]),)

        return Cell("half", gates, first_gate)

    for gates in (("h",), ("h", "z")):
        register(with_gates(*gates))
        shapes = weights.shapes(Architecture("half", 5, 4))
        assert shapes["rnn.weight_ih_l0"] == (4 * len(gates), 5)


def test_a_package_provides_a_cell_when_its_name_is_asked_for(package: Path) -> None:
    assert "packed_cells" not in sys.modules
    assert Settings(cell="packed", framework="torch").cell == "packed"
    assert "packed_cells" in sys.modules
    logits, wanted = (
        specification.build(arch, weights.initial(arch)).step(np.zeros((1, 2), int))[0]
        for arch in (Architecture("packed", 5, 4), Architecture("rnn", 5, 4))
    )
    np.testing.assert_array_equal(logits, wanted)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: cell_named("missing"),
            "cell missing of the installed no_such_module:CELL does no",
        ),
        (lambda: cell_named("number"), "the entry point number of elman.cells must be an elman.C"),
        (lambda: cell_named("renamed"), "the entry point renamed of elman.cells must be an elma"),
        (lambda: cell_named("none"), "the cell 'none' is not registered"),
        (lambda: register(3), "register takes an elman.Cell, got 3"),  # type: ignore[arg-type]
        (lambda: Settings(cell="half", framework="numba"), "^numba has no gradients of the cell h"),
        (lambda: Settings(cell="half", framework="numpy"), "^numpy has no gradients of the cell h"),
    ],
)
def test_what_is_no_cell_or_has_no_gradients_is_refused_in_a_line(call: Any, message: str) -> None:
    register(half())
    with pytest.raises(ElmanError, match=rf"{message}[^\n]*$"):
        call()


def saved_run(folder: Path) -> Path:
    """A run of the registered cell half."""
    data = specification.TimeMachine(64, 16, num_train=64, num_val=64)
    arch = Architecture("half", len(data.vocab), 4)
    model = specification.build(arch, weights.initial(arch))
    model.codec = data.codec
    elman.save(folder, model)
    return folder


@pytest.mark.parametrize(
    ("cell", "kept", "message"),
    [
        (None, ..., "run/config.json: the cell 'half' is not registered: import the module that r"),
        (half_step, None, "the results of the cell half are missing: train the run again"),
        (half_step, [], "the cell half must have the run's equations"),
        (half_step, [0.5], "the cell half must have the run's equations"),
        (other_step, ..., "the cell half must have the run's equations"),
    ],
)
def test_a_run_is_read_with_the_equations_that_were_trained_alone(
    tmp_path: Path, registry: dict[str, Cell], cell: Any, kept: Any, message: str
) -> None:
    register(half())
    config = saved_run(tmp_path / "run") / "config.json"
    assert type(elman.load(tmp_path / "run")) is specification.RNNLM
    value = json.loads(config.read_text())
    if kept is not ...:
        config.write_text(json.dumps(value | {"cell_fingerprint": kept}))
    registry.clear()
    if cell is not None:
        register(half(step=cell))
    with pytest.raises(ElmanError, match=message):
        elman.load(tmp_path / "run")


OPENING = {
    "load": elman.load,
    "compare": lambda run: elman.compare(run),
    "export": lambda run: elman.export(run, "torch", run.parent / "out"),
    "init": lambda run: elman.train("a text\n" * 99, init=run, out=run.parent / "out"),
    "resume": lambda run: elman.resume(run.parent),
}


@pytest.mark.parametrize("name", OPENING)
def test_a_run_is_not_opened_with_other_equations(
    tmp_path: Path, registry: dict[str, Cell], name: str
) -> None:
    def same_step(xp: Any, x: Any, r: Any, state: Any) -> Any:
        return (0.5 * xp.tanh(r + x) + state[0] / 2,)

    register(half())
    run = saved_run(tmp_path / "run")
    settings = Settings(cell="half", framework="torch")
    begun = RunSettings(settings, "0", cell_fingerprint=fingerprint(cell_named("half")))
    json_files.write(tmp_path / "training.json", asdict(begun))
    assert run_folder.read_training(tmp_path) == begun
    registry.clear()
    register(half(step=other_step))
    with pytest.raises(ElmanError) as error:
        OPENING[name](run)
    wanted = (
        rf"{tmp_path}/(?:run/config|training).json: the cell half must have the run's equations, "
        r"got another result, (\S+) in the run, (\S+) registered: register the cell that was "
        "trained"
    )
    found = re.fullmatch(wanted, str(error.value))
    assert found is not None, error.value
    x, r = 2 * np.sin(1), 2 * np.sin(2)
    state = 2 * np.sin(3)
    numbers = (state + np.tanh(x + r)) / 2, np.tanh(x + r)
    assert [float(each) for each in found.groups()] == pytest.approx(numbers, abs=1e-8)
    registry.clear()
    register(half(step=same_step))
    assert elman.load(run).codec is not None


def test_results_that_are_not_finite_are_kept(tmp_path: Path) -> None:
    def logarithm(xp: Any, x: Any, r: Any, state: Any) -> Any:
        return (xp.log(xp.relu(x)) + xp.log(r),)

    register(half(step=logarithm))
    assert elman.load(saved_run(tmp_path / "run")).codec is not None


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 9, 101])
def test_a_scan_is_the_loop(steps: int) -> None:
    rng = np.random.default_rng(steps)
    a, b = rng.uniform(0, 1, (steps, 2, 3)), rng.normal(size=(steps, 2, 3))
    h = wanted = rng.normal(size=(2, 3))

    class Arrays:
        stack, concat, reshape = np.stack, np.concatenate, np.reshape

    found = layers.scan_linear(Arrays, a, b, h)
    for t in range(steps):
        wanted = a[t] * wanted + b[t]
        np.testing.assert_allclose(found[t], wanted, rtol=1e-12)


def test_the_step_of_a_linear_cell_is_its_linear_form() -> None:
    x, h = np.random.default_rng(0).normal(size=(2, 5, 3))
    both = np.concatenate([x, 2 * x], 1)
    (found,) = CELLS["mingru"].next_state(step_arrays, both, None, (h,), {})
    z = step_arrays.sigmoid(x)
    np.testing.assert_array_equal(found, (1 - z) * h + z * 2 * x)
