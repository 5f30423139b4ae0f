"""Weights in half precision, if that hardly changes the model's predictions."""

import logging
import math
from typing import NamedTuple

import numpy as np

from elman import numpy as specification
from elman.errors import ElmanError
from elman.inference.language_model import check_finite
from elman.inference.sampling import Sampler, softmax
from elman.model import weights
from elman.model.weights import Architecture, Weights
from elman.text.codec import Codec

MAX_BYTES = 64 << 20  # of all weights
TEXTS, TOKENS = 16, 64  # generated to compare probabilities
TOLERANCE = 1e-3  # of a probability
MAX_HALF = 65504.0  # the largest number of half precision

log = logging.getLogger("elman")


class Stored(NamedTuple):
    """Weights as concatenated bytes, little-endian, in half or single precision."""

    half: bool
    shapes: dict[str, tuple[int, ...]]
    content: bytes


def check_size(arch: Architecture, bytes_per_weight: int = 2) -> None:
    """Raise an ElmanError if the weights take more than MAX_BYTES."""
    size = bytes_per_weight * weights.count(arch)
    if size > MAX_BYTES:
        precision, got = "half" if bytes_per_weight == 2 else "single", math.ceil(size / 2**20)
        raise ElmanError(
            f"a page must have {MAX_BYTES >> 20} MiB of weights or fewer, got {got} in {precision} "
            "precision: train a model with fewer hidden units or symbols"
        )


def smallest(arch: Architecture, values: Weights, codec: Codec) -> Stored:
    """Weights in half precision, or in single if probabilities change by more than TOLERANCE."""
    single = {name: value.astype("<f4") for name, value in values.items()}
    half = {name: value.clip(-MAX_HALF, MAX_HALF).astype("<f2") for name, value in values.items()}
    change = _change(arch, single, half, codec)
    fits = change <= TOLERANCE
    if not fits:
        check_size(arch, 4)
        log.info("weights in single precision: half precision changes odds by up to %.2g", change)
    stored = half if fits else single
    content = b"".join(value.tobytes() for value in stored.values())
    return Stored(fits, {name: value.shape for name, value in stored.items()}, content)


def _change(arch: Architecture, single: Weights, half: Weights, codec: Codec) -> float:
    """Largest difference in probability, in texts written by the model itself."""
    exact, rounded = specification.build(arch, single), specification.build(arch, half)
    sampler, rng = Sampler(excluded=(codec.vocab.unk,)), np.random.default_rng(0)
    ids = np.arange(TEXTS)[:, None] * arch.vocab // TEXTS  # (texts, 1)
    state = rounded_state = None
    changes = []
    for _ in range(TOKENS):
        logits, state = exact.step(ids, state)  # (texts, 1, vocab)
        rounded_logits, rounded_state = rounded.step(ids, rounded_state)
        check_finite(logits)
        changes.append(np.abs(softmax(logits) - softmax(rounded_logits)).max())
        ids = np.array([[sampler(row, rng)] for row in logits[:, -1]])
    return float(np.max(changes))  # NaN if there is one
