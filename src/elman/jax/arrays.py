"""Arrays under the book's names, and devices."""

import random
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from elman.core.training.devices import Devices

arange = jnp.arange
concat = jnp.concatenate
cos = jnp.cos
exp = jnp.exp
float32 = jnp.float32
int32 = jnp.int32
int64 = jnp.int64
log = jnp.log
matmul = jnp.matmul


def get_key() -> jax.Array:
    """New random key at each call; `random.seed` makes the sequence repeat."""
    return jax.random.PRNGKey(random.randrange(10**6))


def normal(shape: Sequence[int]) -> jax.Array:
    """Standard normal samples."""
    return jax.random.normal(get_key(), shape)


ones = jnp.ones


def rand(*shape: int) -> jax.Array:
    """Uniform samples between 0 and 1."""
    return jax.random.uniform(get_key(), shape)


def randn(*shape: int) -> jax.Array:
    """Standard normal samples."""
    return normal(shape)


sigmoid = jax.nn.sigmoid
sin = jnp.sin
split = jnp.split
stack = jnp.stack
tanh = jnp.tanh
tensor = jnp.array
zeros = jnp.zeros

argmax = jnp.argmax
astype = jnp.astype
reduce_mean = jnp.mean
reduce_sum = jnp.sum
relu = jax.nn.relu
reshape = jnp.reshape
size = jnp.size
swapaxes = jnp.swapaxes
to = jax.device_put
transpose = jnp.transpose


def numpy(x: Any) -> np.ndarray:
    """Convert an array on any device to a NumPy array."""
    return np.asarray(x)


def cpu() -> jax.Device:
    """The CPU."""
    return jax.devices("cpu")[0]


def gpu(i: int = 0) -> jax.Device:
    """The i-th GPU."""
    return jax.devices("gpu")[i]


def num_gpus() -> int:
    """Number of available GPUs."""
    try:
        return len(jax.devices("gpu"))
    except RuntimeError:  # JAX finds none
        return 0


_devices = Devices(cpu, gpu, num_gpus)
try_gpu = _devices.try_gpu
try_all_gpus = _devices.try_all_gpus
devices = _devices.names
