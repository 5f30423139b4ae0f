"""Every tile shape of the kernels gives the specification's results; no other is used."""

import re
from typing import Any

import numpy as np
import pytest

from elman import numpy as specification
from elman.errors import ElmanError
from elman.kernels.codegen import processor
from elman.kernels.codegen.processor import SHAPES
from elman.kernels.codegen.tile_types import TileShape
from elman.kernels.host import threads
from elman.kernels.host.arrays import DropoutMasks
from elman.kernels.host.engine import Engine
from elman.model.cells import CELLS
from elman.model.weights import Architecture
from tests.combinations import combinations
from tests.engine.batches import batch_of, learned, weights_of

THREADS = (1, 2, 3, 7)


@pytest.mark.parametrize(
    ("shape", "cell", "hidden"),  # hidden sizes of steps that are computed in groups, and alone
    combinations(pytest.mark.long, SHAPES, CELLS, (20, 150)),
)
def test_every_shape_gives_the_specifications_results_with_any_threads(
    shape: TileShape, cell: str, hidden: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = Architecture(cell, 31, hidden, 2, 7)
    X, Y = batch_of(arch, 75, 5)
    wanted, wanted_loss = learned(specification, arch, (X, Y))
    own = Engine(arch)  # of this processor
    own.load(weights_of(arch))
    own_loss, _ = own.loss(X, Y, (), DropoutMasks(), training=True)
    results: list[Any] = []
    for number in THREADS:
        monkeypatch.setattr(threads.config, "NUMBA_NUM_THREADS", number)
        made = Engine(arch, shape)
        made.load(weights_of(arch))
        loss, _ = made.loss(X, Y, (), DropoutMasks(), training=True)
        results.append((loss, made.gradients()))
    loss, found = results[0]
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    assert loss == pytest.approx(own_loss, rel=1e-6)
    for name, gradient in own.gradients().items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-4, atol=1e-6)
    for name, gradient in wanted.gradients.items():
        difference = np.linalg.norm(found[name] - gradient)
        assert difference <= 1e-5 * np.linalg.norm(gradient) + 1e-9, name
        for other, gradients in results[1:]:
            assert other == loss
            np.testing.assert_array_equal(gradients[name], found[name])
    wanted.eval()
    logits, _ = made.logits(X[:3].astype(np.int64), ())
    np.testing.assert_allclose(logits, wanted.step(X[:3])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "shape",
    [TileShape(6, 2, 8), TileShape(4, 3, 8), TileShape(8, 2, 8), TileShape(4, 2, 8, True)],
    ids=str,
)
def test_another_shape_is_refused(shape: TileShape) -> None:
    rule = "a tile must have one of the shapes 8 x 2 x 16, 4 x 2 x 8, 8 x 2 x 4, 4 x 4 x 4, got "
    with pytest.raises(ElmanError, match=re.escape(rule + str(shape))):
        Engine(Architecture("rnn", 28, 32), shape)


def test_vectors_that_numba_does_not_use_are_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor.numba.config, "CPU_FEATURES", None)
    monkeypatch.setattr(processor.numba.config, "ENABLE_AVX", 0)  # as it does itself for some
    assert processor.host_shape() in (processor.ANY_PROCESSOR, processor.NEON)
    assert not processor.multiplies_pairs(16)
