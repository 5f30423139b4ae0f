"""Optimizers of language models."""

from collections.abc import Iterable

import torch

from elman.core.model.optimizers import Optimizer

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def make_optimizer(
    wanted: Optimizer, parameters: Iterable[torch.nn.Parameter]
) -> torch.optim.Optimizer:
    """Optimizer of some parameters, with this description."""
    return OPTIMIZERS[wanted.optimizer](parameters, **wanted.arguments)
