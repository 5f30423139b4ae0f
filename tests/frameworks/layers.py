"""Recurrent layers of any framework."""

from typing import Any

LAZY = ("tensorflow", "jax", "mxnet")  # a layer learns the size of its inputs from the first


def layers_of(module: Any, name: str, inputs: int, hidden: int, **options: Any) -> Any:
    """Layers whose size of input some frameworks learn from the first batch, as in the book."""
    told = {} if module.__name__.removeprefix("elman.") in LAZY else {"num_inputs": inputs}
    return getattr(module, name)(num_hiddens=hidden, **told, **options)
