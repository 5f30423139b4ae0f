"""Recurrent layers: RNNScratch, Recurrent, RNN, GRU, LSTM."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from elman.model import cells, layers, weights
from elman.model.layers import (
    Inputs,
    Named,
    Nonlinear,
    Options,
    Sizes,
    documented,
    run_layer,
    run_stack,
)
from elman.model.registry import cell_named
from elman.torch import arrays
from elman.torch.model import Module

__all__ = ["GRU", "LSTM", "RNN", "RNNScratch", "Recurrent"]

CELLS = {"RNN_TANH": "rnn", "RNN_RELU": "rnn-relu", "GRU": "gru", "LSTM": "lstm"}


class RNNScratch(Module):
    """Tanh RNN from scratch: inputs (steps, batch, num_inputs) -> a list of (batch, hidden)."""

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.W_xh = nn.Parameter(torch.randn(num_inputs, num_hiddens) * sigma)
        self.W_hh = nn.Parameter(torch.randn(num_hiddens, num_hiddens) * sigma)
        self.b_h = nn.Parameter(torch.zeros(num_hiddens))

    def forward(self, inputs: torch.Tensor, state: Any = None) -> tuple[list[Any], torch.Tensor]:
        """Outputs of all steps, and the last output as the state."""
        if state is None:
            shape = (inputs.shape[1], self.num_hiddens)
            state = torch.zeros(shape, dtype=inputs.dtype, device=inputs.device)
        elif not isinstance(state, torch.Tensor) or state.dim() == 3:
            (state,) = state
        outputs = []
        for X in inputs:  # (batch, num_inputs)
            state = torch.tanh(X @ self.W_xh + state @ self.W_hh + self.b_h)
            outputs.append(state)
        return outputs, state


class Layers(layers.Layers, Module):
    """Stack of recurrent layers of the cell `cell`: PyTorch's own layers if there are any."""

    def make_stack(self) -> Any:
        """PyTorch's layers, or a CellStack."""
        sizes: dict[str, Any] = {
            "input_size": self.num_inputs,
            "hidden_size": self.num_hiddens,
            "num_layers": self.num_layers,
            "dropout": self.dropout,
            "bidirectional": self.bidirectional,
        }
        native = self.cell in cells.FRAMEWORK_LAYERS
        make = partial(cells.make_layers, nn) if native else CellStack
        stack = make(self.cell, **sizes)
        freeze_redundant_biases(stack)
        return stack

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy or a pickle, and freeze the biases again: neither carries hooks."""
        super().__setstate__(state)
        if getattr(self.rnn, "has_frozen_biases", False):
            freeze_redundant_biases(self.rnn)

    def forward(self, inputs: torch.Tensor, H: Any = None) -> tuple[torch.Tensor, Any]:
        """Outputs of all steps, and the state after the last."""
        outputs, H = self.rnn(self._drop(inputs, self.input_dropout), H)
        return self._drop(outputs, self.output_dropout), H

    def _drop(self, values: torch.Tensor, share: float) -> torch.Tensor:
        """Values, (steps, batch, features), after dropout with one mask for all steps."""
        if not (share and self.training):
            return values
        return values * F.dropout(torch.ones_like(values[0]), share)


@documented
@dataclass(eq=False, repr=False)
class Recurrent(Options, Sizes, Inputs, Named, Layers):
    """Stack of recurrent layers of any cell."""


@documented
@dataclass(eq=False, repr=False)
class RNN(Options, Nonlinear, Inputs, Layers):
    """Stack of simple recurrent layers."""


@documented
@dataclass(eq=False, repr=False)
class GRU(Options, Sizes, Inputs, Layers):
    """Stack of gated recurrent layers."""

    cell = "gru"


@documented
@dataclass(eq=False, repr=False)
class LSTM(Options, Sizes, Inputs, Layers):
    """Stack of LSTM layers. The state is a pair (H, C)."""

    cell = "lstm"


class CellStack(nn.Module):
    """Recurrent layers of a cell without PyTorch layers, called like `nn.RNN`."""

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        dropout: float,
        bidirectional: bool,
    ) -> None:
        super().__init__()
        self.cell, self.hidden_size, self.num_layers = cell, hidden_size, num_layers
        self.dropout, self.names = dropout, weights.layer_names(num_layers, bidirectional)
        shapes = weights.layer_shapes(cell, input_size, hidden_size, num_layers, bidirectional)
        bound, own = hidden_size**-0.5, cell_named(cell).parameters
        for name, shape in shapes.items():
            kind, values = name.rpartition("_l")[0], torch.empty(shape)
            drawn = values.fill_(own[kind]) if kind in own else values.uniform_(-bound, bound)
            self.register_parameter(name, nn.Parameter(drawn))

    def forward(self, inputs: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
        """Outputs of all steps, and the state after the last."""
        states = cell_named(self.cell).states
        if state is None:
            shape = (sum(map(len, self.names)), inputs.shape[1], self.hidden_size)
            state = (inputs.new_zeros(shape),) * states
        elif states == 1:
            state = (state,)
        outputs, state = run_stack(arrays, self.names, inputs, state, self._run, self._drop)
        return outputs, state if states > 1 else state[0]

    def _run(self, name: str, inputs: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        cell = cell_named(self.cell)
        found = {kind: self.get_parameter(kind + name) for kind in cell.weight_kinds}
        return run_layer(arrays, cell, found, inputs, state, name.endswith("_reverse"))

    def _drop(self, inputs: torch.Tensor) -> torch.Tensor:
        return F.dropout(inputs, self.dropout, self.training)


def cell_of(layers: Any) -> str:
    """Name of the cell of PyTorch's layers, or of a CellStack."""
    return layers.cell if isinstance(layers, CellStack) else CELLS[layers.mode]


def freeze_redundant_biases(layers: Any) -> None:
    """Keep the redundant biases at zero, so that an update counts once.

    PyTorch adds `bias_ih` and `bias_hh` before the nonlinearity; training both would double the
    learning rate of their sum, compared with a framework that has one bias.
    """
    part = cell_named(cell_of(layers)).redundant_bias(layers.hidden_size)

    def mask(gradient: torch.Tensor) -> torch.Tensor:
        masked = gradient.clone()
        masked[part] = 0
        return masked

    for name, bias in layers.named_parameters():
        if name.startswith("bias_hh"):
            bias.data[part] = 0
            bias.register_hook(mask)
    layers.has_frozen_biases = True
