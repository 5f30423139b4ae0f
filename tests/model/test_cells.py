"""A custom cell is checked, registered once, and found by its name."""

import json
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
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
        ({"parameters": None}, "parameters must map names to initial values, got None for half"),
        ({"parameters": ["gain"]}, r"parameters must map names to initial values, got \['gain'\]"),
        ({"parameters": {"gain": "1"}}, "the initial value of gain must be finite, got '1'"),
    ],
)
def test_an_argument_that_is_not_valid_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ElmanError, match=message):
        Cell(**{"name": "half", "gates": ("h",), "step": half_step} | arguments)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda xp, x, r, state: x + r, "must return a tuple with its number of states, 1, got"),
        (lambda xp, x, r, state: (x + r, x), "must return a tuple with its number of states, 1"),
        (lambda xp, x, r, state: (xp.softmax(x),), "the equations of the cell half fail: Attri"),
        (lambda xp, x, r: (x,), "the equations of the cell half fail: TypeError"),
        (lambda xp, x, r, state: (x[:1],), r"\(2, 3\) here, got \(1, 3\) from half"),
        (lambda xp, x, r, state: (x[0:1] + r,), "each row of a batch separately, got another"),
        (lambda xp, x, r, state: (r + xp.reduce_sum(x, 0),), "each row of a batch separately, got"),
        (lambda xp, x, r, state: (x * random.random(),), "got two results from half: leave out"),
        (lambda xp, x, r, state: (np.tanh(x + r),), "half fail: TypeError: np.tanh takes arrays"),
        (lambda xp, x, r, state: (np.ones(3) * x,), "half fail: TypeError: np.multiply takes"),
        (lambda xp, x, r, state: (np.where([1], x, r),), "half fail: TypeError: np.where takes"),
    ],
)
def test_equations_are_tried_before_a_cell_is_registered(step: Any, message: str) -> None:
    with pytest.raises(ElmanError, match=message):
        register(Cell("half", ("h",), step))
    with pytest.raises(ElmanError, match="the cell 'half' is not registered"):
        cell_named("half")


@pytest.mark.parametrize(
    "step",
    [
        lambda xp, x, r, state: (np.sqrt(2.0) * x + r * np.float64(3),),
        lambda xp, x, r, state: (xp.split(x, x.shape[1] // 3, 1)[0] + r[:, :3] + state[0][:, :1],),
    ],
    ids=["numbers of numpy", "shapes and slices"],
)
def test_numbers_shapes_and_slices_are_no_reason_to_refuse_a_cell(step: Any) -> None:
    register(Cell("half", ("h",), step))


def test_the_built_in_cells_pass_the_checks_of_a_registration() -> None:
    for cell in CELLS.values():
        check_equations(cell)
        assert fingerprint(cell) is None


def test_the_two_arrays_of_a_linear_cell_have_the_shape_of_its_state() -> None:
    def decaying(xp: Any, x: Any, decay: Any) -> Any:
        return decay, x

    cell = Cell("half", ("h",), linear=decaying, parameters={"decay": 0.5})
    with pytest.raises(ElmanError, match=r"\(2, 3\) here, got \(3,\), \(2, 3\) from half"):
        register(cell)
    assert replace(cell, name="other").linear is decaying


def test_the_same_code_is_registered_again_and_other_code_is_not() -> None:
    first = Cell("half", ("h",), half_step)
    register(first)
    register(first)
    again = Cell("half", ("h",), half_step, parameters={})
    register(again)
    assert cell_named("half") is again
    with pytest.raises(ElmanError, match=r"the name half is already used by a cell of tests.model"):
        register(Cell("half", ("h",), other_step))
    with pytest.raises(ElmanError, match="the name gru is already used by a cell"):
        register(Cell("gru", ("h",), half_step))
    with pytest.raises(ElmanError, match=r"register takes an elman.Cell, got 3"):
        register(3)  # type: ignore[arg-type]


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
    arch = Architecture("packed", 5, 4)
    logits, _ = specification.build(arch, weights.initial(arch)).step(np.zeros((1, 2), int))
    wanted, _ = specification.build(
        Architecture("rnn", 5, 4), weights.initial(Architecture("rnn", 5, 4))
    ).step(np.zeros((1, 2), int))
    np.testing.assert_array_equal(logits, wanted)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "the cell missing of the installed no_such_module:CELL does not load: No mod"),
        ("number", "the entry point number of elman.cells must be an elman.Cell with this name"),
        ("renamed", "the entry point renamed of elman.cells must be an elman.Cell with this name"),
    ],
)
def test_a_broken_package_is_one_line(name: str, message: str) -> None:
    with pytest.raises(ElmanError, match=message) as error:
        cell_named(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("framework", ["numba", "numpy"])
def test_a_training_without_gradients_is_refused_before_it_begins(framework: str) -> None:
    register(Cell("half", ("h",), half_step))
    with pytest.raises(ElmanError, match=f"^{framework} has no gradients of the cell half: choose"):
        Settings(cell="half", framework=framework)


def test_a_run_that_names_an_unknown_cell_says_how_to_register_it(
    tmp_path: Path, registry: dict[str, Cell]
) -> None:
    register(Cell("half", ("h",), half_step))
    saved_run(tmp_path / "run")
    assert type(elman.load(tmp_path / "run")) is specification.RNNLM
    with pytest.raises(ElmanError, match=r"elman.numba requires a built-in cell"):
        elman.load(tmp_path / "run", "numba")
    registry.clear()
    cure = "import the module that registers it"
    message = f"{tmp_path}/run/config.json: the cell 'half' is not registered: {cure}"
    with pytest.raises(ElmanError, match=f"^{message}$"):
        elman.evaluate(tmp_path / "run", "a text\n")


def saved_run(folder: Path) -> Path:
    """A run of the registered cell half."""
    data = specification.TimeMachine(64, 16, num_train=64, num_val=64)
    arch = Architecture("half", len(data.vocab), 4)
    model = specification.build(arch, weights.initial(arch))
    model.codec = data.codec
    elman.save(folder, model)
    return folder


OPENING = {
    "load": elman.load,
    "evaluate": lambda run: elman.evaluate(run, "a text\n"),
    "evaluate dynamic": lambda run: elman.evaluate(run, "a text\n", dynamic=True),
    "score": lambda run: elman.score(run, ["a text"]),
    "info": elman.info,
    "compare": lambda run: elman.compare(run),
    "export": lambda run: elman.export(run, "torch", run.parent / "out"),
    "init": lambda run: elman.train("a text\n" * 99, init=run, out=run.parent / "out"),
}


@pytest.mark.parametrize("name", OPENING)
def test_a_run_is_not_opened_with_other_equations(
    tmp_path: Path, registry: dict[str, Cell], name: str
) -> None:
    def same_step(xp: Any, x: Any, r: Any, state: Any) -> Any:
        return (0.5 * xp.tanh(r + x) + state[0] / 2,)

    register(Cell("half", ("h",), half_step))
    run = saved_run(tmp_path / "run")
    registry.clear()
    register(Cell("half", ("h",), other_step))
    with pytest.raises(ElmanError) as error:
        OPENING[name](run)
    wanted = (
        rf"{run}/config.json: the cell half must have the run's equations, got another result, "
        r"(\S+) in the run, (\S+) registered: register the cell that was trained"
    )
    found = re.fullmatch(wanted, str(error.value))
    assert found is not None, error.value
    x, r = 2 * np.sin(1), 2 * np.sin(2)
    state = 2 * np.sin(3)
    numbers = (state + np.tanh(x + r)) / 2, np.tanh(x + r)
    assert [float(each) for each in found.groups()] == pytest.approx(numbers, abs=1e-8)
    registry.clear()
    register(Cell("half", ("h",), same_step))
    assert elman.load(run).codec is not None


def test_a_training_is_not_resumed_with_other_equations(
    tmp_path: Path, registry: dict[str, Cell]
) -> None:
    register(Cell("half", ("h",), half_step))
    kept = RunSettings(
        Settings(cell="half", framework="torch"),
        "0",
        cell_fingerprint=fingerprint(cell_named("half")),
    )
    json_files.write(tmp_path / "training.json", asdict(kept))
    assert run_folder.read_training(tmp_path) == kept
    registry.clear()
    register(Cell("half", ("h",), other_step))
    with pytest.raises(ElmanError, match=r"training.json: the cell half must have the run's equa"):
        elman.resume(tmp_path)


@pytest.mark.parametrize("kept", [None, [], [0.5]])
def test_a_run_of_a_custom_cell_has_the_results_of_its_equations(
    tmp_path: Path, kept: list[float] | None
) -> None:
    register(Cell("half", ("h",), half_step))
    config = saved_run(tmp_path / "run") / "config.json"
    value = json.loads(config.read_text())
    config.write_text(json.dumps(value | {"cell_fingerprint": kept}))
    with pytest.raises(ElmanError, match=r"cell half (are missing|must have the run's)"):
        elman.load(tmp_path / "run")


def test_results_that_are_not_finite_are_kept(tmp_path: Path) -> None:
    def logarithm(xp: Any, x: Any, r: Any, state: Any) -> Any:
        return (xp.log(xp.relu(x)) + xp.log(r),)

    register(Cell("half", ("h",), logarithm))
    assert elman.load(saved_run(tmp_path / "run")).codec is not None


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 8, 9, 35, 64, 101])
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
