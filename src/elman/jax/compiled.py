"""Functions compiled by `jax.jit`; those that cannot be compiled run uncompiled."""

from collections.abc import Callable
from typing import Any

import jax


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` by `jax.jit`; if it needs the values of its arrays, it runs uncompiled."""
    run = jax.jit(function)

    def call(*arguments: Any) -> Any:
        nonlocal run
        try:
            return run(*arguments)
        except (TypeError, IndexError):  # the base classes of tracing errors
            if run is function:
                raise
        result = function(*arguments)  # raises again if the caller made a mistake
        run = function
        return result

    return call
