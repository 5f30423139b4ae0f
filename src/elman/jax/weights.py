"""Conversion between models and canonical weights; version of JAX."""

from functools import partial
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from elman.core.errors import ElmanError
from elman.core.model import weights
from elman.core.model.weights import Architecture, Weights
from elman.jax.arrays import numpy
from elman.jax.layers import GRU, LSTM, RNN, accepts_ids
from elman.jax.model import RNNLM, RNNLMScratch

__all__ = ["architecture", "build", "export_weights", "version"]

LAYERS: dict[str, Any] = {
    "rnn": RNN,
    "rnn-relu": partial(RNN, nonlinearity="relu"),
    "gru": GRU,
    "lstm": LSTM,
}


def build(
    arch: Architecture,
    values: Weights,
    lr: float = 0.01,
    optimizer: str = "sgd",
    momentum: float = 0.0,
    dropout: float = 0.0,
    seed: int = 0,
) -> RNNLM:
    """A language model of this architecture with these weights; the seed is that of dropout."""
    values = weights.checked(values, arch)
    model = RNNLM(
        LAYERS[arch.cell](arch.hidden, arch.layers, dropout=dropout),
        arch.vocab,
        lr,
        embedding_size=arch.embedding,
        optimizer=optimizer,
        momentum=momentum,
        tied=arch.tied,
    )
    model.built = {"params": jax.tree.map(jnp.asarray, to_params(values, arch))}
    model.key = jax.random.PRNGKey(seed)
    return model


def to_params(values: Weights, arch: Architecture) -> dict[str, Any]:
    """Parameter tree of a model, from weights by canonical name."""
    rnn = {}
    for name, value in values.items():
        if name.startswith("rnn.") and "bias_hh" not in name:
            rnn[name.removeprefix("rnn.")] = value
        elif "bias_hh" in name and arch.cell == "gru":
            rnn[name.removeprefix("rnn.")] = value[2 * arch.hidden :]
    params: dict[str, Any] = {"rnn": rnn}
    if arch.embedding:
        params["embedding"] = {"embedding": values["embedding.weight"]}
    if arch.tied:
        return params | {"bias": values["linear.bias"]}
    linear = {"kernel": values["linear.weight"].T, "bias": values["linear.bias"]}
    return params | {"linear": linear}


def architecture(model: RNNLMScratch) -> Architecture:
    """Architecture of a model with this package's layers."""
    if not isinstance(model, RNNLM) or not accepts_ids(model.rnn):
        wanted = "an RNNLM around this module's RNN, GRU or LSTM"
        cure = "flax.serialization.to_bytes(model.params)"
        raise weights.not_canonical(wanted, model, cure)
    rnn = model.rnn
    sizes = rnn.num_hiddens, rnn.num_layers, model.embedding_size
    return Architecture(rnn.cell, model.vocab_size, *sizes, model.tied)


def export_weights(model: RNNLMScratch) -> Weights:
    """Weights of a model by canonical name, copied."""
    arch = architecture(model)
    if model.params is None:
        raise ElmanError("this model has no weights yet: fit it first")
    params = jax.tree.map(numpy, model.params)
    values = {f"rnn.{name}": value for name, value in params["rnn"].items()}
    for name, shape in weights.shapes(arch).items():
        if "bias_hh" in name:
            whole = np.zeros(shape, np.float32)
            if arch.cell == "gru":
                whole[2 * arch.hidden :] = values[name]
            values[name] = whole
    if arch.embedding:
        values["embedding.weight"] = params["embedding"]["embedding"]
    if arch.tied:
        values["linear.bias"] = params["bias"]
    else:
        values["linear.weight"] = params["linear"]["kernel"].T
        values["linear.bias"] = params["linear"]["bias"]
    return {name: value.copy() for name, value in values.items()}


def version() -> str:
    """Version of JAX."""
    return str(jax.__version__)
