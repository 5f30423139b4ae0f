"""Arrays under the book's names, devices, and data sets."""

import random
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from elman.book import data_sets, translation
from elman.book.names import Devices

float32, int32, int64 = jnp.float32, jnp.int32, jnp.int64

cos, exp, log = jnp.cos, jnp.exp, jnp.log
relu, sigmoid, sin, tanh = jax.nn.relu, jax.nn.sigmoid, jnp.sin, jnp.tanh

matmul, argmax = jnp.matmul, jnp.argmax
reduce_mean, reduce_sum = jnp.mean, jnp.sum

concat, split, stack = jnp.concatenate, jnp.split, jnp.stack
reshape, swapaxes, transpose = jnp.reshape, jnp.swapaxes, jnp.transpose

arange, ones = jnp.arange, jnp.ones
tensor, zeros = jnp.array, jnp.zeros


def get_key() -> jax.Array:
    """New random key at each call; `random.seed` resets the sequence."""
    return jax.random.PRNGKey(random.randrange(10**6))


def normal(shape: Sequence[int]) -> jax.Array:
    """Standard normal samples."""
    return jax.random.normal(get_key(), shape)


def rand(*shape: int) -> jax.Array:
    """Uniform samples between 0 and 1."""
    return jax.random.uniform(get_key(), shape)


def randn(*shape: int) -> jax.Array:
    """Standard normal samples."""
    return normal(shape)


astype, expand_dims, size, to = jnp.astype, jnp.expand_dims, jnp.size, jax.device_put
stop_gradient = jax.lax.stop_gradient


def numpy(x: Any) -> np.ndarray:
    """Convert an array on any device to a NumPy array."""
    return np.asarray(x)


def cpu() -> jax.Device:
    """The CPU of this process."""
    return jax.local_devices(backend="cpu")[0]


def gpu(i: int = 0) -> jax.Device:
    """The i-th GPU of this process."""
    return jax.local_devices(backend="gpu")[i]


def num_gpus() -> int:
    """Number of available GPUs."""
    try:
        return len(jax.local_devices(backend="gpu"))
    except RuntimeError:  # JAX finds none
        return 0


_devices = Devices(cpu, gpu, num_gpus)
try_gpu = _devices.try_gpu
try_all_gpus = _devices.try_all_gpus
devices = _devices.names


class DataModule(data_sets.DataModule):
    """Base class of data sets; minibatches are NumPy arrays, as in d2l."""

    def to_tensor(self, array: np.ndarray) -> np.ndarray:
        """Convert 64-bit integers to 32 bits, JAX's default width; keep other arrays."""
        return array.astype(np.int32) if array.dtype == np.int64 else array


class TimeMachine(data_sets.TimeMachine, DataModule):
    """The Time Machine in overlapping windows, as in d2l."""

    __init__ = data_sets.TimeMachine.build_windows


class TextFile(data_sets.TextFile, DataModule):
    """Text of any size, in three parts that do not overlap: `train`, `val`, `test`."""


class MTFraEng(translation.MTFraEng, DataModule):
    """Pairs of English and French sentences, as in d2l."""

    __init__ = translation.MTFraEng.build_pairs


class PairsFile(translation.PairsFile, DataModule):
    """Pairs of a file of your own: on each line a source, a tab and its target."""
