"""Final validation perplexities of the reference job, from scratch and concise, in each framework.

    python benchmarks/perplexities.py [NAME | NAME=INTERPRETER ...]

Prints the table of docs/frameworks.md: the median and the range of three seeds, 100 epochs each,
for torch, tensorflow, jax and mxnet, unless named; one of another environment by its interpreter.
"""

import random
import statistics
import sys
from typing import Any

import elman

PUBLISHED = {
    "torch": ("7.4", "7.6"),
    "tensorflow": ("7.4", "7.0"),
    "jax": ("7.4", "7.3"),
    "mxnet": ("7.2", "7.5"),
}


def set_seed(framework: str, seed: int) -> None:
    """Make what the framework draws repeat."""
    random.seed(seed)  # which Keras and elman.jax go by
    if framework == "torch":
        import torch

        torch.manual_seed(seed)
    elif framework == "tensorflow":
        import tensorflow

        tensorflow.random.set_seed(seed)
    elif framework == "mxnet":
        from mxnet import npx

        npx.random.seed(seed)


def perplexity(framework: str, concise: bool, seed: int) -> float:
    """The validation perplexity after 100 epochs of the reference job."""
    set_seed(framework, seed)
    module: Any = elman.framework_module(framework)
    data = module.TimeMachine(1024, 32, seed=seed)
    vocab = len(data.vocab)
    if concise:
        layers = module.RNN(vocab, 32) if framework == "torch" else module.RNN(32)
        model = module.RNNLM(layers, vocab, lr=1)
    else:
        model = module.RNNLMScratch(module.RNNScratch(vocab, 32), vocab, lr=1)
    trainer = module.Trainer(100, gradient_clip_val=1)
    trainer.fit(model, data)
    return float(trainer.history[-1].val_ppl)


def row(framework: str) -> None:
    """Print a framework's row of the table."""
    cells = []
    for concise, published in zip((False, True), PUBLISHED[framework], strict=True):
        found = [perplexity(framework, concise, seed) for seed in range(3)]
        middle, low, high = statistics.median(found), min(found), max(found)
        cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f}) | {published}")
    print(f"| {framework} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print the table, each framework's row from a process of its own."""
    if sys.argv[1:2] == ["--rows"]:
        row(sys.argv[2])
        return
    from reporting import print_rows  # tests import this module from another folder

    print("| framework | from scratch | published | concise | published |")
    print("|---|---|---|---|---|", flush=True)
    print_rows(__file__, sys.argv[1:] or PUBLISHED)


if __name__ == "__main__":
    main()
