"""Optimizers of language models."""

import optax

from elman.core.model.optimizers import Optimizer


def make_optimizer(wanted: Optimizer) -> optax.GradientTransformation:
    """Optimizer with this description."""
    if wanted.optimizer == "adam":
        return optax.adam(wanted.lr)
    if wanted.optimizer == "adamw":
        return optax.adamw(wanted.lr, weight_decay=wanted.decay)
    return optax.sgd(wanted.lr, wanted.momentum or None)
