"""Trainer: the loop with D2L's hooks, and the state that training changes, in JAX."""

from functools import cached_property
from typing import Any

import jax
import optax
from flax.training import train_state
from jax import numpy as jnp

from elman.files import memory
from elman.jax.arrays import cpu, get_key, to, try_all_gpus
from elman.jax.model import Module
from elman.jax.step import Step, global_norm
from elman.training import trainer

__all__ = ["Trainer"]


class TrainState(train_state.TrainState):
    """State that training changes: parameters, optimizer, statistics and the key of dropout.

    `scale` multiplies the optimizer's updates, as a learning rate would.
    """

    batch_stats: Any
    dropout_rng: Any
    scale: Any = 1.0

    def apply_gradients(self, *, grads: Any, **changes: Any) -> Any:
        """State after the optimizer's step."""
        updates, opt_state = self.tx.update(grads, self.opt_state, self.params)
        updates = jax.tree.map(lambda update: self.scale * update, updates)
        params = optax.apply_updates(self.params, updates)
        return self.replace(step=self.step + 1, params=params, opt_state=opt_state, **changes)


class Trainer(trainer.Trainer):
    """Trains a model on data; `num_gpus=1` uses a GPU if there is one.

    `state` contains what training changes: parameters, optimizer, statistics.
    """

    step_type = Step
    model: Any = None
    state: Any = None

    try_all_gpus = staticmethod(try_all_gpus)
    to = staticmethod(to)

    @cached_property
    def device(self) -> jax.Device:
        """Device to train on."""
        return self.gpus[0] if self.gpus else cpu()

    def fit(self, model: Module, data: Any, key: Any = None, resume: Any = None) -> None:
        """Train `model` on `data` from its current weights, or from new ones drawn with `key`.

        `resume` is a checkpoint to continue from.
        """
        self.key = key
        with memory.as_memory_error(jax.errors.JaxRuntimeError, "resource_exhausted"):
            super().fit(model, data, resume)

    def prepare_model(self, model: Module) -> None:
        """Attach the model to this trainer; models keep the weights of earlier trainings."""
        for trained in (self.model, model):
            if trained is not None:
                trained.built = trained.current_variables
        self.state = None
        model.compiled_read = model.compiled_decode = None
        super().prepare_model(model)

    def prepare_optimizer(self) -> None:
        """Create the model's optimizer, and the state that training changes."""
        super().prepare_optimizer()
        key = self.model.key if self.key is None else self.key
        params_key, dropout_key = jax.random.split(get_key() if key is None else key)
        variables = self.model.built
        if variables is None or self.key is not None:
            inputs = self.example()[:-1]
            variables = self.model.apply_init(
                inputs, key={"params": params_key, "dropout": dropout_key}
            )
        state = TrainState.create(
            apply_fn=self.model.apply,
            params=variables["params"],
            batch_stats=variables.get("batch_stats", {}),
            dropout_rng=dropout_key,
            tx=self.optim,
            scale=jnp.float32(1),
        )
        self.state = jax.device_put(state, self.device)

    def clip_gradients(self, grad_clip_val: float, grads: Any) -> Any:
        """Scale the gradients so that their global norm is at most `grad_clip_val`."""
        scale = jnp.minimum(1, grad_clip_val / global_norm(grads))
        return jax.tree.map(lambda gradient: gradient * scale, grads)
