"""The names of D2L on JAX and flax.linen: `from elman import jax as d2l`."""

from elman.errors import not_installed

try:
    import flax  # noqa: F401
    import jax  # noqa: F401
    import optax  # noqa: F401
except ModuleNotFoundError as error:
    raise not_installed("jax", error) from error

from elman.book.names import *
from elman.jax.arrays import *
from elman.jax.layers import *
from elman.jax.model import *
from elman.jax.seq2seq import *
from elman.jax.step import *
from elman.jax.weights import *
