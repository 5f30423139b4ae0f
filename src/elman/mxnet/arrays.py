"""Arrays under the book's names, and devices."""

from operator import attrgetter

import mxnet
import numpy as _numpy
from mxnet import np, npx

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
stack = np.stack
tanh = np.tanh
tensor = np.array
zeros = np.zeros
argmax = np.ndarray.argmax
astype = np.ndarray.astype
reduce_mean = np.ndarray.mean
reduce_sum = np.ndarray.sum
reshape = np.ndarray.reshape
size = attrgetter("size")
swapaxes = np.ndarray.swapaxes
to = np.ndarray.as_in_ctx
transpose = attrgetter("T")


def numpy(x: np.ndarray) -> _numpy.ndarray:
    """An array of MXNet's as one of NumPy's, from wherever it lies."""
    return x.asnumpy()


def cpu() -> mxnet.Context:
    """The CPU."""
    return npx.cpu()


def gpu(i: int = 0) -> mxnet.Context:
    """The i-th GPU."""
    return npx.gpu(i)


def num_gpus() -> int:
    """Number of GPUs that can be used here."""
    return npx.num_gpus()


def try_gpu(i: int = 0) -> mxnet.Context:
    """The i-th GPU where there is one, else the CPU."""
    return gpu(i) if num_gpus() > i else cpu()


def try_all_gpus() -> list[mxnet.Context]:
    """All GPUs; an empty list where there is none."""
    return [gpu(i) for i in range(num_gpus())]


def devices() -> list[str]:
    """The devices that can be used here."""
    return [str(device) for device in (cpu(), *try_all_gpus())]
