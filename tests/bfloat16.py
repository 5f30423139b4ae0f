"""Rounding to bfloat16 by its definition, for the tests of all that rounds."""

import numpy as np

HALVES = np.arange(0x7F80, dtype=np.uint32)  # of the finite numbers that are not negative
NUMBERS = np.append((HALVES << 16).view(np.float32).astype(np.float64), 2.0**128)  # or infinity
SMALLEST_NORMAL = 2.0**-126
HALFWAY = [1 + 2**-8, 1 + 3 * 2**-8, 2.0**128 - 2.0**119]  # between two
EXTREME = [0, np.inf, SMALLEST_NORMAL, SMALLEST_NORMAL * (1 - 2**-20), 2.0**-127, 2.0**-149]
HARD = np.array(HALFWAY + EXTREME, np.float32)


def nearest(x: np.ndarray) -> np.ndarray:
    """The nearest bfloat16 of each number; of two, the one whose last bit is 0."""
    exact = np.where(np.isnan(x), 0, x).astype(np.float64)
    magnitude = np.minimum(np.abs(exact), NUMBERS[-1])
    low = np.minimum(np.searchsorted(NUMBERS, magnitude, "right") - 1, len(NUMBERS) - 2)
    down, up = magnitude - NUMBERS[low], NUMBERS[low + 1] - magnitude
    rounded = low + ((up < down) | ((up == down) & (low % 2 == 1)))
    bits = (rounded.astype(np.uint32) << 16) | (np.signbit(x).astype(np.uint32) << 31)
    return np.where(np.isnan(x), x, bits.view(np.float32))


def numbers(size: int) -> np.ndarray:
    """Numbers at every scale, those that are hard to round among them."""
    rng = np.random.default_rng(size)
    bits = rng.integers(0, 1 << 32, size, dtype=np.uint32)
    bits[::3] = (bits[::3] & 0xFFFF0000) | 0x8000  # in the middle of two
    x = bits.view(np.float32)
    x[: 2 * len(HARD)] = np.concatenate([HARD, -HARD])[:size]
    return x
