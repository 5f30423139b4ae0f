"""Functions compiled by `jax.jit`, which run uncompiled where they cannot be."""

from collections.abc import Callable
from typing import Any

import jax


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` by `jax.jit`; one that needs the values of its arrays runs uncompiled."""
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
