"""Plain JAX loops: rows looked up, lax.scan, one jitted function for each step and update."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from bare.lines import losses_of_lines, padded_batches
from jax import numpy as jnp

Parameters = dict[str, Any]
Step = Callable[[np.ndarray, np.ndarray], float]
SCORED = 1 << 16  # characters at a time
LINES = 128  # lines at a time
STEPS = 4  # number that divides the steps of lines: each length is compiled for


def rnn_step(z: Any, state: Any) -> Any:
    """The state, a tuple of (batch, hidden), after one whose product and input add up to z."""
    return (jnp.tanh(z),)


def lstm_step(z: Any, state: Any) -> Any:
    """The same for an LSTM."""
    i, f, g, o = jnp.split(z, 4, axis=-1)
    c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


CELLS = {"rnn": (rnn_step, 1, 1), "lstm": (lstm_step, 4, 2)}  # step, gates, arrays of a state


def first_parameters(vocab: int, hidden: int, cell: str = "rnn") -> Parameters:
    """Random parameters of a layer and its output layer."""
    columns = CELLS[cell][1] * hidden
    keys = jax.random.split(jax.random.PRNGKey(0), 3)
    return {
        "W_xh": jax.random.normal(keys[0], (vocab, columns)) * 0.1,
        "W_hh": jax.random.normal(keys[1], (hidden, columns)) * 0.1,
        "b_h": jnp.zeros(columns),
        "W_hq": jax.random.normal(keys[2], (hidden, vocab)) * 0.1,
        "b_q": jnp.zeros(vocab),
    }


def read(parameters: Parameters, ids: Any, state: Any, cell: str = "rnn") -> tuple[Any, Any]:
    """The logits of ids, (steps, ...), from a state of (..., hidden), and the state after."""

    def step(state: Any, x: Any) -> tuple[Any, Any]:
        state = CELLS[cell][0](x + state[0] @ parameters["W_hh"], state)
        return state, state[0]

    x = (parameters["W_xh"] + parameters["b_h"])[ids]
    state, hiddens = jax.lax.scan(step, state, x, unroll=8)
    return hiddens @ parameters["W_hq"] + parameters["b_q"], state


def losses(logits: Any, targets: Any) -> Any:
    """The loss of each target."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], -1)


def loss_of(parameters: Parameters, X: Any, Y: Any) -> Any:
    """The mean loss of ids X and targets Y, (batch, steps)."""
    state = (jnp.zeros((len(X), len(parameters["W_hh"]))),)
    return losses(read(parameters, X.T, state)[0], Y.T).mean()


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
    def write(parameters: Parameters) -> Any:
        rows = parameters["W_xh"] + parameters["b_h"]

        def step(carry: Any, _: Any) -> Any:
            token, h = carry
            h = jnp.tanh(rows[token] + h @ parameters["W_hh"])
            token = (h @ parameters["W_hq"] + parameters["b_q"]).argmax()
            return (token, h), token

        return jax.lax.scan(step, (jnp.array(0), jnp.zeros(hidden)), length=1000)[1]

    return lambda: np.asarray(write(parameters))


def scoring(vocab: int, hidden: int, ids: np.ndarray) -> Callable[[], Any]:
    """A function that reads a text, and sums up the losses of its characters."""
    parameters, text = first_parameters(vocab, hidden), ids.astype(np.int32)

    @jax.jit
    def score(parameters: Parameters, piece: Any, targets: Any, state: Any) -> tuple[Any, Any]:
        logits, state = read(parameters, piece, state)
        return losses(logits, targets).sum(), state

    def run() -> float:
        state, total = (jnp.zeros(hidden),), 0.0
        for start in range(0, len(text) - 1, SCORED):
            targets = text[start + 1 : start + 1 + SCORED]
            loss, state = score(parameters, text[start : start + len(targets)], targets, state)
            total += loss.item()
        return total

    return run


def scoring_lines(
    vocab: int, hidden: int, lines: list[np.ndarray], cell: str = "rnn"
) -> Callable[[], list[np.ndarray]]:
    """A function that reads lines, and returns the losses of each one's characters."""
    parameters = first_parameters(vocab, hidden, cell)
    short = [line.astype(np.int32) for line in lines]

    @jax.jit
    def score(parameters: Parameters, ids: Any, targets: Any) -> Any:
        state = (jnp.zeros((ids.shape[1], hidden)),) * CELLS[cell][2]
        return losses(read(parameters, ids, state, cell)[0], targets)[..., 0]

    def one_batch(ids: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return np.asarray(score(parameters, ids, targets))

    return lambda: losses_of_lines(short, padded_batches(short, LINES, STEPS), one_batch)
