"""Overlap of an exchange with the backward pass, in a plan: PyTorch sends some gradients early.

The gradients of a layer are complete after its backward pass. The backward passes of the layers
below it take a share of the time that follows from their products: a product is computed once
forward and twice backward.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from elman.core.model.weights import Architecture, layer_names, products, shapes
from elman.core.training.early import early_parts


@dataclass(frozen=True)
class Early:
    """Gradients that are sent early.

    - `numbers`: how many.
    - `left`: share of the time for all gradients of a shard that is left when they are complete.
    """

    numbers: int
    left: float


def early_gradients(arch: Architecture) -> list[Early]:
    """Gradients of a model that PyTorch sends early, in the order of the messages."""
    return [
        Early(part.length, 2 / 3 * _products_below(arch, part.names) / products(arch))
        for part in early_parts(shapes(arch))
    ]


def _products_below(arch: Architecture, names: frozenset[str]) -> int:
    """Products for a token of the recurrent layers below the lowest one with some weights."""
    below = arch.layers
    for layer, (suffix,) in enumerate(layer_names(arch.layers)):
        if any(name.endswith(suffix) for name in names):
            below = layer
            break
    output_layer = arch.vocab * arch.hidden
    return products(replace(arch, layers=below)) - output_layer if below else 0


def seconds_after(
    gradients: float, early: Sequence[Early], seconds_for: Callable[[int], float]
) -> float:
    """Seconds from the end of the backward pass until the network has moved all early messages.

    - `gradients`: seconds for the gradients of a shard.
    - `seconds_for`: seconds that the network needs for the message of so many gradients.
    """
    ended = -gradients
    for one in early:
        ended = max(ended, -one.left * gradients) + seconds_for(one.numbers)
    return max(0.0, ended)
