"""Variants of a GRU language model in PyTorch; variants.py trains them."""

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCKS = 3  # of minGRU


class Rates(NamedTuple):
    """Highest learning rates of the recurrent and of the other layers, and their weight decay.

    - `decay`: at the rate of the other layers; recurrent layers decay as much in an update.
    """

    others: float
    recurrent: float
    decay: float


class Sizes(NamedTuple):
    """Sizes of the plain GRU, its learning rates, and dropout of inputs and outputs.

    - `pairs`: number of byte pairs; 0 for characters.
    - `windows`: those of a stretch of the text.
    """

    pairs: int
    windows: int
    hidden: int
    embedding: int
    rates: Rates
    inputs: float
    outputs: float


class NormalizedGRU(nn.Module):
    """A GRU layer whose gates get normalized parts of the input and of the state.

    - `of_states`: normalize the part of the state, too.
    """

    def __init__(
        self, features: int, hidden: int, norm: type[nn.Module], of_states: bool = True
    ) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(features, 3 * hidden), nn.Linear(hidden, 3 * hidden)
        self.norm_x, self.norm_h = norm(3 * hidden), nn.Identity()
        if of_states:
            self.norm_h = norm(3 * hidden)

    def forward(self, inputs: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Outputs of all steps, (steps, batch, hidden), and the last."""
        x = self.norm_x(self.x(inputs))
        h = x.new_zeros(x.shape[1], x.shape[2] // 3) if state is None else state
        outputs = []
        for x_t in x.unbind():
            (rx, zx, nx), (rh, zh, nh) = x_t.chunk(3, -1), self.norm_h(self.h(h)).chunk(3, -1)
            z, n = torch.sigmoid(zx + zh), torch.tanh(nx + torch.sigmoid(rx + rh) * nh)
            h = n + z * (h - n)
            outputs.append(h)
        return torch.stack(outputs), h


class ScaledGRU(nn.Module):
    """A GRU layer of scaled inputs: their part of the gates has a mean square of 1."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.rnn = nn.GRU(features, hidden)

    def forward(self, inputs: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Outputs of all steps, (steps, batch, hidden), and the last state."""
        parts = F.linear(inputs, self.rnn.weight_ih_l0)
        scale = (parts.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
        return self.rnn(inputs * scale, state)


class MinGRU(nn.Module):
    """minGRU (Feng et al. 2024), whose gates do not read the state, added to its input."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm, self.gates = nn.RMSNorm(features), nn.Linear(features, 2 * features)

    def forward(self, inputs: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Inputs plus states of all steps, (steps, batch, features), and the last state."""
        z, n = self.gates(self.norm(inputs)).chunk(2, -1)
        z, h = torch.sigmoid(z), torch.zeros_like(n[0]) if state is None else state
        outputs = []
        for z_t, n_t in zip(z.unbind(), n.unbind(), strict=True):
            h = h + z_t * (n_t - h)
            outputs.append(h)
        return inputs + torch.stack(outputs), h


class Residual(nn.Module):
    """A GRU layer that is added to its input."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.rnn = nn.GRU(features, features)

    def forward(self, inputs: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Outputs of all steps, (steps, batch, features), and the last state."""
        outputs, state = self.rnn(inputs, state)
        return inputs + outputs, state


class Model(nn.Module):
    """A variant with so many hidden units."""

    def __init__(self, variant: str, vocab: int, sizes: Sizes, hidden: int) -> None:
        super().__init__()
        self.variant, self.sizes, self.hidden = variant, sizes, hidden
        features = hidden if variant in ("residual", "mingru") else sizes.embedding
        self.table = nn.Embedding(vocab, features)
        self.layers = nn.ModuleList(layers_of(variant, features, hidden))
        widths = {
            "skip": (hidden + features,),
            "bottleneck": (hidden, sizes.hidden // 2),
            "tied": (hidden, features),
        }.get(variant, (hidden,))
        head = [nn.Linear(*both) for both in pairwise((*widths, vocab))]
        if variant == "tied":
            self.table.weight = head[-1].weight
        self.norm = nn.RMSNorm(features) if variant == "embedding-norm" else nn.Identity()
        norms = [nn.RMSNorm(hidden)] if variant == "output-norm" else []
        self.head = nn.Sequential(*norms, *head)

    def products(self) -> int:
        """Multiplications of a token in the forward pass."""
        counted = sum(weight.numel() for weight in self.parameters() if weight.dim() > 1)
        return counted if self.variant == "tied" else counted - self.table.weight.numel()

    def drop(self, values: Tensor, share: float) -> Tensor:
        """Values, (steps, batch, features), after dropout with one mask for all steps."""
        if not (share and self.training):
            return values
        return values * F.dropout(torch.ones_like(values[0]), share)

    def forward(self, ids: Tensor, targets: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The losses of all targets, (steps, batch) as the ids, and the state after them."""
        inputs = values = self.drop(self.norm(self.table(ids)), self.sizes.inputs)
        after = []
        for layer, before in zip(self.layers, state or [None] * len(self.layers), strict=True):
            values, last = layer(values, before)
            after.append(last)
        values = self.drop(values, self.sizes.outputs)
        if self.variant == "skip":
            values = torch.cat((values, inputs), -1)
        logits = self.head(values)
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        return losses.view_as(targets), after


def layers_of(variant: str, features: int, hidden: int) -> list[nn.Module]:
    """The recurrent layers of a variant."""
    if variant == "layer-norm":
        return [NormalizedGRU(features, hidden, nn.LayerNorm)]
    if variant == "rms-norm":
        return [NormalizedGRU(features, hidden, nn.RMSNorm)]
    if variant == "input-norm":
        return [NormalizedGRU(features, hidden, nn.RMSNorm, of_states=False)]
    if variant == "input-scale":
        return [ScaledGRU(features, hidden)]
    if variant == "residual":
        return [Residual(hidden), Residual(hidden)]
    if variant == "mingru":
        return [MinGRU(hidden) for _ in range(BLOCKS)]
    return [nn.GRU(features, hidden)]


def like(variant: str, vocab: int, sizes: Sizes) -> Model:
    """The variant whose tokens take about as many operations as those of the plain GRU."""
    most = Model("gru", vocab, sizes, sizes.hidden).products()
    hidden = 16
    while Model(variant, vocab, sizes, hidden + 16).products() <= 1.02 * most:
        hidden += 16
    return Model(variant, vocab, sizes, hidden)
