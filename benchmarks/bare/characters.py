"""Parts of plain PyTorch language models of a text: ids, the training loop, the clock."""

import copy
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor, nn

CHECKS = [share / 10 for share in range(4, 10)]  # of the time, and once more at its end
CLIP = 1.0


class Texts(NamedTuple):
    """A text in tokens.

    - `vocab`: number of tokens.
    - `predicted`: characters of the validation part without its first token.
    """

    training: Tensor
    validation: Tensor
    vocab: int
    predicted: int


def read(training: Path, validation: Path, pairs: int = 0) -> Texts:
    """Both parts in characters, or in so many byte pairs learned from the training part."""
    texts = [path.read_bytes().decode() for path in (training, validation)]
    return in_pairs(*texts, pairs) if pairs else in_characters(*texts)


def in_pairs(training: str, validation: str, pairs: int) -> Texts:
    """Both parts in byte pairs."""
    made = ByteLevelBPETokenizer()
    made.train_from_iterator([training], vocab_size=pairs, show_progress=False)
    found = [torch.tensor(made.encode(text).ids) for text in (training, validation)]
    first = len(made.decode(found[1][:1].tolist()))
    return Texts(*found, made.get_vocab_size(), len(validation) - first)


def in_characters(training: str, validation: str) -> Texts:
    """Both parts in characters; 0 stands for characters that training lacks."""
    codes = [np.frombuffer(text.encode("utf-32-le"), "<u4") for text in (training, validation)]
    known = np.unique(codes[0])
    found = []
    for part in codes:
        places = np.searchsorted(known, part).clip(max=len(known) - 1)
        found.append(torch.from_numpy(np.where(known[places] == part, places + 1, 0)))
    return Texts(found[0], found[1], len(known) + 1, len(validation) - 1)


def prepare(seed: int = 0) -> None:
    """Seed PyTorch, and let it use all cores, as the engine does."""
    torch.manual_seed(seed)
    torch.set_num_threads(len(os.sched_getaffinity(0)))


def rate(share: float, warmup: float) -> float:
    """Factor of the learning rate when this share of the time is over: warm-up, then cosine."""
    if share < warmup:
        return max(share, 1e-3) / warmup
    return 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))


def optimizer_of(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW that decays matrices and no biases or gains."""
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    vectors = [weight for weight in model.parameters() if weight.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.99), fused=True)


def train(
    model: nn.Module,
    loss: Callable[[], Tensor],
    check: Callable[[], float],
    minutes: float,
    lr: float,
    weight_decay: float,
    warmup: float,
) -> int:
    """Train until the time is up, and return the number of updates.

    The model ends with the weights of its best check.

    - `loss()`: the loss of the next batch.
    - `check()`: a loss on some of the validation part; it costs time of the training.
    """
    optimizer, updates = optimizer_of(model, lr, weight_decay), 0
    best, kept, to_do = math.inf, model.state_dict(), list(CHECKS)
    loss().backward()  # as elman compiles its kernels, what is loaded at first costs no minutes
    began = time.perf_counter()
    while (share := (time.perf_counter() - began) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = lr * rate(share, warmup)
        optimizer.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        updates += 1
        if to_do and share >= to_do[0]:
            to_do = [later for later in to_do if later > share]
            best, kept = better(model, check, best, kept)
    model.load_state_dict(better(model, check, best, kept)[1])
    model.eval()
    return updates


def better(
    model: nn.Module, check: Callable[[], float], best: float, kept: dict[str, Tensor]
) -> tuple[float, dict[str, Tensor]]:
    """The lower one of `best` and the loss of a check, with the weights that it belongs to."""
    model.eval()
    with torch.inference_mode():
        found = check()
    model.train()
    return (found, copy.deepcopy(model.state_dict())) if found < best else (best, kept)
