"""The names of D2L on PyTorch: `from elman import torch as d2l`."""

from elman.errors import not_installed

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    raise not_installed("torch", error) from error

from elman.book.names import *
from elman.torch.arrays import *
from elman.torch.layers import *
from elman.torch.model import *
from elman.torch.seq2seq import *
from elman.torch.step import *
from elman.torch.weights import *
