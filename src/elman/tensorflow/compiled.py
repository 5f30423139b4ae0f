"""Functions compiled to TensorFlow graphs; those that cannot be compiled run eagerly."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import tensorflow as tf


class Compiled:
    """Function compiled to TensorFlow graphs, one for each set of argument shapes.

    A function that needs the value of a tensor cannot be traced and runs eagerly. With `xla`, XLA
    compiles the graphs if it can; the function must then have no side effects.
    """

    def __init__(self, function: Callable[..., Any], xla: bool = False) -> None:
        self.function = function
        self.jit_options = (True, False) if xla else (False,)
        self.graphs: dict[Any, Callable[..., Any]] = {}

    def __call__(self, *arguments: Any) -> Any:
        """Call the function, compiled if possible."""
        leaves = [leaf for leaf in tf.nest.flatten(arguments) if leaf is not None]
        if not all(tf.is_tensor(leaf) or isinstance(leaf, np.ndarray) for leaf in leaves):
            return self.function(*arguments)
        key = (*map(type, arguments), *[(leaf.shape, leaf.dtype) for leaf in leaves])
        if key not in self.graphs:
            self.graphs[key] = self._trace(arguments)
        return self.graphs[key](*arguments)

    def _trace(self, arguments: Sequence[Any]) -> Callable[..., Any]:
        for xla in self.jit_options:
            with suppress(Exception):  # the user's code may raise anything
                # float(tensor) has to fail, and with AutoGraph it would be another tensor.
                graph = tf.function(self.function, autograph=False, jit_compile=xla)
                traced: Callable[..., Any] = graph.get_concrete_function(*arguments)
                if xla:
                    traced(*arguments)  # XLA compiles, or fails, when first called
                return traced
        return self.function
