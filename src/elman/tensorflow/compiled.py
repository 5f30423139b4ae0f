"""Functions as TensorFlow graphs where they can be."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import tensorflow as tf


class Compiled:
    """A function as TensorFlow graphs, one for each set of shapes of its arguments.

    Where it can be no graph, for it asks a tensor's value, it runs as it is. With `xla`, for which
    it must have no effects, XLA compiles the graphs where it can.
    """

    def __init__(self, function: Callable[..., Any], xla: bool = False) -> None:
        self.function = function
        self.ways = (True, False) if xla else (False,)
        self.graphs: dict[Any, Callable[..., Any]] = {}

    def __call__(self, *arguments: Any) -> Any:
        """Call the function, compiled where it can be."""
        leaves = [leaf for leaf in tf.nest.flatten(arguments) if leaf is not None]
        if not all(hasattr(leaf, "shape") for leaf in leaves):
            return self.function(*arguments)
        key = (*map(type, arguments), *[(leaf.shape, leaf.dtype) for leaf in leaves])
        if key not in self.graphs:
            self.graphs[key] = self._trace(arguments)
        return self.graphs[key](*arguments)

    def _trace(self, arguments: Sequence[Any]) -> Callable[..., Any]:
        for xla in self.ways:
            with suppress(Exception):  # the user's code may raise anything
                # AutoGraph would make float(tensor) another tensor, where it has to fail.
                graph = tf.function(self.function, autograph=False, jit_compile=xla)
                traced: Callable[..., Any] = graph.get_concrete_function(*arguments)
                if xla:
                    traced(*arguments)  # XLA compiles, or fails, when first called
                return traced
        return self.function
