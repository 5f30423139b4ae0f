"""Arrays under the book's names, and devices."""

import numpy as np
import torch

from elman.core.training.devices import Devices

arange = torch.arange
concat = torch.cat
cos = torch.cos
exp = torch.exp
float32 = torch.float32
int32 = torch.int32
int64 = torch.int64
log = torch.log
matmul = torch.matmul
normal = torch.normal
ones = torch.ones
rand = torch.rand
randn = torch.randn
sigmoid = torch.sigmoid
sin = torch.sin
split = torch.tensor_split
stack = torch.stack
tanh = torch.tanh
tensor = torch.tensor
zeros = torch.zeros
argmax = torch.Tensor.argmax
astype = torch.Tensor.type
reduce_mean = torch.Tensor.mean
reduce_sum = torch.Tensor.sum
relu = torch.relu
reshape = torch.Tensor.reshape
size = torch.Tensor.numel
swapaxes = torch.Tensor.swapaxes
to = torch.Tensor.to
transpose = torch.Tensor.t


def numpy(x: torch.Tensor) -> np.ndarray:
    """Convert a tensor on any device to a NumPy array, without its gradient."""
    return x.detach().cpu().numpy()


def cpu() -> torch.device:
    """The CPU."""
    return torch.device("cpu")


def gpu(i: int = 0) -> torch.device:
    """The i-th GPU: a CUDA device, or Apple's if there is no CUDA."""
    if not torch.cuda.is_available() and torch.backends.mps.is_available():
        return torch.device("mps")  # there is at most one
    return torch.device(f"cuda:{i}")


def num_gpus() -> int:
    """Number of available GPUs."""
    return torch.cuda.device_count() or int(torch.backends.mps.is_available())


_devices = Devices(cpu, gpu, num_gpus)
try_gpu = _devices.try_gpu
try_all_gpus = _devices.try_all_gpus
devices = _devices.names
