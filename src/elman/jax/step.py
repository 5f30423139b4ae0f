"""Trainer, with D2L's hooks, and its steps: updates and validation in JAX, compiled."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import jax
import numpy as np
import optax
from flax.training import train_state
from jax import numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.tree_util import GetAttrKey

from elman.book import trainer
from elman.data.batches import Batch
from elman.files import memory
from elman.jax.arrays import cpu, get_key, numpy, to, try_all_gpus
from elman.jax.model import Module, compiled, name_of
from elman.training.step import GradientStep

__all__ = ["Trainer"]


class Step(GradientStep):
    """Training of a model in JAX, batch by batch.

    Training changes the trainer's `state`, as in the book.
    """

    def __init__(self, trainer: Any) -> None:
        super().__init__(trainer)
        self._update = compiled(self._step)
        self._validate_batch = compiled(self._validation)
        self._backward = compiled(self._backward_step)
        self._apply_vector = compiled(self._vector_step)
        self._clip_vector = compiled(self._vectors)
        self._apply_part = compiled(self._part_step)
        self._vector: Any = None

    @property
    def state(self) -> Any:
        """Parameters, optimizer, statistics and the key of dropout."""
        return self.trainer.state

    @state.setter
    def state(self, state: Any) -> None:
        self.trainer.state = state

    def update(self, batch: Batch) -> float:
        """Take one optimization step; return the batch's mean loss."""
        self.state, (loss, self.trainer.gradient_norm), plots, self.model.final_state = (
            self._update(self.state, list(batch), batch.mask)
        )
        self.model.plot_all(plots, train=True)
        return float(loss)

    def _step(self, state: Any, batch: Sequence[Any], mask: Any) -> tuple[Any, Any, Any, Any]:
        (loss, gradients), plots, changed = self._gradients(state, batch, mask)
        state, norm = self._apply(state, gradients)
        return (
            state.replace(
                dropout_rng=jax.random.split(state.dropout_rng)[0],
                batch_stats=changed.get("batch_stats", state.batch_stats),
            ),
            (loss, norm),
            plots,
            final_state_in(changed),
        )

    def _gradients(
        self, state: Any, batch: Sequence[Any], mask: Any
    ) -> tuple[tuple[Any, Any], Any, Any]:
        """Loss and gradients of a batch, plotted values, and changed variables."""
        with self.model.masking(mask), self.model.collecting() as plots:
            value, gradients = self.model.training_step(state.params, batch, state)
        loss, changed = value if isinstance(value, tuple) else (value, {})
        return (loss, gradients), plots, changed

    def _apply(self, state: Any, gradients: Any) -> tuple[Any, Any]:
        """State after a step with these gradients, and their norm before clipping."""
        gradients, norm = self._clipped(gradients)
        return state.apply_gradients(grads=gradients), norm

    def _clipped(self, gradients: Any) -> tuple[Any, Any]:
        """Clipped gradients, and their norm before clipping."""
        trainer = self.trainer
        norm = global_norm(gradients)
        if trainer.gradient_clip_val > 0:
            gradients = trainer.clip_gradients(trainer.gradient_clip_val, gradients)
        return gradients, norm

    def backpropagate(self, batch: Batch) -> float:
        """Compute the gradients of a batch; return its mean loss."""
        loss, self._vector, plots, self.model.final_state = self._backward(
            self.state, list(batch), batch.mask
        )
        self.model.plot_all(plots, train=True)
        return float(loss)

    def _backward_step(
        self, state: Any, batch: Sequence[Any], mask: Any
    ) -> tuple[Any, Any, Any, Any]:
        (loss, gradients), plots, changed = self._gradients(state, batch, mask)
        return loss, ravel_pytree(gradients)[0], plots, final_state_in(changed)

    def gradient_vector(self, factor: float = 1, memory: Any = None) -> Any:
        """All gradients of the last batch times a factor, as one vector; zeros before any."""
        if self._vector is None:
            self._vector = jnp.zeros_like(ravel_pytree(self.state.params)[0])
        return self._vector * np.float32(factor)

    def apply_gradients(self, vector: Any) -> None:
        """Take the step with these gradients, as `update` does."""
        self.state, self.trainer.gradient_norm = self._apply_vector(self.state, vector)

    def _vector_step(self, state: Any, vector: Any) -> tuple[Any, Any]:
        return self._apply(state, ravel_pytree(state.params)[1](vector))

    def vector_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights, in the order of `gradient_vector`."""
        leaves = jax.tree_util.tree_leaves_with_path(self.state.params)
        return {name_of(path): leaf.shape for path, leaf in leaves}

    def partition_optimizer(self, own: Mapping[str, slice]) -> None:
        """Restrict the optimizer to parts of the vector of all weights."""
        self._own = own
        parts = self._own_parts(ravel_pytree(self.state.params)[0])
        opt_state = {name: self.optim.init({name: part}) for name, part in parts.items()}
        self.state = self.state.replace(opt_state=jax.device_put(opt_state, self.trainer.device))
        leaves = enumerate(jax.tree_util.tree_leaves_with_path(self.state))
        self._sections = {
            str(number): path[1].key
            for number, (path, leaf) in leaves
            if path[0] == GetAttrKey("opt_state") and leaf.ndim
        }

    def _own_parts(self, vector: Any) -> dict[str, Any]:
        """This worker's part of each section of a vector."""
        return {name: vector[own] for name, own in self._own.items()}

    def update_part(self, vector: Any) -> Any:
        """Take the optimizer's step with these gradients of all weights; return its part."""
        *vectors, self.trainer.gradient_norm = self._clip_vector(self.state.params, vector)
        weights, gradients = map(self._own_parts, vectors)
        parts = {}
        for name in self._own:
            # Compiled separately: together with the cut, rounding would depend on the length, and
            # together with other sections, on whether these are empty.
            parts[name] = self._apply_part(
                self.state.replace(opt_state=self.state.opt_state[name]),
                {name: weights[name]},
                {name: gradients[name]},
            )
        opt_state = {name: part.opt_state for name, part in parts.items()}
        self.state = self.state.replace(step=self.state.step + 1, opt_state=opt_state)
        return jnp.concatenate([part.params[name] for name, part in parts.items()])

    def _vectors(self, params: Any, vector: Any) -> tuple[Any, Any, Any]:
        """Weights and clipped gradients as vectors, and the norm of the gradients before."""
        weights, unravel = ravel_pytree(params)
        gradients, norm = self._clipped(unravel(vector))
        return weights, ravel_pytree(gradients)[0], norm

    def _part_step(self, state: Any, weights: Any, gradients: Any) -> Any:
        return state.replace(params=weights).apply_gradients(grads=gradients)

    def weight_vector(self) -> Any:
        """All weights, in the order of `gradient_vector`."""
        return ravel_pytree(self.state.params)[0]

    def set_weight_vector(self, vector: Any) -> None:
        """Set all weights, in the order of `gradient_vector`."""
        placed = jax.device_put(vector, self.trainer.device)
        self.state = self.state.replace(params=ravel_pytree(self.state.params)[1](placed))

    def section_of(self, name: str) -> str | None:
        """Section of which an array of the state is the optimizer's; None if of none."""
        return self._sections.get(name)

    def seed_dropout(self, *words: int) -> None:
        """Draw dropout from a key made of these numbers."""
        seed = int(np.random.SeedSequence(words).generate_state(1)[0])
        key = jax.device_put(jax.random.PRNGKey(seed), self.trainer.device)
        self.state = self.state.replace(dropout_rng=key)

    def scale_learning_rate(self, factor: float) -> None:
        """Set the learning rate to `factor` times its initial value."""
        scale = jax.device_put(jnp.float32(factor), self.trainer.device)
        self.state = self.state.replace(scale=scale)

    def state_dict(self) -> dict[str, Any]:
        """Copy of the state of the training: weights, optimizer and generators."""
        leaves = jax.tree_util.tree_leaves(self.state)
        return {str(number): np.array(leaf) for number, leaf in enumerate(leaves)}

    def to_numpy(self, array: Any) -> np.ndarray:
        """Convert an array on any device to NumPy."""
        return numpy(array)

    def from_numpy(self, array: np.ndarray) -> Any:
        """Convert an array from NumPy, on the device of the training."""
        return jax.device_put(jnp.asarray(array), self.trainer.device)

    def load_state_dict(self, arrays: Mapping[str, Any]) -> None:
        """Load the result of `state_dict`; model and optimizer must be prepared."""
        leaves, tree = jax.tree_util.tree_flatten(self.state)
        kept = [arrays[str(number)] for number in range(len(leaves))]
        taken = [
            jnp.asarray(array, jnp.result_type(leaf))
            for array, leaf in zip(kept, leaves, strict=True)
        ]
        self.state = jax.device_put(jax.tree_util.tree_unflatten(tree, taken), self.trainer.device)

    def validate(self, batch: Batch) -> float | None:
        """Return the batch's mean loss, or None if the model returns none."""
        loss, plots, self.model.final_state = self._validate_batch(
            self.state, list(batch), batch.mask
        )
        self.model.plot_all(plots, train=False)
        return None if loss is None else float(loss)

    def _validation(self, state: Any, batch: Sequence[Any], mask: Any) -> tuple[Any, Any, Any]:
        with self.model.masking(mask), self.model.collecting() as plots:
            value = self.model.validation_step(state.params, batch, state)
        loss, changed = value if isinstance(value, tuple) else (value, {})
        return loss, plots, final_state_in(changed)


def final_state_in(changed: Mapping[str, Any]) -> Any:
    """State after a batch, from the variables changed by the forward pass."""
    return changed.get("intermediates", {}).get("final_state")


def global_norm(grads: Any) -> Any:
    """Norm of all gradients as one vector."""
    return jnp.sqrt(sum(jnp.vdot(gradient, gradient) for gradient in jax.tree.leaves(grads)))


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
