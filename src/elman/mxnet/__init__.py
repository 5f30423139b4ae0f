"""The names of D2L on MXNet: `from elman import mxnet as d2l`."""

from elman.errors import ElmanError

try:
    import mxnet  # noqa: F401
except (ImportError, AttributeError) as error:
    what = "is not installed" if error.name == "mxnet" else f"does not load ({error})"
    raise ElmanError(  # newer Python lacks distutils, newer NumPy np.bool
        f"mxnet {what}: MXNet 1.9.1 requires Python 3.11 and numpy < 1.24 in a separate "
        "environment: in a clone of elman, "
        "python3.11 -m venv mx, then mx/bin/pip install '.[mxnet]'"
    ) from error
from elman.book.names import *
from elman.mxnet.arrays import *
from elman.mxnet.layers import *
from elman.mxnet.model import *
from elman.mxnet.seq2seq import *
from elman.mxnet.step import *
from elman.mxnet.weights import *
