"""Optimizers in PyTorch: groups of weights with different rates."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from elman import torch as module
from elman.errors import ElmanError
from elman.model.weights import Architecture, initial
from elman.torch import RNNLM, TextFile, Trainer
from elman.training.checkpoint import Checkpoints, read_newest
from elman.training.workers.sharded import Shards


class Biases(RNNLM):
    """A model whose own optimizer has a group for biases."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups: tuple[list[Any], list[Any]] = ([], [])
        for name, weight in self.named_parameters():
            groups["bias" in name].append(weight)
        return torch.optim.SGD([{"params": groups[0]}, {"params": groups[1], "lr": 1e-9}], lr=0.5)


def test_groups_that_cut_through_recurrent_layers_are_not_divided_among_workers(
    story: Path,
) -> None:
    data = TextFile(str(story), 8, 16)
    trainer = Trainer(1, 0, 1.0)
    trainer.shards = Shards(4, partitioned=True)
    model = Biases(module.GRU(len(data.vocab), 8), len(data.vocab))
    model(torch.zeros((1, 1), dtype=torch.int64))  # so that lazy layers infer their shapes
    with pytest.raises(ElmanError, match="one for all others, got 2 groups"):
        trainer.fit(model, data)


def test_a_training_is_resumed_with_another_rate_of_recurrent_layers(
    story: Path, tmp_path: Path
) -> None:
    data = TextFile(str(story), 8, 16)
    arch = Architecture("gru", len(data.vocab), 8, embedding=4)

    def trained(recurrent_lr: float | None, resume: Any = None) -> Any:
        settings = {"optimizer": "adamw", "lr": 0.01, "recurrent_lr": recurrent_lr}
        model = module.build(arch, initial(arch, 1), seed=5, **settings)
        trainer = Trainer(2, 0, 1.0)
        trainer.shards = Shards(4, partitioned=True)
        trainer.callbacks = [] if resume else [Checkpoints(tmp_path, seconds=0)]
        trainer.fit(model, data, resume=resume)
        return trainer

    trained(None)
    trainer = trained(0.003, resume=read_newest(tmp_path))
    assert np.isfinite(trainer.history[-1].train_loss)
