"""A small GPT in plain PyTorch."""

import math
from pathlib import Path
from typing import Any

import torch
from bare.characters import prepare, read, train
from torch import Tensor, nn
from torch.nn import functional as F

CHOICES: dict[str, tuple[Any, ...]] = {
    "width": (96, 128, 192, 256),
    "layers": (2, 3, 4),
    "heads": (4, 8),
    "context": (64, 128, 256),
    "dropout": (0.0, 0.0, 0.1, 0.2),
    "batch": (8, 16, 32),
    "lr": (1e-3, 2e-3, 3e-3, 5e-3),
    "weight_decay": (0.0, 0.01, 0.1),
    "pairs": (0, 1024, 2048),  # byte pairs as tokens; 0 for characters
}
WINDOWS = 32  # at a time, where no gradient is needed
CHECKED = 32_768  # tokens of a check


class Block(nn.Module):
    """Attention to what came before, then a layer for each position, each added to its input."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norms = nn.ModuleList(nn.LayerNorm(width, bias=False) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.merge = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """The next layer's inputs, (batch, steps, width)."""
        qkv = self.qkv(self.norms[0](x)).unflatten(2, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (batch, heads, steps, width of a head)
        dropped = self.dropout if self.training else 0.0
        seen = F.scaled_dot_product_attention(q, k, v, dropout_p=dropped, is_causal=True)
        x = x + self.drop(self.merge(seen.transpose(1, 2).flatten(2)))
        return x + self.drop(self.down(F.gelu(self.up(self.norms[1](x)))))


class GPT(nn.Module):
    """Learned positions, blocks, and the embedding as the output layer's weight, too."""

    def __init__(self, vocab: int, settings: dict[str, Any]) -> None:
        super().__init__()
        width, layers, dropout = (settings[name] for name in ("width", "layers", "dropout"))
        self.context = settings["context"]
        self.table = nn.Embedding(vocab, width)
        self.positions = nn.Embedding(self.context, width)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.Sequential(
            *(Block(width, settings["heads"], dropout) for _ in range(layers))
        )
        self.norm = nn.LayerNorm(width, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() > 1:  # what is added to a block's input is smaller in deep models
                last = name.endswith(("merge.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / (math.sqrt(2 * layers) if last else 1))

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """The losses of all targets, (batch, steps) as the ids."""
        x = self.table(ids) + self.positions.weight[: ids.shape[1]]
        logits = self.norm(self.blocks(self.drop(x))) @ self.table.weight.T
        return F.cross_entropy(logits.movedim(2, 1), targets, reduction="none")


@torch.inference_mode()
def stream_loss(model: GPT, ids: Tensor) -> tuple[float, int]:
    """Nats of all tokens but the first, and their number.

    The context slides over the text by half of its length; the losses of its second half count, and
    in the first window all, so that each token is predicted from at least half of the context.
    """
    context, half, targets = model.context, model.context // 2, len(ids) - 1
    windows = 1 + max(0, math.ceil((targets - context) / half))
    padded = F.pad(ids, (0, (windows - 1) * half + context + 1 - len(ids)))
    views = padded.unfold(0, context + 1, half)  # (windows, context + 1)
    losses = torch.cat([model(view[:, :-1], view[:, 1:]) for view in views.split(WINDOWS)])
    in_order = torch.cat([losses[0, :half], losses[:, half:].flatten()])
    return in_order[:targets].double().sum().item(), targets


def run(training: Path, validation: Path, minutes: float, settings: dict[str, Any]) -> Any:
    """Train for so many minutes; nats of the validation part, characters, and updates."""
    prepare()
    ids, held_out, vocab, characters = read(training, validation, settings.get("pairs", 0))
    model = GPT(vocab, settings)
    window = torch.arange(model.context + 1)

    def loss() -> Tensor:
        starts = torch.randint(len(ids) - model.context, (settings["batch"], 1))
        windows = ids[starts + window]
        return model(windows[:, :-1], windows[:, 1:]).mean()

    def check() -> float:
        nats, tokens = stream_loss(model, held_out[:CHECKED])
        return nats / tokens

    decay = settings["weight_decay"]
    updates = train(model, loss, check, minutes, settings["lr"], decay, warmup=0.05)
    return stream_loss(model, held_out)[0], characters, updates
