"""Arrays under the book's names, and devices."""

from operator import attrgetter

import mxnet
import numpy as _numpy
from mxnet import np, npx

from elman.book.devices import Devices

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
