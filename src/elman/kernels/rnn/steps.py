"""Operations and arrays of a batch step by step."""

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

# Operations after the packing: those of a block of sequences by itself, those that add up over the
# blocks of a phase, and the last ones. For the output layer, LAYER of a phase is the first block of
# positions of those that are processed at once, and STEP their number.
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

ALL_STEPS = -1  # STEP of a phase whose parts need no other part of the layer


# Numbers of parts into which a phase is cut in one of two ways.
UNITS, COLUMNS, TOKENS = range(3)  # units of a layer, columns of a product, the vocabulary


class Steps(NamedTuple):
    """Arrays of a batch step by step."""

    batch: Batch
    parameters: Parameters
    packed: PackedWeights
    works: list[Work]  # of each block of those that are processed together
    sums: Array  # (1, floats): the memory of the accumulators
    accumulators: Accumulators
    totals: NDArray[np.float64]  # (blocks,): losses in nats; NaN for ids beyond the vocabulary
    cuts: NDArray[np.int64]  # (3,): numbers of parts, see above


@inner
def bounds(part, parts, number, multiple):
    """First of a part's things and the one after its last, multiples of a number but at the end."""
    wholes = -(-number // multiple)
    first, stop = wholes * part // parts, wholes * (part + 1) // parts
    return first * multiple, min(number, stop * multiple)
