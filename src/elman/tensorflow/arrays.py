"""Arrays under the book's names, and devices."""

from typing import Any

import numpy as np
import tensorflow as tf

from elman.core.training.devices import Devices

arange = tf.range
concat = tf.concat
cos = tf.cos
exp = tf.exp
float32 = tf.float32
int32 = tf.int32
int64 = tf.int64
log = tf.math.log
matmul = tf.matmul
normal = tf.random.normal
ones = tf.ones
rand = tf.random.uniform
randn = tf.random.normal
sigmoid = tf.sigmoid
sin = tf.sin
split = tf.split
stack = tf.stack
tanh = tf.tanh
tensor = tf.constant
zeros = tf.zeros

argmax = tf.argmax
astype = tf.cast
reduce_mean = tf.reduce_mean
reduce_sum = tf.reduce_sum
relu = tf.nn.relu
reshape = tf.reshape


def size(a: tf.Tensor) -> int:
    """Number of elements in a tensor."""
    return int(tf.size(a))


swapaxes = tf.experimental.numpy.swapaxes


def to(x: tf.Tensor, device: Any) -> tf.Tensor:
    """Copy a tensor to a device."""
    with device:
        return tf.identity(x)


transpose = tf.transpose


def numpy(x: tf.Tensor) -> np.ndarray:
    """Convert a tensor or a variable to a NumPy array."""
    return x.numpy()


def cpu() -> Any:
    """The CPU."""
    return tf.device("/CPU:0")


def gpu(i: int = 0) -> Any:
    """The i-th GPU."""
    return tf.device(f"/GPU:{i}")


def num_gpus() -> int:
    """Number of available GPUs."""
    return len(tf.config.list_physical_devices("GPU"))


_devices = Devices(cpu, gpu, num_gpus)
try_gpu = _devices.try_gpu
try_all_gpus = _devices.try_all_gpus


def devices() -> list[str]:
    """Names of the available devices."""
    return ["cpu", *(f"gpu:{i}" for i in range(num_gpus()))]
