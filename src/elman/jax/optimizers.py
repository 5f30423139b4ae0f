"""Optimizers of language models."""

from typing import Any

import jax
import optax

from elman.model.optimizers import Optimizer
from elman.model.weights import is_recurrent


def make_optimizer(wanted: Optimizer) -> optax.GradientTransformation:
    """Optimizer with this description."""
    if wanted.optimizer == "adam":
        return optax.adam(wanted.lr)
    if wanted.optimizer == "adamw":
        return optax.chain(
            optax.scale_by_adam(),
            recurrent_scaled(wanted.recurrent_factor),
            optax.add_decayed_weights(wanted.decay),
            optax.scale_by_learning_rate(wanted.lr),
        )
    return optax.sgd(wanted.lr, wanted.momentum or None)


def recurrent_scaled(factor: float) -> optax.GradientTransformation:
    """Multiply the steps of recurrent layers by a factor."""
    if factor == 1:
        return optax.identity()

    def scaled(path: Any, step: Any) -> Any:
        return step * factor if is_recurrent(name_of(path)) else step

    return optax.stateless(lambda steps, _: jax.tree_util.tree_map_with_path(scaled, steps))


def name_of(path: Any) -> str:
    """Name of a weight at a path in a model's parameters."""
    return ".".join(key.key for key in path)
