"""Functions under `jax.jit` where they can be."""

from collections.abc import Callable
from typing import Any

import jax


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` under `jax.jit`, or as it is where its code needs the values of its arrays."""
    run = jax.jit(function)

    def call(*arguments: Any) -> Any:
        nonlocal run
        try:
            return run(*arguments)
        except (TypeError, IndexError):  # as are the errors that tracing raises
            if run is function:
                raise
        result = function(*arguments)  # which raises what is the caller's mistake
        run = function
        return result

    return call
