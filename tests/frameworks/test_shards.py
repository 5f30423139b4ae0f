"""Batches that are cut into shards train the model that whole batches do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.errors import ElmanError
from elman.model.weights import Architecture, initial
from elman.training.callback import Callback
from elman.training.checkpoint import Checkpoints, read_newest
from elman.training.workers.sharded import Shards
from tests.conftest import Command

CASES = [
    {"cell": "rnn", "optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "batching": "random"},
    {"cell": "lstm", "optimizer": "adam", "layers": 2, "batching": "contiguous"},
    {
        **{"cell": "gru", "optimizer": "adamw", "layers": 2, "batching": "shuffled"},
        "recurrent_lr": 0.003,
    },
]
every_case = pytest.mark.parametrize(
    "case",
    [CASES[0], pytest.param(CASES[1], marks=pytest.mark.core), CASES[2]],
    ids=lambda case: str(case["cell"]),
)
PARTITIONED = (False, True)


class End(Callback):
    """Ends a training after so many updates."""

    def __init__(self, updates: int, checkpoints: Checkpoints) -> None:
        self.updates, self.checkpoints = updates, checkpoints

    def after_update(self, trainer: Any) -> None:
        if trainer.train_batch_idx == self.updates:
            self.checkpoints.stop()


def train(
    module: Any,
    story: Path,
    shards: int | None,
    case: dict[str, Any],
    *callbacks: Any,
    resume: Any = None,
    dropout: float = 0.0,
    lines: bool = False,
    partitioned: bool = False,
) -> Any:
    batching = "random" if lines else case["batching"]
    steps = 8 if batching == "shuffled" else 16  # so that stretches have several windows
    data = module.TextFile(str(story), 8, steps, batching=batching, lines=lines)
    arch = Architecture(case["cell"], len(data.vocab), 8, case.get("layers", 1), 4)
    settings = {"lr": case.get("lr", 0.01), "optimizer": case["optimizer"], "seed": 5}
    settings |= {"momentum": case.get("momentum", 0.0), "recurrent_lr": case.get("recurrent_lr")}
    model = module.build(arch, initial(arch, 1), dropout=dropout, **settings)
    trainer = module.Trainer(2, 0, 1.0)
    if shards is not None:
        trainer.shards = Shards(shards, partitioned=partitioned)
    trainer.callbacks = callbacks
    trainer.fit(model, data, resume=resume)
    return trainer


def losses(trainer: Any) -> list[float]:
    return [loss for epoch in trainer.history for loss in (epoch.train_loss, epoch.val_loss)]


def bits(module: Any, trainer: Any) -> bytes:
    values = module.export_weights(trainer.model)
    return b"".join(np.ascontiguousarray(values[name]).tobytes() for name in sorted(values))


@every_case
def test_the_losses_do_not_depend_on_the_number_of_shards(
    module: Any, story: Path, case: dict[str, Any]
) -> None:
    shards = (1, 8, None) if case["batching"] == "contiguous" else (1, 8)
    one, *others = (losses(train(module, story, number, case)) for number in shards)
    for found in others:
        assert found == pytest.approx(one, rel=1e-5)


def test_lines_are_those_of_whole_batches(module: Any, tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join("ab"[n % 2] * (1 + n % 9) + f" {n % 60}" for n in range(300)))
    whole, found = (losses(train(module, lines, n, CASES[2], lines=True)) for n in (None, 4))
    assert found == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("partitioned", PARTITIONED)
def test_a_training_in_shards_is_resumed_to_the_same_bits(
    module: Any, story: Path, tmp_path: Path, partitioned: bool
) -> None:
    asked = {"dropout": 0.3, "partitioned": partitioned}
    case = CASES[2] if partitioned else CASES[1]
    whole = train(module, story, 4, case, **asked)
    checkpoints = Checkpoints(tmp_path, seconds=1e9)
    with pytest.raises(KeyboardInterrupt):
        train(module, story, 4, case, End(3, checkpoints), checkpoints, **asked)
    resumed = train(module, story, 4, case, resume=read_newest(tmp_path), **asked)
    assert losses(resumed) == losses(whole)
    assert bits(module, resumed) == bits(module, whole)


@pytest.mark.core
def test_the_state_of_another_optimizer_is_refused(
    module: Any, story: Path, tmp_path: Path
) -> None:
    checkpoints = Checkpoints(tmp_path, seconds=0)
    trainer = train(module, story, 4, CASES[2], checkpoints, partitioned=True)
    section_of = trainer.step.inner.section_of
    newest = read_newest(tmp_path)
    assert newest
    arrays = {n: array[:-1] if section_of(n) else array for n, array in newest[0].items()}
    assert any(map(section_of, arrays))
    with pytest.raises(ElmanError, match="belongs to another training"):
        train(module, story, 4, CASES[2], resume=(arrays, newest[1]), partitioned=True)


@every_case
def test_a_part_of_the_optimizer_takes_the_steps_of_the_whole(
    module: Any, framework: str, story: Path, case: dict[str, Any]
) -> None:
    whole, part = (train(module, story, 4, case, partitioned=p) for p in PARTITIONED)
    assert losses(part) == pytest.approx(losses(whole), rel=1e-6)
    # JAX compiles the step of a vector otherwise than that of the arrays.
    assert framework == "jax" or bits(module, part) == bits(module, whole)


@pytest.mark.core
def test_shards_are_a_setting_of_a_run(
    elman: Command, story: Path, framework: str, tmp_path: Path
) -> None:
    words = ("train", story, "--recipe", "book", "--hidden", "8", "--epochs", "1")
    words = (*words, "--batch-size", "16", "--framework", framework, "--out", "run")
    done = elman(*words, "--shards", "4", "--log", "tensorboard")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "tensorboard").is_dir()
    assert '"shards": 4' in (tmp_path / "run" / "config.json").read_text()
