"""A plain PyTorch LSTM in DistributedDataParallel, or in one process: updates a second.

    INTERFACE=lo torchrun --nproc-per-node 2 benchmarks/bare/torch_ddp.py SECONDS VOCAB HIDDEN
        LAYERS EMBEDDING ROWS STEPS

ROWS are those of all processes. It prints the updates, their median seconds, and the bytes that the
machine has sent meanwhile through the network interface that the variable INTERFACE names.
"""

import gc
import os
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

WARM = 3  # updates that are not counted
BATCHES = 8  # of random ids, one after the other


class Model(nn.Module):
    """Embedding, LSTM, output layer; the mean loss of ids and targets, (rows, steps)."""

    def __init__(self, vocab: int, hidden: int, layers: int, embedding: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab, embedding)
        self.rnn = nn.LSTM(embedding, hidden, layers, batch_first=True)
        self.linear = nn.Linear(hidden, vocab)

    def forward(self, ids: Tensor) -> Tensor:
        """The loss of ids, (rows, steps + 1)."""
        logits = self.linear(self.rnn(self.table(ids[:, :-1]))[0])  # (rows, steps, vocab)
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def sent() -> int:
    """Bytes that this machine has sent through the network interface."""
    table = Path("/proc/self/net/dev").read_text()
    return int(table.partition(os.environ["INTERFACE"] + ":")[2].split()[8])


def train(seconds: int, *sizes: int) -> tuple[int, float, int]:
    """Train for a while; return the updates, their median seconds and the bytes that were sent."""
    vocab, hidden, layers, embedding, rows, steps = sizes
    size = dist.get_world_size() if dist.is_initialized() else 1
    torch.manual_seed(0)
    model: nn.Module = Model(vocab, hidden, layers, embedding)
    if size > 1:
        model = DistributedDataParallel(model, gradient_as_bucket_view=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    batches = [torch.randint(vocab, (rows // size, steps + 1)) for _ in range(BATCHES)]
    updates, began, before, ended = -WARM, 0.0, 0, torch.zeros(1)
    times: list[float] = []
    while not ended:
        if updates == 0:
            began, before = time.perf_counter(), sent()
            times.append(began)
        loss = model(batches[updates % BATCHES])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        updates += 1
        if updates > 0:
            times.append(time.perf_counter())
            ended.fill_(times[-1] - began > seconds)
            if size > 1 and updates % BATCHES == 0:  # all end together
                dist.broadcast(ended, 0)
            elif size > 1:
                ended.zero_()
    median = statistics.median(last - first for first, last in pairwise(times))
    return updates, median, sent() - before


def main() -> None:
    """Train, and print."""
    workers = int(os.environ.get("WORLD_SIZE", "1"))
    if workers > 1:
        dist.init_process_group("gloo")
    found = train(*map(int, sys.argv[1:]))
    if workers == 1 or dist.get_rank() == 0:
        print(*found)
    if workers > 1:
        gc.collect()  # a DistributedDataParallel that is left may abort the process at its end
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
