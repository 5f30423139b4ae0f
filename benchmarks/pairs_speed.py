"""An update of elman's encoder-decoder in PyTorch, beside a plain loop's.

    python benchmarks/pairs_speed.py [--rounds N]

Both read the same batches of 64 pairs, numbers in words of two languages by characters, with Adam
and clipped gradients. They take turns in one process. Prints the median seconds of an update, and
the median of the rounds' ratios.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bare.torch_pairs import Attention, Plain, updates
from measuring import print_header, print_machine, print_row

from elman import torch as module
from elman.model import weights
from elman.model.weights import Architecture
from elman.training.callback import Callback

sys.path.append(str(Path(__file__).parents[1]))  # the folder of tests
from tests import pairs

EMBEDDING, BATCH = 64, 64


class Clock(Callback):
    """The times at which updates end."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def after_update(self, trainer: Any = None) -> None:
        """Keep the time."""
        self.times.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        """Median seconds of an update."""
        return statistics.median(b - a for a, b in zip(self.times, self.times[1:], strict=False))


def elman(data: Any, arch: Architecture) -> float:
    """Seconds of an update of a model in a Trainer."""
    values = weights.initial(arch)
    padding = data.tgt_vocab["<pad>"]
    model = module.build_seq2seq(arch, values, tgt_pad=padding, lr=0.004)
    model.board.display = False
    trainer = module.Trainer(1, gradient_clip_val=1, show_progress=False)
    clock = Clock()
    trainer.callbacks = (clock,)
    trainer.fit(model, data)
    return clock.seconds


def bare(data: Any, arch: Architecture) -> float:
    """Seconds of an update of a plain loop."""
    kind = Attention if arch.attention else Plain
    model = kind(arch.source_vocab, arch.vocab, arch.embedding, arch.hidden)
    batches = [tuple(batch[:4]) for batch in data.train_dataloader()]
    clock = Clock()
    updates(model, batches, data.tgt_vocab["<pad>"], clock.after_update)
    return clock.seconds


def in_turns(contenders: list[Callable[[], float]], rounds: int) -> list[list[float]]:
    """Seconds of each contender in each round; a first round is left out."""
    found = [[contender() for contender in contenders] for _ in range(rounds + 1)]
    return found[1:]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    print_machine({"torch": sys.executable})
    print_header(["model", "elman, ms", "plain loop, ms", "ratio"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "numbers.tsv")
        path.write_text(pairs.text(), encoding="utf-8")
        data: Any = module.PairsFile(str(path), batch_size=BATCH)
    source, target = len(data.src_vocab), len(data.tgt_vocab)
    for hidden in (128, 256):
        for attention in (False, True):
            arch = Architecture(
                "gru", target, hidden, 1, EMBEDDING, source_vocab=source, attention=attention
            )
            found = in_turns([lambda a=arch: elman(data, a), lambda a=arch: bare(data, a)], rounds)
            ours, theirs = (statistics.median(column) for column in zip(*found, strict=True))
            ratio = statistics.median(a / b for a, b in found)
            name = f"{hidden} units{', attention' if attention else ''}"
            print_row([name, f"{1e3 * ours:.1f}", f"{1e3 * theirs:.1f}", f"{ratio:.2f}"])


if __name__ == "__main__":
    main()
