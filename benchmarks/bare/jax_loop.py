"""The seed's job as a plain JAX loop: rows looked up, lax.scan, one jitted step and update."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp


def first_parameters(vocab: int) -> dict[str, Any]:
    """Random parameters of an RNN of 32 units and its output layer."""
    keys = jax.random.split(jax.random.PRNGKey(0), 3)
    return {
        "W_xh": jax.random.normal(keys[0], (vocab, 32)) * 0.1,
        "W_hh": jax.random.normal(keys[1], (32, 32)) * 0.1,
        "b_h": jnp.zeros(32),
        "W_hq": jax.random.normal(keys[2], (32, vocab)) * 0.1,
        "b_q": jnp.zeros(vocab),
    }


def loss_of(parameters: dict[str, Any], X: Any, Y: Any) -> Any:
    """The mean loss of ids X and targets Y, (batch, steps)."""
    x = (parameters["W_xh"] + parameters["b_h"])[X.T]  # (steps, batch, hidden)

    def step(h: Any, x: Any) -> tuple[Any, Any]:
        h = jnp.tanh(x + h @ parameters["W_hh"])
        return h, h

    _, hidden = jax.lax.scan(step, jnp.zeros((len(X), 32)), x, unroll=8)
    logits = hidden @ parameters["W_hq"] + parameters["b_q"]  # (steps, batch, vocab)
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), Y.T[..., None], -1)
    return -picked.mean()


@jax.jit
def update(parameters: dict[str, Any], X: Any, Y: Any) -> tuple[dict[str, Any], Any]:
    """The parameters after one step of SGD at a rate of 1, and the loss before it."""
    loss, gradients = jax.value_and_grad(loss_of)(parameters, X, Y)
    norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in gradients.values()))
    scale = jnp.minimum(1, 1 / norm)
    return {name: p - scale * gradients[name] for name, p in parameters.items()}, loss


def epoch(data: Any) -> Callable[[], None]:
    """A function that trains one epoch and validates."""
    parameters = first_parameters(len(data.vocab))
    X, Y = data.X.astype(np.int32), data.Y.astype(np.int32)
    rng, validate = np.random.default_rng(0), jax.jit(loss_of)

    def run() -> None:
        nonlocal parameters
        order = rng.permutation(10_000)
        for start in range(0, 10_000, 1024):
            rows = order[start : start + 1024]
            parameters, loss = update(parameters, X[rows], Y[rows])
            loss.item()
        for start in range(10_000, 15_000, 1024):
            rows = slice(start, min(start + 1024, 15_000))
            validate(parameters, X[rows], Y[rows]).item()

    return run


def predict(data: Any) -> Callable[[], None]:
    """A function that writes 1,000 characters."""
    parameters = first_parameters(len(data.vocab))

    @jax.jit
    def step(parameters: dict[str, Any], token: Any, h: Any) -> tuple[Any, Any]:
        x = (parameters["W_xh"] + parameters["b_h"])[token]
        h = jnp.tanh(x + h @ parameters["W_hh"])
        return (h @ parameters["W_hq"] + parameters["b_q"]).argmax(-1), h

    def run() -> None:
        token, h = jnp.zeros(1, int), jnp.zeros((1, 32))
        for _ in range(1000):
            token, h = step(parameters, token, h)
            token.item()

    return run
