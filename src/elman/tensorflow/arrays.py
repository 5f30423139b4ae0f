"""Arrays under the book's names, and devices."""

from typing import Any

import numpy as np
import tensorflow as tf

from elman.book.devices import Devices

float32, int32, int64 = tf.float32, tf.int32, tf.int64

cos, exp, log = tf.cos, tf.exp, tf.math.log
relu, sigmoid, sin, tanh = tf.nn.relu, tf.sigmoid, tf.sin, tf.tanh

matmul, argmax = tf.matmul, tf.argmax
reduce_mean, reduce_sum = tf.reduce_mean, tf.reduce_sum

concat, split, stack = tf.concat, tf.split, tf.stack
reshape, swapaxes, transpose = tf.reshape, tf.experimental.numpy.swapaxes, tf.transpose

arange, ones = tf.range, tf.ones
tensor, zeros = tf.constant, tf.zeros
normal, rand, randn = tf.random.normal, tf.random.uniform, tf.random.normal

astype, expand_dims = tf.cast, tf.expand_dims


def size(a: tf.Tensor) -> int:
    """Number of elements in a tensor."""
    return int(tf.size(a))


def to(x: tf.Tensor, device: Any) -> tf.Tensor:
    """Copy a tensor to a device."""
    with device:
        return tf.identity(x)


stop_gradient = tf.stop_gradient


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
