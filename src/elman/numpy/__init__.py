"""The specification: recurrent language models in plain NumPy, with gradients by hand.

Arrays inside a layer are (steps, batch, features). Every other module must agree with this one.
"""

from elman.book.names import *
from elman.numpy.arrays import *
from elman.numpy.layers import *
from elman.numpy.model import *
from elman.numpy.step import *
from elman.numpy.weights import *
