"""Trainings that differ in the optimizer alone, with several seeds.

    python benchmarks/ideas.py [--counted GFLOPS] [--seeds N] TEXT CHARACTERS MINUTES IDEA ...

TEXT and CHARACTERS are as in tokens.py, and so is the clock with --counted. An IDEA is

- adamw, what `elman train` chooses;
- lion=FACTOR, Lion (Chen et al. 2023) with the chosen rate times a factor, and the chosen decay
  divided by it;
- NAME=FACTOR, AdamW with the rate times a factor for weights whose name begins with NAME, as in
  embedding=2 or rnn.weight_hh=0.5;
- a setting, as in weight-decay:0.3 or batch-size:16.

Prints a row for each idea: nats for each character of the validation part with every seed, their
mean, and how much lower the mean of the first idea is.
"""

import argparse
import json
import math
import statistics
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from reporting import print_header, print_machine, print_row
from tokens import trained

from elman import numba
from elman.core.model.weights import Weights
from elman.numpy import optimizers as specification

ADAMW = numba.RNNLM.optimizers["adamw"]


class Scaled(numba.AdamW):
    """AdamW with another rate for some weights."""

    def __init__(self, *arguments: Any, factors: Mapping[str, float], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.factors = factors

    def step(self) -> None:
        """Take a step, and scale the changes of these weights."""
        values: Weights = self.model.parameters
        chosen = {
            name: (values[name].copy(), np.float32(factor))
            for start, factor in self.factors.items()
            for name in values
            if name.startswith(start)
        }
        super().step()
        for name, (before, factor) in chosen.items():
            values[name][:] = before + factor * (values[name] - before)


class Lion(specification.Adam):
    """Lion (Chen et al. 2023), algorithm 2, with the paper's constants."""

    beta1, beta2 = 0.9, 0.99

    def __init__(self, model: Any, lr: float, weight_decay: float, factor: float) -> None:
        super().__init__(model, lr)
        self.weight_decay, self.factor = weight_decay, factor

    def step(self) -> None:
        """Update the model's parameters using its gradients."""
        rate, kept = self.lr * self.factor, 1 - self.lr * self.weight_decay
        for name, gradient in self.model.gradients.items():
            mean, value = self.mean[name], self.model.parameters[name]
            change = np.sign(self.beta1 * mean + (1 - self.beta1) * gradient)
            value *= np.float32(kept)
            value -= np.float32(rate) * change
            mean += np.float32(1 - self.beta2) * (gradient - mean)


def optimizer_of(idea: str) -> Any:
    """Optimizer of an idea."""
    name, _, factor = idea.partition("=")
    if not factor:
        return ADAMW
    if name == "lion":
        return partial(Lion, factor=float(factor))
    return partial(Scaled, factors={name: float(factor)})


def settings_of(idea: str) -> dict[str, Any]:
    """Settings that an idea gives."""
    name, _, value = idea.partition(":")
    return {name.replace("-", "_"): json.loads(value)} if value else {}


def main() -> None:
    """Train with each idea and seed; print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--counted", type=float)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("text")
    parser.add_argument("characters", type=int)
    parser.add_argument("minutes", type=float)
    parser.add_argument("ideas", nargs="+")
    asked = parser.parse_args()
    of_text = asked.text, asked.characters, asked.minutes
    speed = asked.counted and 1e9 * asked.counted
    print_machine({})
    seeds = range(asked.seeds)
    print_header(["text", "minutes", "idea", *(f"seed {n}" for n in seeds), "mean", "gain"])
    first = None
    for idea in asked.ideas:
        numba.RNNLM.optimizers["adamw"] = optimizer_of(idea)
        found = [
            math.log(2) * trained(*of_text, {"seed": seed, **settings_of(idea)}, speed)[1]
            for seed in seeds
        ]
        mean = statistics.mean(found)
        first = mean if first is None else first
        shown = [f"{each:.4f}" for each in (*found, mean)]
        print_row([asked.text, asked.minutes, idea, *shown, f"{first - mean:+.4f}"])


if __name__ == "__main__":
    main()
