"""The names of D2L on JAX and flax.linen: `from elman import jax as d2l`."""

from elman.core.errors import not_installed

try:
    import flax  # noqa: F401
    import jax  # noqa: F401
    import optax  # noqa: F401
except ModuleNotFoundError as error:
    raise not_installed("jax", error) from error

from elman.core.files.download import DATA_URL, download
from elman.core.hyperparameters import HyperParameters, add_to_class, check_len, check_shape
from elman.core.model.weights import Architecture
from elman.core.text.vocab import Vocab
from elman.core.training.plotting import ProgressBoard, plot, set_figsize
from elman.jax.arrays import (
    arange,
    argmax,
    astype,
    concat,
    cos,
    cpu,
    devices,
    exp,
    float32,
    get_key,
    gpu,
    int32,
    int64,
    log,
    matmul,
    normal,
    num_gpus,
    numpy,
    ones,
    rand,
    randn,
    reduce_mean,
    reduce_sum,
    reshape,
    sigmoid,
    sin,
    size,
    stack,
    swapaxes,
    tanh,
    tensor,
    to,
    transpose,
    try_all_gpus,
    try_gpu,
    zeros,
)
from elman.jax.data import DataModule, TextFile, TimeMachine
from elman.jax.layers import GRU, LSTM, RNN, RNNScratch
from elman.jax.model import RNNLM, Classifier, LinearRegression, Module, RNNLMScratch
from elman.jax.trainer import Trainer
from elman.jax.weights import architecture, build, export_weights, version

__all__ = [
    "DATA_URL",
    "GRU",
    "LSTM",
    "RNN",
    "RNNLM",
    "Architecture",
    "Classifier",
    "DataModule",
    "HyperParameters",
    "LinearRegression",
    "Module",
    "ProgressBoard",
    "RNNLMScratch",
    "RNNScratch",
    "TextFile",
    "TimeMachine",
    "Trainer",
    "Vocab",
    "add_to_class",
    "arange",
    "architecture",
    "argmax",
    "astype",
    "build",
    "check_len",
    "check_shape",
    "concat",
    "cos",
    "cpu",
    "devices",
    "download",
    "exp",
    "export_weights",
    "float32",
    "get_key",
    "gpu",
    "int32",
    "int64",
    "log",
    "matmul",
    "normal",
    "num_gpus",
    "numpy",
    "ones",
    "plot",
    "rand",
    "randn",
    "reduce_mean",
    "reduce_sum",
    "reshape",
    "set_figsize",
    "sigmoid",
    "sin",
    "size",
    "stack",
    "swapaxes",
    "tanh",
    "tensor",
    "to",
    "transpose",
    "try_all_gpus",
    "try_gpu",
    "version",
    "zeros",
]
