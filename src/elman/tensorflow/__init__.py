"""The names of D2L on TensorFlow: `from elman import tensorflow as d2l`."""

import os
import sys
from types import ModuleType

from elman.errors import ElmanError, not_installed, requirements

# The book is written for Keras 2, now called tf_keras. TensorFlow chooses its Keras when tf.keras
# is first used; until then tf.keras is not a real module.
if not sys.modules.get("tensorflow") or type(sys.modules["tensorflow"].keras) is not ModuleType:
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

from elman.book.names import *
from elman.tensorflow.arrays import *
from elman.tensorflow.layers import *
from elman.tensorflow.model import *
from elman.tensorflow.seq2seq import *
from elman.tensorflow.step import *
from elman.tensorflow.weights import *
