"""Arrays under the book's names, devices, and data sets."""

from operator import attrgetter
from typing import Any

import mxnet
import numpy as _numpy
from mxnet import nd, np, npx

from elman.book import data_sets, translation
from elman.book.names import Devices

npx.set_np()

float32, int32, int64 = np.float32, np.int32, np.int64

cos, exp, log = np.cos, np.exp, np.log
relu, sigmoid, sin, tanh = npx.relu, npx.sigmoid, np.sin, np.tanh

matmul, argmax = np.dot, np.ndarray.argmax
reduce_mean, reduce_sum = np.ndarray.mean, np.ndarray.sum

concat, split, stack = np.concatenate, np.split, np.stack
reshape, swapaxes, transpose = np.ndarray.reshape, np.ndarray.swapaxes, attrgetter("T")

arange, ones = np.arange, np.ones
tensor, zeros = np.array, np.zeros
normal, rand, randn = np.random.normal, np.random.rand, np.random.randn

astype, expand_dims = np.ndarray.astype, np.expand_dims
size, to = attrgetter("size"), np.ndarray.as_in_ctx
stop_gradient = np.ndarray.detach


def numpy(x: np.ndarray) -> _numpy.ndarray:
    """Convert an array on any device to a NumPy array."""
    return x.asnumpy()


def cpu() -> mxnet.Context:
    """The CPU."""
    return npx.cpu()


def gpu(i: int = 0) -> mxnet.Context:
    """The i-th GPU."""
    return npx.gpu(i)


def num_gpus() -> int:
    """Number of available GPUs."""
    return npx.num_gpus()


_devices = Devices(cpu, gpu, num_gpus)
try_gpu = _devices.try_gpu
try_all_gpus = _devices.try_all_gpus
devices = _devices.names


class DataModule(data_sets.DataModule):
    """Base class of data sets."""

    def to_tensor(self, array: _numpy.ndarray) -> np.ndarray:
        """Convert a NumPy array to an MXNet array; a copy."""
        return from_numpy(array)

    def to_array(self, tensor: Any) -> Any:
        """Convert an MXNet array, or anything that NumPy can convert, to a NumPy array."""
        return numpy(tensor) if isinstance(tensor, np.ndarray) else super().to_array(tensor)


def from_numpy(array: _numpy.ndarray) -> np.ndarray:
    """Convert a NumPy array to an MXNet array; a copy. `np.array` would wait for MXNet's engine."""
    return nd.from_numpy(array.copy(), array_cls=np.ndarray)


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
