"""Plain JAX loops: rows looked up, lax.scan, one jitted function for each step and update."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

Parameters = dict[str, Any]
Step = Callable[[np.ndarray, np.ndarray], float]
SCORED = 1 << 16  # characters at a time


def first_parameters(vocab: int, hidden: int) -> Parameters:
    """Random parameters of an RNN and its output layer."""
    keys = jax.random.split(jax.random.PRNGKey(0), 3)
    return {
        "W_xh": jax.random.normal(keys[0], (vocab, hidden)) * 0.1,
        "W_hh": jax.random.normal(keys[1], (hidden, hidden)) * 0.1,
        "b_h": jnp.zeros(hidden),
        "W_hq": jax.random.normal(keys[2], (hidden, vocab)) * 0.1,
        "b_q": jnp.zeros(vocab),
    }


def read(parameters: Parameters, ids: Any, h: Any) -> tuple[Any, Any]:
    """The logits of ids, (steps, batch), from a state, (batch, hidden), and the state after."""

    def step(h: Any, x: Any) -> tuple[Any, Any]:
        h = jnp.tanh(x + h @ parameters["W_hh"])
        return h, h

    x = (parameters["W_xh"] + parameters["b_h"])[ids]  # (steps, batch, hidden)
    h, hiddens = jax.lax.scan(step, h, x, unroll=8)
    return hiddens @ parameters["W_hq"] + parameters["b_q"], h


def losses(logits: Any, targets: Any) -> Any:
    """The loss of each target."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], -1)


def loss_of(parameters: Parameters, X: Any, Y: Any) -> Any:
    """The mean loss of ids X and targets Y, (batch, steps)."""
    h = jnp.zeros((len(X), len(parameters["b_h"])))
    return losses(read(parameters, X.T, h)[0], Y.T).mean()


@jax.jit
def updated(parameters: Parameters, X: Any, Y: Any) -> tuple[Parameters, Any]:
    """The parameters after one step of SGD at a rate of 1, and the loss before it."""
    loss, gradients = jax.value_and_grad(loss_of)(parameters, X, Y)
    norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in gradients.values()))
    scale = jnp.minimum(1, 1 / norm)
    return {name: p - scale * gradients[name] for name, p in parameters.items()}, loss


def training(vocab: int, hidden: int) -> tuple[Step, Step]:
    """Functions of ids and targets, (batch, steps), that take an update, and validate."""
    parameters, compiled = first_parameters(vocab, hidden), jax.jit(loss_of)

    def update(X: np.ndarray, Y: np.ndarray) -> float:
        nonlocal parameters
        parameters, loss = updated(parameters, X.astype(np.int32), Y.astype(np.int32))
        return loss.item()

    def validate(X: np.ndarray, Y: np.ndarray) -> float:
        return compiled(parameters, X.astype(np.int32), Y.astype(np.int32)).item()

    return update, validate


def writing(vocab: int, hidden: int) -> Callable[[], Any]:
    """A function that writes 1,000 characters."""
    parameters = first_parameters(vocab, hidden)

    @jax.jit
    def step(parameters: Parameters, token: Any, h: Any) -> tuple[Any, Any]:
        x = (parameters["W_xh"] + parameters["b_h"])[token]
        h = jnp.tanh(x + h @ parameters["W_hh"])
        return (h @ parameters["W_hq"] + parameters["b_q"]).argmax(-1), h

    def run() -> None:
        token, h = jnp.zeros(1, int), jnp.zeros((1, hidden))
        for _ in range(1000):
            token, h = step(parameters, token, h)
            token.item()

    return run


def scoring(vocab: int, hidden: int, ids: np.ndarray) -> Callable[[], Any]:
    """A function that reads a text, and sums up the losses of its characters."""
    parameters, text = first_parameters(vocab, hidden), ids.astype(np.int32)

    @jax.jit
    def score(parameters: Parameters, piece: Any, targets: Any, h: Any) -> tuple[Any, Any]:
        logits, h = read(parameters, piece, h)
        return losses(logits, targets).sum(), h

    def run() -> float:
        h, total = jnp.zeros(hidden), 0.0
        for start in range(0, len(text) - 1, SCORED):
            targets = text[start + 1 : start + 1 + SCORED]
            loss, h = score(parameters, text[start : start + len(targets)], targets, h)
            total += loss.item()
        return total

    return run
