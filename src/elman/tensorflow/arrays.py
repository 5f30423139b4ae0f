"""Arrays under the book's names, devices, and data sets."""

from typing import Any

import numpy as np
import tensorflow as tf

from elman.book import data_sets, translation
from elman.book.names import Devices

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


class DataModule(data_sets.DataModule):
    """Base class of data sets."""

    def to_tensor(self, array: np.ndarray) -> tf.Tensor:
        """Convert a NumPy array to a tensor."""
        return tf.constant(array)

    def to_array(self, tensor: Any) -> Any:
        """Convert a tensor, or anything that NumPy can convert, to a NumPy array."""
        return numpy(tensor) if tf.is_tensor(tensor) else super().to_array(tensor)


class Text(DataModule):
    """Base class of data sets of token ids."""

    def to_tensor(self, array: np.ndarray) -> tf.Tensor:
        """Convert a NumPy array of ids to a tensor of 32-bit integers, as in d2l."""
        return tf.constant(array, tf.int32)


class TimeMachine(data_sets.TimeMachine, Text):
    """The Time Machine in overlapping windows, as in d2l."""

    __init__ = data_sets.TimeMachine.build_windows


class TextFile(data_sets.TextFile, Text):
    """Text of any size, in three parts that do not overlap: `train`, `val`, `test`."""


class MTFraEng(translation.MTFraEng, Text):
    """Pairs of English and French sentences, as in d2l."""

    __init__ = translation.MTFraEng.build_pairs


class PairsFile(translation.PairsFile, Text):
    """Pairs of a file of your own: on each line a source, a tab and its target."""
