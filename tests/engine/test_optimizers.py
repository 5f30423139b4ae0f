"""Clipping and the steps of optimizers are the specification's, for all sizes and any threads."""

import copy
import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from elman import numba as engine
from elman import numpy as specification
from elman.kernels.host import threads
from elman.kernels.rnn.optimization import CHUNK

KINDS = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("Adam", {}),
    ("AdamW", {"weight_decay": 0.5, "recurrent_lr": 0.03}),
]
NAMES = ("w{}", "rnn.w{}")  # in turns
LARGE = [(3, CHUNK + 1), (), (0, 4), (5,), (CHUNK,)]  # chunks of every kind


class Trained:
    """Parameters and gradients at random."""

    def __init__(self, shapes: Any, scale: float = 1, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)

        def arrays(scale: float) -> dict[str, np.ndarray]:
            drawn = (scale * rng.standard_normal(shape, np.float32) for shape in shapes)
            return {
                NAMES[n % 2].format(n): np.asarray(array, np.float32)
                for n, array in enumerate(drawn)
            }

        self.parameters, self.gradients = arrays(1), arrays(scale)


def trainer_of(
    module: Any, model: Any, kind: tuple[str, Any], bound: float = 0.5, lr: float = 0.1
) -> Any:
    """A trainer that has a model with gradients, and an optimizer for it."""
    name, options = kind
    trainer = module.Trainer(1, gradient_clip_val=bound)
    trainer.model, trainer.optim = model, getattr(module, name)(model, lr, **options)
    return trainer


def arrays_of(trainer: Any) -> dict[str, np.ndarray]:
    """Weights and all that the optimizer keeps."""
    return dict(trainer.step._arrays())


def assert_same(found: Any, wanted: Any) -> None:
    """The same weights and memory, within rounding."""
    assert arrays_of(found).keys() == arrays_of(wanted).keys()
    for name, array in arrays_of(wanted).items():
        np.testing.assert_allclose(
            arrays_of(found)[name], array, rtol=1e-6, atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize("bound", [0, 1e-3, 1, 1e9])
@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(
    shapes=st.lists(st.lists(st.integers(0, 40), max_size=2).map(tuple), max_size=7),
    seed=st.integers(0, 2**32),
)
@example(shapes=LARGE, seed=0)
def test_a_step_is_the_specifications(kind: Any, bound: float, shapes: Any, seed: int) -> None:
    trainers = [
        trainer_of(module, Trained(shapes, seed=seed), kind, bound)
        for module in (engine, specification)
    ]
    for _ in range(3):
        for trainer in trainers:
            kept = {name: g.copy() for name, g in trainer.model.gradients.items()}
            trainer.step.update_weights()
            trainer.model.gradients = kept  # which the specification has clipped
        found, wanted = trainers
        assert found.gradient_norm == pytest.approx(wanted.gradient_norm, rel=1e-6)
        assert_same(found, wanted)


@pytest.mark.parametrize("number", [2, 64])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_any_number_of_threads_gives_the_same_bits(
    kind: Any, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for count in (1, number):
        monkeypatch.setattr(threads.config, "NUMBA_NUM_THREADS", count)
        trainer = trainer_of(engine, Trained(LARGE), kind)
        for _ in range(20):
            trainer.step.update_weights()
        assert trainer.optim._optimization.threads == min(count, 7)
        results.append((trainer.gradient_norm, arrays_of(trainer)))
    (wanted_norm, wanted), (norm, found) = results
    assert norm == wanted_norm
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("bound", [0, 1])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_nan_and_infinity_do_what_they_do_in_the_specification(
    kind: Any, bound: float, broken: float
) -> None:
    trainers = [trainer_of(m, Trained([(50,), (3,)]), kind, bound) for m in (engine, specification)]
    for trainer in trainers:
        trainer.model.gradients["w0"][7] = broken
        with np.errstate(invalid="ignore"):
            trainer.step.update_weights()
    found, wanted = trainers
    np.testing.assert_equal(found.gradient_norm, wanted.gradient_norm)
    assert_same(found, wanted)


def test_the_norm_of_large_gradients_is_finite() -> None:
    model = Trained([(100, 10)], scale=1e30)
    trainer = trainer_of(engine, model, ("SGD", {}), bound=1, lr=1)
    weight, gradient = (
        arrays["w0"].astype(float) for arrays in (model.parameters, model.gradients)
    )
    trainer.step.update_weights()
    assert trainer.gradient_norm == pytest.approx(np.linalg.norm(gradient), rel=1e-6)
    step = gradient / np.linalg.norm(gradient)
    np.testing.assert_allclose(model.parameters["w0"], weight - step, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_gradients_need_not_be_contiguous(kind: Any) -> None:
    found, wanted = (trainer_of(engine, Trained([(9, 6), (5, 7)]), kind, bound=1) for _ in range(2))
    rows = np.zeros((9, 64), np.float32)[:, :6]
    rows[:] = found.model.gradients["w0"]
    columns = found.model.gradients["rnn.w1"].copy("F")
    found.model.gradients |= {"w0": rows, "rnn.w1": columns}
    for trainer in (found, wanted):
        trainer.step.update_weights()
    assert_same(found, wanted)
    np.testing.assert_array_equal(rows, wanted.model.gradients["w0"])  # and are left as they are


@pytest.mark.parametrize("contiguous", [True, False])
def test_gradients_can_be_measured_and_clipped_alone(contiguous: bool) -> None:
    model = Trained(LARGE)
    if not contiguous:
        model.gradients["w0"] = model.gradients["w0"].copy("F")
    trainer = engine.Trainer(1)
    wanted = {name: gradient.copy() for name, gradient in model.gradients.items()}
    norm = np.sqrt(sum(float((g.astype(float) ** 2).sum()) for g in wanted.values()))
    assert trainer.measure_gradients(model) == pytest.approx(norm, rel=1e-4)
    trainer.clip_gradients(1e9, model)
    for name, gradient in wanted.items():
        np.testing.assert_array_equal(model.gradients[name], gradient)
    trainer.clip_gradients(2.0, model)
    assert trainer.gradient_norm == pytest.approx(norm, rel=1e-4)
    for name, gradient in wanted.items():
        np.testing.assert_allclose(model.gradients[name], gradient * (2 / norm), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_arrays_that_kernels_do_not_read_are_updated_by_numpy(kind: Any) -> None:
    for spoil in (
        lambda arrays: {name: value.astype(float) for name, value in arrays.items()},
        lambda arrays: {name: value.copy("F") for name, value in arrays.items()},
    ):
        trainers = []
        for module in (engine, specification):
            model = Trained([(9, 6), (4,)])
            model.parameters = spoil(model.parameters)
            trainers.append(trainer_of(module, model, kind))
            for _ in range(2):
                model.gradients = spoil(Trained([(9, 6), (4,)]).gradients)
                trainers[-1].step.update_weights()
        assert_same(*trainers)
        if kind[0] != "SGD":
            assert [trainer.optim.steps for trainer in trainers] == [2, 2]


def test_clipping_and_steps_of_the_users_own_are_called() -> None:
    called = []

    class Clipping(engine.Trainer):
        def clip_gradients(self, grad_clip_val: float, model: Any) -> None:
            called.append(grad_clip_val)

    class Stepping(engine.SGD):
        def step(self) -> None:
            called.append("step")

    trainer = trainer_of(engine, Trained([(4,)]), KINDS[0], bound=0.25)
    clipping = Clipping(1, gradient_clip_val=0.25)
    clipping.model, clipping.optim = trainer.model, trainer.optim
    clipping.step.update_weights()
    assert called == [0.25]
    trainer.optim = Stepping(trainer.model, 0.1)
    trainer.step.update_weights()
    assert called == [0.25, "step"]
    assert np.linalg.norm(trainer.model.gradients["w0"]) == pytest.approx(0.25)


def test_an_optimizer_goes_on_as_its_copy_does() -> None:
    trainer = trainer_of(engine, Trained([(9, 6)]), ("Adam", {}))
    trainer.step.update_weights()
    copies = [copy.deepcopy(trainer.optim)]
    copies.append(pickle.loads(pickle.dumps(trainer.optim)))
    trainer.optim.step()
    for other in copies:
        other.step()
        np.testing.assert_array_equal(other.model.parameters["w0"], trainer.model.parameters["w0"])
        assert other.model.parameters["w0"] is not trainer.model.parameters["w0"]


FORKED = """
import os, signal, sys
import numpy as np
from elman import numba

class Model:
    parameters = {"w": np.ones(100_000, np.float32)}
    gradients = {"w": np.ones(100_000, np.float32)}

optimizer = numba.SGD(Model, 1.0)
optimizer.step()
with optimizer._optimization.lock:  # as in another thread
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # which ends a child that waits for ever
        optimizer.step()
        os._exit(not np.array_equal(Model.parameters["w"], np.full(100_000, -1)))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_has_locks_and_tables_of_its_own() -> None:
    environment = os.environ | {"NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", FORKED], env=environment, timeout=100)
    assert done.returncode == 0
