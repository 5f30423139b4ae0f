"""Arrays under the book's names, devices, and data sets."""

from typing import Any

import numpy as np
import torch

from elman.book import data_sets, translation
from elman.book.names import Devices

float32, int32, int64 = torch.float32, torch.int32, torch.int64

cos, exp, log = torch.cos, torch.exp, torch.log
relu, sigmoid, sin, tanh = torch.relu, torch.sigmoid, torch.sin, torch.tanh

matmul, argmax = torch.matmul, torch.Tensor.argmax
reduce_mean, reduce_sum = torch.Tensor.mean, torch.Tensor.sum

concat, split, stack = torch.cat, torch.tensor_split, torch.stack
reshape, swapaxes, transpose = torch.Tensor.reshape, torch.Tensor.swapaxes, torch.Tensor.t

arange, ones = torch.arange, torch.ones
tensor, zeros = torch.tensor, torch.zeros
normal, rand, randn = torch.normal, torch.rand, torch.randn

astype, expand_dims = torch.Tensor.type, torch.Tensor.unsqueeze
size, to = torch.Tensor.numel, torch.Tensor.to
stop_gradient = torch.Tensor.detach


def numpy(x: torch.Tensor) -> np.ndarray:
    """Convert a tensor on any device to a NumPy array, without its gradient."""
    return x.detach().cpu().numpy()


def cpu() -> torch.device:
    """The CPU."""
    return torch.device("cpu")


def gpu(i: int = 0) -> torch.device:
    """The i-th GPU: a CUDA device, or Apple's GPU without CUDA."""
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


class DataModule(data_sets.DataModule):
    """Base class of data sets."""

    def to_tensor(self, array: np.ndarray) -> torch.Tensor:
        """Convert a NumPy array to a tensor that shares its memory."""
        return torch.from_numpy(array)

    def to_array(self, tensor: Any) -> Any:
        """Convert a tensor, or anything that NumPy can convert, to a NumPy array."""
        return numpy(tensor) if isinstance(tensor, torch.Tensor) else super().to_array(tensor)


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
