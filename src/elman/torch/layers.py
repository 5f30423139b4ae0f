"""Recurrent layers: RNNScratch, RNN, GRU, LSTM."""

from typing import Any

import torch
from torch import nn

from elman.core.model import cells
from elman.torch.model import Module

__all__ = ["GRU", "LSTM", "RNN", "RNNScratch"]

CELLS = {"RNN_TANH": "rnn", "RNN_RELU": "rnn-relu", "GRU": "gru", "LSTM": "lstm"}


class RNNScratch(Module):
    """A tanh RNN from scratch: inputs (steps, batch, num_inputs) -> a list of (batch, hidden)."""

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.W_xh = nn.Parameter(torch.randn(num_inputs, num_hiddens) * sigma)
        self.W_hh = nn.Parameter(torch.randn(num_hiddens, num_hiddens) * sigma)
        self.b_h = nn.Parameter(torch.zeros(num_hiddens))

    def forward(self, inputs: torch.Tensor, state: Any = None) -> tuple[list[Any], torch.Tensor]:
        """The outputs of all steps, and the last as the state."""
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


class RNN(Module):
    """A stack of recurrent layers; `nonlinearity` is tanh or relu.

    Inputs are (steps, batch, num_inputs), outputs (steps, batch, num_hiddens), states
    (num_layers, batch, num_hiddens). `dropout` acts between layers. Bidirectional layers have
    outputs (steps, batch, 2 * num_hiddens) and states (2 * num_layers, batch, num_hiddens).
    """

    def __init__(
        self,
        num_inputs: int,
        num_hiddens: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        dropout: float = 0,
        bidirectional: bool = False,
    ) -> None:
        """Make the layers.

        - `num_inputs`: features of an input; of one-hot input the size of the vocabulary.
        - `num_hiddens`: hidden units of a layer.
        - `num_layers`: layers, one above the other.
        - `nonlinearity`: tanh or relu; GRU and LSTM have none to choose.
        - `dropout`: share of a layer's outputs that training puts to zero before the next.
        - `bidirectional`: also run from the last step to the first.
        """
        super().__init__()
        self.save_hyperparameters()
        self.rnn = freeze_redundant_biases(
            nn.RNN(
                num_inputs,
                num_hiddens,
                num_layers,
                nonlinearity=nonlinearity,
                dropout=dropout,
                bidirectional=bidirectional,
            )
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what a copy or a pickle has, which leaves out what holds the biases."""
        super().__setstate__(state)
        if getattr(self.rnn, "has_frozen_biases", False):
            freeze_redundant_biases(self.rnn)

    def forward(self, inputs: torch.Tensor, H: Any = None) -> tuple[torch.Tensor, Any]:
        """The outputs of all steps, and the state after the last."""
        return self.rnn(inputs, H)


class GRU(RNN):
    """A stack of gated recurrent layers."""

    def __init__(
        self,
        num_inputs: int,
        num_hiddens: int,
        num_layers: int = 1,
        dropout: float = 0,
        bidirectional: bool = False,
    ) -> None:
        Module.__init__(self)
        self.save_hyperparameters()
        self.rnn = freeze_redundant_biases(
            nn.GRU(
                num_inputs, num_hiddens, num_layers, dropout=dropout, bidirectional=bidirectional
            )
        )


class LSTM(RNN):
    """A stack of LSTM layers; its state is a pair (H, C)."""

    def __init__(
        self,
        num_inputs: int,
        num_hiddens: int,
        num_layers: int = 1,
        dropout: float = 0,
        bidirectional: bool = False,
    ) -> None:
        Module.__init__(self)
        self.save_hyperparameters()
        self.rnn = freeze_redundant_biases(
            nn.LSTM(
                num_inputs, num_hiddens, num_layers, dropout=dropout, bidirectional=bidirectional
            )
        )


def freeze_redundant_biases(layers: nn.RNNBase) -> nn.RNNBase:
    """Set to zero, and keep there, the biases that repeat another, so that an update counts once.

    PyTorch adds `bias_ih` and `bias_hh` before the nonlinearity; training both would double the
    learning rate of their sum, against every framework that has one.
    """
    part = cells.CELLS[CELLS[layers.mode]].redundant_bias(layers.hidden_size)

    def hold(gradient: torch.Tensor) -> torch.Tensor:
        held = gradient.clone()
        held[part] = 0
        return held

    for name, bias in layers.named_parameters():
        if name.startswith("bias_hh"):
            bias.data[part] = 0
            bias.register_hook(hold)
    layers.has_frozen_biases = True
    return layers
