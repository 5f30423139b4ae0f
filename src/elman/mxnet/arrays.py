"""Arrays under the book's names, and devices."""

from operator import attrgetter

import mxnet
import numpy as _numpy
from mxnet import np, npx

from elman.core.training.devices import Devices

npx.set_np()

arange = np.arange
concat = np.concatenate
cos = np.cos
exp = np.exp
float32 = np.float32
int32 = np.int32
int64 = np.int64
log = np.log
matmul = np.dot
normal = np.random.normal
ones = np.ones
rand = np.random.rand
randn = np.random.randn
sigmoid = npx.sigmoid
sin = np.sin
split = np.split
stack = np.stack
tanh = np.tanh
tensor = np.array
zeros = np.zeros
argmax = np.ndarray.argmax
astype = np.ndarray.astype
reduce_mean = np.ndarray.mean
reduce_sum = np.ndarray.sum
relu = npx.relu
reshape = np.ndarray.reshape
size = attrgetter("size")
swapaxes = np.ndarray.swapaxes
to = np.ndarray.as_in_ctx
transpose = attrgetter("T")


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
