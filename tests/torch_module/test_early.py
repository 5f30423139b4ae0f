"""Early sending in PyTorch: a gradient is complete once in a backward pass."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from elman.data.batches import Batch
from elman.errors import ElmanError
from elman.torch.step import Step
from elman.training.workers import early
from elman.training.workers.early import EarlySending
from elman.training.workers.processes import ONE_WORKER, TreeSum


class Twice(torch.nn.Module):
    """A model that uses its second layer in two checkpointed parts of a batch."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2, bias=False)
        self.first.bias.requires_grad = False
        self.reentrant = reentrant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.first(x).split(1)
        reentrant = self.reentrant
        return sum(checkpoint(self.second, part, use_reentrant=reentrant).sum() for part in parts)


def sending(monkeypatch: pytest.MonkeyPatch, reentrant: bool) -> EarlySending:
    """Early sending of a model's gradients, whose step computes them for two rows."""
    monkeypatch.setattr(early, "EARLY", 1)
    model = Twice(reentrant)
    step = Step(SimpleNamespace(model=model))
    step.backpropagate = lambda _: model(torch.ones(2, 2)).backward() or 0.0  # type: ignore
    return EarlySending(step, ONE_WORKER)


def test_a_second_backward_pass_of_a_batch_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Batch.of((torch.zeros(1, 3), torch.zeros(1, 3)))
    with pytest.raises(ElmanError, match=r"second gradient of second\.weight"):
        sending(monkeypatch, True).backpropagate(batch, TreeSum())
    total = TreeSum()
    sending(monkeypatch, False).backpropagate(batch, total)
    assert torch.isfinite(total.value).all()
    assert total.value[4:6].tolist() == [0, 0]  # the bias that is not trained
