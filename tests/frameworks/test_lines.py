"""Lines: every module follows the specification's losses, scores, and lines that it writes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman import numpy as specification
from elman.inference.evaluation import evaluate_tokens
from elman.inference.writing import Writing, write
from elman.model.weights import Architecture, initial


@pytest.fixture
def names(tmp_path: Path) -> str:
    """A file of lines of 2 to 12 tokens, in batches of three lengths."""
    rng = np.random.default_rng(0)
    lines = ("".join(rng.choice([*"abcde"], rng.integers(1, 12))) for _ in range(300))
    (tmp_path / "names").write_text("\n".join(lines))
    return str(tmp_path / "names")


def made(module: Any, names: str, arch: Any = ("gru", 16, 1)) -> tuple[Any, Any, Any]:
    data = module.TextFile(names, 16, 99, lines=True, seed=2)
    cell, hidden, layers = arch
    arch = Architecture(cell, len(data.vocab), hidden, layers)
    model = module.build(arch, initial(arch, 1), lr=0.05, optimizer="adam", seed=3)
    return module.Trainer(2, 0, 1.0), model, data


@pytest.mark.parametrize(
    "arch", [("gru", 16, 1), pytest.param(("lstm", 8, 2), marks=pytest.mark.core)], ids=str
)
def test_lines_follow_the_same_losses(module: Any, names: str, arch: tuple[str, int, int]) -> None:
    def losses(module: Any) -> tuple[list[float], float, int]:
        trainer, model, data = made(module, names, arch)
        trainer.fit(model, data)
        test = evaluate_tokens(model, data.test_tokens)
        found = [loss for each in trainer.history for loss in (each.train_loss, each.val_loss)]
        return [*found, test.loss], trainer.train_batch_idx, test.tokens

    (wanted, *counts), (found, *others) = losses(specification), losses(module)
    assert others == counts
    np.testing.assert_allclose(found, wanted, rtol=1e-3)


def test_lines_are_written_as_by_the_specification(module: Any, names: str) -> None:
    def written(module: Any) -> list[str]:
        _, model, data = made(module, names)
        model.codec = data.codec
        asked = Writing(n=6, tokens=40, temperature=0.9)
        return ["".join(pieces) for pieces in write(model, ["", "a"], asked)]

    found = written(module)
    assert found == written(specification)
    assert len(found) == 12
