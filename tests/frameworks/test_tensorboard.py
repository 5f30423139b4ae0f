"""A log for TensorBoard has what the training had, in every framework, and once."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.model.weights import Architecture, initial
from elman.runs.tensorboard import TensorBoard
from elman.training.callback import Callback
from elman.training.checkpoint import Checkpoints, read_newest
from elman.training.schedule import Best, Schedule
from tests.event_logs import Log, read_log
from tests.frameworks.test_resume import EPOCHS, Stop


def fit(
    module: Any, story: Path, folder: Path, *more: Callback, cell: str = "lstm", **options: Any
) -> Any:
    """A training with a log; more callbacks come before the log if they are not Checkpoints."""
    resume = options.pop("resume", None)
    data = module.TextFile(str(story), 8, 16, seed=3, **options)
    arch = Architecture(cell, len(data.vocab), 8, 2, 4)
    model = module.build(arch, initial(arch, 1), lr=0.05, optimizer="adam", seed=5)
    trainer = module.Trainer(EPOCHS, 0, 1.0)
    log = TensorBoard(folder, lambda: "a\x1btext\nof two lines")
    trainer.callbacks = [Schedule("cosine", warmup=0.2), Best(), log, *more]
    trainer.fit(model, data, resume=resume)
    return trainer


def steps_of(log: Log) -> dict[str, list[int]]:
    kinds = {**log.scalars, **log.histograms, **log.texts}
    return {tag: [step for step, _ in points] for tag, points in kinds.items()}


@pytest.mark.core
def test_a_log_has_the_numbers_of_the_history(module: Any, story: Path, tmp_path: Path) -> None:
    trainer = fit(module, story, tmp_path / "log")
    log, in_epoch = read_log(tmp_path / "log"), trainer.num_train_batches
    for tag, name in (
        ("loss/training", "train_loss"),
        ("loss/validation", "val_loss"),
        ("perplexity/training", "train_ppl"),
        ("perplexity/validation", "val_ppl"),
        ("training/tokens_per_second", "tokens_per_second"),
    ):
        wanted = [(in_epoch * e.epoch, np.float32(getattr(e, name))) for e in trainer.history]
        assert log.scalars.pop(tag) == wanted
    batches = log.scalars.pop("loss/batch")
    assert [step for step, _ in batches] == [*range(1, EPOCHS * in_epoch + 1)]
    means = np.array([loss for _, loss in batches]).reshape(EPOCHS, in_epoch).mean(axis=1)
    np.testing.assert_allclose(means, [e.train_loss for e in trainer.history], rtol=0.01)
    rates = [rate for _, rate in log.scalars.pop("training/learning_rate")]
    assert rates.index(max(rates)) == math.ceil(0.2 * len(rates))
    assert max(rates) == pytest.approx(0.05)
    norms = [norm for _, norm in log.scalars.pop("training/gradient_norm")]
    assert len(norms) == len(batches)
    assert 0 < min(norms) < max(norms) < 100
    assert log.scalars == {}


@pytest.mark.core
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm", "mingru"])
def test_a_log_has_histograms_of_weights_and_gates(
    module: Any, even_story: Path, tmp_path: Path, cell: str
) -> None:
    seen: list[dict[str, Any]] = []

    class Look(Callback):
        def after_update(self, trainer: Any) -> None:
            seen.append(module.export_weights(trainer.model))

    trainer = fit(module, even_story, tmp_path, Look(), cell=cell)
    log = read_log(tmp_path)
    for name, values in seen[-1].items():
        points = log.histograms.pop(f"weights/{name}")
        assert 2 * EPOCHS <= len(points) <= 50
        step, last = points[-1]
        assert step == trainer.train_batch_idx
        assert last[:, 2].sum() == values.size
        assert (last[0, 0], last[-1, 1]) == (values.min(), values.max())
        assert values.any() == (points[0][1] != last).any()
    gates = {"rnn": "", "gru": "rz", "lstm": "ifo", "mingru": "z"}[cell]
    tags = [f"gates/l{layer}.{gate}" for layer in range(2) for gate in gates]
    assert sorted(log.histograms) == sorted(tags)
    for points in log.histograms.values():
        for _, values in points:
            assert 0 <= values[0, 0] < values[-1, 1] <= 1
            assert values[:, 2].sum() == 8 * 16 * 8  # a batch, its steps, the units
    (texts,) = log.texts.values()
    assert {text for _, text in texts} == {"    a\\x1btext\n    of two lines"}


@pytest.mark.core
def test_padding_has_no_gates(module: Any, tmp_path: Path) -> None:
    words = "\n".join(f"{a}{b * (n % 9)}" for a in "abcdefgh" for b in "xyz" for n in range(20))
    (tmp_path / "lines.txt").write_text(words)
    fit(module, tmp_path / "lines.txt", tmp_path / "log", lines=True)
    (_, gate), *_ = read_log(tmp_path / "log").histograms["gates/l0.i"]
    lines = module.TextFile(str(tmp_path / "lines.txt"), 8, 16, seed=3, lines=True)
    batch = next(iter(lines.val_dataloader()))
    assert gate[:, 2].sum() == 8 * batch.num_targets < 8 * batch.mask.size


@pytest.mark.core
def test_a_resumed_training_goes_on_in_its_log_and_another_one_replaces_it(
    module: Any, even_story: Path, tmp_path: Path
) -> None:
    trainer = fit(module, even_story, tmp_path / "whole", batching="contiguous")
    whole, in_epoch = read_log(tmp_path / "whole"), trainer.num_train_batches
    log, newest = tmp_path / "log", [None]
    for updates in (2, in_epoch, in_epoch + 3):
        place = tmp_path / str(updates)
        checkpoints = Checkpoints(place, seconds=1e9)
        more = Stop(updates, checkpoints), checkpoints
        with pytest.raises(KeyboardInterrupt):
            fit(module, even_story, log, *more, resume=newest[-1], batching="contiguous")
        newest.append(read_newest(place))
    # What comes after the checkpoint is lost, and is in the log once nevertheless.
    for checkpoint in (*newest[-2:], None):
        fit(module, even_story, log, resume=checkpoint, batching="contiguous")
        found = read_log(log)
        assert steps_of(found) == steps_of(whole)
        for tag in ("loss/training", "loss/validation", "loss/batch", "training/learning_rate"):
            assert found.scalars[tag] == whole.scalars[tag]


def test_a_model_of_the_books_own_has_a_log(module: Any, even_story: Path, tmp_path: Path) -> None:
    if not hasattr(module, "RNNScratch"):
        pytest.skip("there are no models from scratch here")
    data = module.TextFile(str(even_story), 8, 16)
    rnn = module.RNNScratch(len(data.vocab), 8)
    trainer = module.Trainer(1, 0, 1.0)
    trainer.callbacks = [TensorBoard(tmp_path)]
    trainer.fit(module.RNNLMScratch(rnn, len(data.vocab), lr=0.5), data)
    log = read_log(tmp_path)
    assert len(log.scalars["loss/batch"]) == trainer.num_train_batches
    assert len(log.histograms) == (0 if module.__name__ == "elman.jax" else 5)
