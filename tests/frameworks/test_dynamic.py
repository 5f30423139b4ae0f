"""Dynamic evaluation follows its formula, and is the same in every framework that has it."""

from typing import Any

import numpy as np
import pytest

from elman import numpy as specification
from elman.inference.dynamic import MAX_NORM, SEGMENT, AdaptingModel, find
from elman.inference.language_model import total_nll
from elman.model.metrics import Adaptation
from elman.model.weights import Architecture, Weights, initial

ARCH = Architecture("gru", vocab=9, hidden=12, embedding=5)
IDS = np.random.default_rng(0).integers(9, size=205)
REPEATED = np.tile(IDS[:50], 12)


def adapting(module: Any) -> AdaptingModel:
    return AdaptingModel(module.build(ARCH, initial(ARCH, 1)), module, IDS)


def test_without_a_rate_it_is_the_static_evaluation(module: Any) -> None:
    static = total_nll(module.build(ARCH, initial(ARCH, 1)), IDS)
    total, number = total_nll(adapting(module), IDS)
    assert number == static[1] == len(IDS) - 1
    assert total == pytest.approx(static[0], rel=1e-5)


@pytest.mark.parametrize("adaptation", [Adaptation(0.002), Adaptation(0.004, 0.2)])
def test_the_weights_follow_the_formula(module: Any, adaptation: Adaptation) -> None:
    losses, weights = by_formula(adaptation)
    model = adapting(module)
    model.adaptation = adaptation
    found = np.concatenate(list(model.score_ids(IDS)))
    np.testing.assert_allclose(found[::SEGMENT], losses, rtol=2e-4)
    assert losses[-1] != pytest.approx(np.mean(by_formula(Adaptation(0.0))[0][-1]), rel=1e-3)
    for name, array in module.export_weights(model.model).items():
        if "bias" not in name:  # JAX has one where others have two
            np.testing.assert_allclose(array, weights[name], atol=2e-4)


def by_formula(adaptation: Adaptation) -> tuple[list[float], Weights]:
    """Mean loss of each segment and the last weights, from the specification's gradients."""
    model = specification.build(ARCH, {n: v.astype(float) for n, v in initial(ARCH, 1).items()})
    model.train()
    names = list(model.parameters)
    first = {name: array.copy() for name, array in model.parameters.items()}

    def segments() -> Any:
        state = None
        for start in range(0, len(IDS) - 1, SEGMENT):
            part = IDS[None, start : start + SEGMENT + 1]
            loss = float(model.batch_loss((part[:, :-1], state, part[:, 1:])))
            state = model.final_state
            model.backward()
            yield loss

    squares = [{n: model.gradients[n] ** 2 for n in names} for _ in segments()]
    root = {n: np.sqrt(np.mean([each[n] for each in squares], axis=0)) for n in names}
    mean = np.concatenate([root[n].ravel() for n in names]).mean()
    losses = []
    for loss in segments():
        losses.append(loss)
        norms = [
            np.linalg.norm([np.linalg.norm(of[n]) for n in names]) for of in (model.gradients, root)
        ]
        clip = min(1, MAX_NORM * norms[1] / norms[0])
        for n in names:
            w, pull = model.parameters[n], np.minimum(adaptation.decay * root[n] / mean, 1)
            w[:] = (
                w
                - adaptation.rate * clip * model.gradients[n] / (root[n] + mean)
                + pull * (first[n] - w)
            )
    return losses, specification.export_weights(model)


def test_a_text_that_repeats_itself_is_learned_at_the_rate_that_is_found(module: Any) -> None:
    model = adapting(module)
    model.adaptation = find(model, REPEATED)
    assert model.adaptation.rate > 0
    adapted = total_nll(model, REPEATED)[0]
    model.reset()
    model.adaptation = Adaptation(0.0)
    assert adapted < 0.9 * total_nll(model, REPEATED)[0]


def test_a_reset_brings_the_weights_of_the_training_back(module: Any) -> None:
    model = adapting(module)
    before = np.asarray(model._step.weight_vector()).copy()
    model.adaptation = Adaptation(0.01)
    model.learn(IDS)
    assert not np.array_equal(np.asarray(model._step.weight_vector()), before)
    model.reset()
    np.testing.assert_array_equal(np.asarray(model._step.weight_vector()), before)


def test_a_rate_that_diverges_is_not_found(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elman.inference.dynamic.FIRST_RATE", 1e30)
    assert find(adapting(module), IDS) == Adaptation(0.0)
