"""The scan by which a GPU computes a linear cell is the loop of the specification."""

from typing import Any

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from elman.jax.layers import scan_linear


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_a_scan_is_the_loop_and_has_its_gradient(steps: int, reverse: bool) -> None:
    rng = np.random.default_rng(steps)
    a, b = rng.uniform(0, 1, (steps, 2, 3)), rng.normal(size=(steps, 2, 3))
    first = rng.normal(size=(2, 3))

    def loop(a: jax.Array, b: jax.Array, h: jax.Array) -> jax.Array:
        outputs = [h] * steps
        for t in reversed(range(steps)) if reverse else range(steps):
            h = outputs[t] = a[t] * h + b[t]
        return jnp.stack(outputs)

    def scan(a: jax.Array, b: jax.Array, h: jax.Array) -> jax.Array:
        return scan_linear(a, b, h, reverse)

    def total(function: Any) -> Any:
        return jax.jit(jax.grad(lambda *parts: (function(*parts) ** 2).sum(), (0, 1, 2)))

    found, wanted = (jax.jit(each)(a, b, first) for each in (scan, loop))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    for found, wanted in zip(total(scan)(a, b, first), total(loop)(a, b, first), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
