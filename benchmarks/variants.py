"""Losses of variants of a GRU language model in PyTorch, after the same number of operations.

    python benchmarks/variants.py [--seeds N] [--operations N] TEXT VARIANT ...

TEXT is one of quality_texts.py: long ones are read in 2,048 byte pairs, the others in characters.
A VARIANT is one of

- gru: an embedding, a GRU layer, an output layer, as `elman train` chooses;
- skip: the output layer also reads the embedding;
- layer-norm: layer normalization of both parts of the gates (Ba et al. 2016);
- rms-norm: the same without means (Zhang and Sennrich 2019);
- residual: two narrower layers, each added to its input;
- bottleneck: more units, and half as many features before the output layer;
- tied: an output layer that shares the embedding, through a matrix;
- mingru: three blocks of minGRU (Feng et al. 2024), each added to its normalized input.

All have the same sizes but where a variant says other; hidden units are then chosen so that a token
takes as many operations. An update has 32 sequences of 64 tokens with the state carried along,
AdamW with a cosine. Prints a row for each variant: its sizes, nats for each character of the
validation part with every seed, their mean, and how much lower it is than that of the first.
"""

import argparse
import statistics
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from bare.characters import optimizer_of, prepare, rate, read
from bare.torch_lstm import pieces
from quality import FOLDER
from quality_texts import TEXTS, parts
from reporting import print_header, print_machine, print_row
from torch import Tensor, nn
from torch.nn import functional as F

BATCH, STEPS = 32, 64
CLIP, WARMUP, DECAY = 1.0, 0.02, 0.1
BLOCKS = 3  # of minGRU
READ = 150_000  # tokens of the validation part
AT_ONCE = 4096  # tokens


@dataclass(frozen=True)
class Sizes:
    """Sizes of the plain GRU, its learning rate and dropout."""

    pairs: int
    hidden: int
    embedding: int
    lr: float
    inputs: float
    outputs: float


SIZES = {
    "long": Sizes(2048, 256, 256, 0.0092, 0.0, 0.05),
    "short": Sizes(0, 256, 64, 0.0092, 0.1, 0.4),
    "lines": Sizes(0, 256, 64, 0.0092, 0.0, 0.1),
}


class NormalizedGRU(nn.Module):
    """A GRU layer whose gates get normalized parts of the input and of the state."""

    def __init__(self, features: int, hidden: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(features, 3 * hidden), nn.Linear(hidden, 3 * hidden)
        self.norm_x, self.norm_h = norm(3 * hidden), norm(3 * hidden)

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


class MinGRU(nn.Module):
    """minGRU (Feng et al. 2024): gates without the state."""

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
        stacked = variant in ("residual", "mingru")
        features = hidden if stacked else sizes.embedding
        self.table = nn.Embedding(vocab, features)
        if variant in ("layer-norm", "rms-norm"):
            norm = nn.LayerNorm if variant == "layer-norm" else nn.RMSNorm
            layers: list[nn.Module] = [NormalizedGRU(features, hidden, norm)]
        elif variant == "residual":
            layers = [Residual(hidden), Residual(hidden)]
        elif variant == "mingru":
            layers = [MinGRU(hidden) for _ in range(BLOCKS)]
        else:
            layers = [nn.GRU(features, hidden)]
        self.layers = nn.ModuleList(layers)
        widths = {
            "skip": (hidden + features,),
            "bottleneck": (hidden, sizes.hidden // 2),
            "tied": (hidden, features),
        }.get(variant, (hidden,))
        head: list[nn.Module] = [nn.Linear(*both) for both in pairwise((*widths, vocab))]
        if variant == "tied":
            self.table.weight = head[-1].weight
        self.head = nn.Sequential(*head)

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
        inputs = values = self.drop(self.table(ids), self.sizes.inputs)
        after = []
        for layer, before in zip(self.layers, state or [None] * len(self.layers), strict=True):
            values, last = layer(values, before)
            after.append(last)
        values = self.drop(values, self.sizes.outputs)
        if self.variant == "skip":
            values = torch.cat((values, inputs), -1)
        logits = self.head(values)
        return F.cross_entropy(logits.movedim(2, 1), targets, reduction="none"), after


def like(variant: str, vocab: int, sizes: Sizes) -> Model:
    """The variant whose tokens take about as many operations as those of the plain GRU."""
    most = Model("gru", vocab, sizes, sizes.hidden).products()
    hidden = 16
    while Model(variant, vocab, sizes, hidden + 16).products() <= 1.02 * most:
        hidden += 16
    return Model(variant, vocab, sizes, hidden)


def learn(model: Model, ids: Tensor, lr: float, operations: float) -> None:
    """Train with so many operations."""
    updates = int(operations / (6 * model.products() * BATCH * STEPS))
    optimizer, state = optimizer_of(model, lr, DECAY), None
    for update, (X, Y, first) in zip(range(updates), pieces(ids, BATCH, STEPS), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = lr * rate(update / updates, WARMUP)
        state = None if first or state is None else [each.detach() for each in state]
        losses, state = model(X, Y, state)
        optimizer.zero_grad()
        losses.mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()


@torch.inference_mode()
def nats(model: Model, ids: Tensor) -> float:
    """Nats of all tokens but the first, read as one stream."""
    model.eval()
    total, state = 0.0, None
    for X, Y in zip(ids[:-1, None].split(AT_ONCE), ids[1:, None].split(AT_ONCE), strict=True):
        losses, state = model(X, Y, state)
        total += losses.double().sum().item()
    return total


def main() -> None:
    """Train each variant with every seed; print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--operations", type=float, default=3e12)
    parser.add_argument("text", choices=TEXTS)
    parser.add_argument("variants", nargs="+")
    asked = parser.parse_args()
    sizes = SIZES[TEXTS[asked.text].kind]
    texts = read(*parts(asked.text, FOLDER), sizes.pairs)
    print_machine({})
    seeds = [f"seed {n}" for n in range(asked.seeds)]
    print_header(["text", "variant", "units", "weights", *seeds, "mean", "gain"])
    first = None
    for variant in asked.variants:
        found = []
        for seed in range(asked.seeds):
            prepare(seed)
            model = like(variant, texts.vocab, sizes)
            learn(model, texts.training, sizes.lr, asked.operations)
            held_out = texts.validation[:READ]
            characters = texts.predicted * len(held_out) / len(texts.validation)
            found.append(nats(model, held_out) / characters)
        mean = statistics.mean(found)
        first = mean if first is None else first
        count = sum(weight.numel() for weight in model.parameters())
        shown = [f"{each:.4f}" for each in (*found, mean)]
        print_row([asked.text, variant, model.hidden, f"{count:,}", *shown, f"{first - mean:+.4f}"])


if __name__ == "__main__":
    main()
