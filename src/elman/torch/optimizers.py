"""Optimizers of language models."""

from collections.abc import Iterable

import torch

from elman.model.optimizers import Optimizer
from elman.model.weights import is_recurrent

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def make_optimizer(
    wanted: Optimizer, named: Iterable[tuple[str, torch.nn.Parameter]]
) -> torch.optim.Optimizer:
    """Optimizer of some parameters with their names, with this description."""
    arguments, parameters = wanted.arguments, dict(named)
    factor = wanted.recurrent_factor
    arguments.pop("recurrent_lr", None)
    if factor == 1:
        return OPTIMIZERS[wanted.optimizer](parameters.values(), **arguments)
    recurrent = [weight for name, weight in parameters.items() if is_recurrent(name)]
    others = [weight for name, weight in parameters.items() if not is_recurrent(name)]
    # PyTorch multiplies the rate by the decay, which is to be that of the other layers.
    own = {"lr": wanted.recurrent_lr, "weight_decay": wanted.decay / factor}
    groups = [{"params": others}, {"params": recurrent} | own]
    return OPTIMIZERS[wanted.optimizer](groups, **arguments)
