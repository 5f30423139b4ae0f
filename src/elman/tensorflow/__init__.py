"""The names of D2L on TensorFlow: `from elman import tensorflow as d2l`."""

import os
import sys
from types import ModuleType

from elman.core.errors import ElmanError, not_installed, requirements

# The book is written for Keras 2, now called tf_keras. TensorFlow chooses its Keras when tf.keras
# is first used; until then tf.keras is not a real module.
if type(getattr(sys.modules.get("tensorflow"), "keras", None)) is not ModuleType:
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # hides a notice about XLA
try:
    import tensorflow as tf

    tf.keras.layers  # noqa: B018
    sys.modules.setdefault("tensorflow.keras", tf.keras)  # importing it would choose again
except ModuleNotFoundError as error:
    raise not_installed("tensorflow", error) from error
except ImportError as error:
    raise ElmanError(
        f"{error} TensorFlow needs tf_keras: pip install "
        f"{requirements('tensorflow') or 'tf_keras'}, or set TF_USE_LEGACY_KERAS=0 for Keras 3"
    ) from error
from elman.core.files.download import DATA_URL, download
from elman.core.hyperparameters import HyperParameters, add_to_class, check_len, check_shape
from elman.core.model.weights import Architecture
from elman.core.text.vocab import Vocab
from elman.core.training.plotting import ProgressBoard, plot, set_figsize
from elman.tensorflow.arrays import (
    arange,
    argmax,
    astype,
    concat,
    cos,
    cpu,
    devices,
    exp,
    float32,
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
from elman.tensorflow.data import DataModule, TextFile, TimeMachine
from elman.tensorflow.layers import GRU, LSTM, RNN, RNNScratch
from elman.tensorflow.model import RNNLM, Classifier, LinearRegression, Module, RNNLMScratch
from elman.tensorflow.trainer import Trainer
from elman.tensorflow.weights import architecture, build, export_weights, version

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
