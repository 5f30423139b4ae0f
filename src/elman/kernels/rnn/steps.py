"""Operations and arrays of a batch that is processed step by step."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.kernels.codegen.linking import inner
from elman.kernels.rnn.packing import (
    PACK_TABLE,
    Accumulators,
    Array,
    PackedWeights,
    Parameters,
)
from elman.kernels.rnn.work import Batch, Work

# Operations after packing: on a single block of sequences, sums over the blocks of a phase, and
# final operations. For the output layer, a phase's LAYER is the first of the blocks of positions
# that are processed at once, and its STEP is their number.
(
    BEGIN,
    LOOK_UP,
    DROP,
    ROUND,
    PROJECT,
    FORWARD,
    HEAD,
    TRANSPOSE,
    LOGITS,
    SOFTMAX,
    HEAD_BACK,
    END,
    BACKWARD,
    ROUND_GRADIENTS,
    BELOW,
    DROP_BACK,
    HEAD_WEIGHTS,
    WEIGHTS,
    INPUT_WEIGHTS,
    TABLE,
    EMBEDDING,
    SUM,
    SUM_TABLE,
) = range(PACK_TABLE + 1, PACK_TABLE + 24)

ALL_STEPS = -1  # STEP of a phase whose parts are independent of the layer's other parts


# Indices of the part counts: what a phase is divided by.
UNITS, COLUMNS, TOKENS = range(3)  # units of a layer, columns of a product, the vocabulary


class Steps(NamedTuple):
    """Arrays of a batch that is processed step by step."""

    batch: Batch
    parameters: Parameters
    packed: PackedWeights
    works: list[Work]  # one for each block that is processed together
    sums: Array  # (1, floats): the memory of the accumulators
    accumulators: Accumulators
    totals: NDArray[np.float64]  # (blocks,): losses in nats; NaN for ids beyond the vocabulary
    cuts: NDArray[np.int64]  # (3,): part counts, see above


@inner
def bounds(part, parts, number, multiple):
    """Start and end of a part; multiples of `multiple`, except at the end."""
    wholes = -(-number // multiple)
    first, stop = wholes * part // parts, wholes * (part + 1) // parts
    return first * multiple, min(number, stop * multiple)
