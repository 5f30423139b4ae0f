"""Trainings that differ in the optimizer, its schedule or a few settings, with several seeds.

    python benchmarks/ideas.py [--counted GFLOPS] [--seeds N] TEXT CHARACTERS MINUTES IDEA ...

TEXT and CHARACTERS are as in tokens.py, and so is the clock with --counted. An IDEA is one of
these, or an optimizer, a schedule and settings joined by +:

- adamw, what `elman train` chooses;
- lion=FACTOR, Lion (Chen et al. 2023) with the chosen rate times a factor, and the chosen decay
  divided by it;
- muon=RATE, Muon (Jordan 2024) for the recurrent weights, gate by gate, with AdamW for the others;
  the clock counts its products, too;
- beta2=VALUE, AdamW with another average of squares;
- rate.NAME=FACTOR, AdamW with the rate times a factor for weights whose name begins with NAME, as
  in rate.embedding=2 or rate.rnn.weight_hh=0.5; decay.NAME=FACTOR, only the decay;
- rows.NAME=FACTOR, AdamW, and a step of Adam for the length of each row of these weights, with the
  rate times a factor;
- initial.NAME=FACTOR, initial weights whose name begins with NAME times a factor;
- linear, a rate that falls in proportion to the time that is left;
- a setting, as in weight-decay:0.3 or batch-size:16.

Prints a row for each idea: nats for each character of the validation part with every seed, their
mean, and how much lower the mean is than that of the first idea.
"""

import argparse
import json
import math
import statistics
from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from measuring import print_header, print_machine, print_row
from tokens import Counted, trained

from elman import numba
from elman.model import weights
from elman.model.weights import Weights
from elman.numpy import model as specification
from elman.training import loop as training
from elman.training.schedule import MIN_FACTOR, Schedule

INITIAL = weights.initial
ITERATIONS = 5  # of Newton-Schulz in an update of Muon; each has three products
ADAMW, COSINE = numba.RNNLM.optimizers["adamw"], Schedule.factor


def by_name(factors: Mapping[str, float], values: Weights) -> dict[str, np.float32]:
    """Factor of each weight whose name begins with a word."""
    return {
        name: np.float32(factor)
        for start, factor in factors.items()
        for name in values
        if name.startswith(start)
    }


class Rates:
    """Another rate, and decay, for some weights: a factor."""

    def __init__(self, optimizer: Any, factors: Mapping[str, float]) -> None:
        self.optimizer, self.values = optimizer, optimizer.model.parameters
        self.factors = by_name(factors, self.values)

    def before(self) -> None:
        """Keep the weights."""
        self.kept = {name: self.values[name].copy() for name in self.factors}

    def after(self) -> None:
        """Scale the changes."""
        for name, before in self.kept.items():
            self.values[name][:] = before + self.factors[name] * (self.values[name] - before)


class Decays(Rates):
    """Another decay only."""

    def after(self) -> None:
        """Add what was taken too much."""
        lost = np.float32(self.optimizer.lr * self.optimizer.weight_decay)
        for name, before in self.kept.items():
            self.values[name] += (1 - self.factors[name]) * lost * before


class Rows:
    """Steps of Adam for the length of each row of some weights, after those of the weights.

    A length is 1 before each step, and multiplies the row after it.
    """

    def __init__(self, optimizer: Any, factors: Mapping[str, float]) -> None:
        self.optimizer, self.model = optimizer, optimizer.model
        self.factors = by_name(factors, self.model.parameters)
        lengths = {n: np.ones(len(self.model.parameters[n]), np.float32) for n in self.factors}
        self.lengths = SimpleNamespace(parameters=lengths, gradients={})
        self.adam = specification.Adam(self.lengths, optimizer.lr)

    def before(self) -> None:
        """Compute the gradient of each row's length."""
        model = self.model
        self.lengths.gradients = {
            name: (model.gradients[name] * model.parameters[name]).reshape(len(each), -1).sum(1)
            for name, each in self.lengths.parameters.items()
        }

    def after(self) -> None:
        """Multiply the rows."""
        self.adam.lr = self.optimizer.lr
        self.adam.step()
        for name, length in self.lengths.parameters.items():
            value = self.model.parameters[name]
            value *= (1 + self.factors[name] * (length - 1)).reshape(-1, *(1,) * (value.ndim - 1))
            length[:] = 1


# In the order in which they act after a step.
CHANGES = {"rate": Rates, "decay": Decays, "rows": Rows}


class Changed(numba.AdamW):
    """AdamW with changes, each a class with factors of its own."""

    def __init__(self, model: Any, changes: Mapping[str, Any], **settings: float) -> None:
        super().__init__(model, **settings)
        self.changes = [
            change(self, changes[kind]) for kind, change in CHANGES.items() if kind in changes
        ]

    def step(self) -> None:
        """Take a step."""
        for change in self.changes:
            change.before()
        super().step()
        for change in self.changes:
            change.after()


class Lion(specification.AdamW):
    """Lion (Chen et al. 2023), algorithm 2, with the paper's constants."""

    beta1, beta2 = 0.9, 0.99

    def __init__(self, model: Any, factor: float, **settings: float) -> None:
        super().__init__(model, **settings)
        self.factor = factor

    def step(self) -> None:
        """Update the model's parameters using its gradients."""
        kept = 1 - self.lr * self.weight_decay
        for name, gradient in self.model.gradients.items():
            mean, value = self.mean[name], self.model.parameters[name]
            change = np.sign(self.beta1 * mean + (1 - self.beta1) * gradient)
            value *= np.float32(kept)
            value -= np.float32(self.rate(name) * self.factor) * change
            mean += np.float32(1 - self.beta2) * (gradient - mean)


class Beta2(specification.AdamW):
    """AdamW with another average of squares."""

    def __init__(self, model: Any, beta2: float, **settings: float) -> None:
        super().__init__(model, **settings)
        self.beta2 = beta2


class Muon(numba.AdamW):
    """Muon (Jordan 2024) for recurrent weights, with Nesterov's momentum; AdamW for the others."""

    momentum = 0.95

    def __init__(self, model: Any, rate: float, **settings: float) -> None:
        super().__init__(model, **settings)
        self.factor = rate / self.lr  # a schedule changes lr
        self.velocity = {
            name: np.zeros_like(value)
            for name, value in model.parameters.items()
            if "weight_hh" in name
        }

    def step(self) -> None:
        """Update the model's parameters using its gradients."""
        values, rate = self.model.parameters, self.lr * self.factor
        after = {}
        for name, velocity in self.velocity.items():
            gradient = self.model.gradients[name]
            velocity += np.float32(1 - self.momentum) * (gradient - velocity)
            ahead = gradient + np.float32(self.momentum) * (velocity - gradient)
            size = values[name].shape[1]
            change = orthogonalized(ahead.reshape(-1, size, size)).reshape(-1, size)
            if isinstance(training.time, Counted):
                training.time.optimizer_operations += ITERATIONS * 6 * size**2 * len(ahead)
            kept = np.float32(1 - rate * self.weight_decay)
            after[name] = kept * values[name] - np.float32(rate) * change
        super().step()
        for name, value in after.items():
            values[name][:] = value


def orthogonalized(gates: np.ndarray) -> np.ndarray:
    """Matrices (gates, n, n) with singular values near 1, by Newton-Schulz iterations."""
    a, b, c = 3.4445, -4.7750, 2.0315  # Jordan 2024
    x = gates / (np.linalg.norm(gates, axis=(1, 2), keepdims=True) + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.transpose(0, 2, 1)
        x = a * x + (b * square + c * square @ square) @ x
    return x


def linear(schedule: Schedule, progress: float, history: Any) -> float:
    """Factor of a rate that falls in proportion to the time that is left, after the warm-up."""
    if progress < schedule.warmup:
        return COSINE(schedule, progress, history)
    return max((1 - progress) / (1 - schedule.warmup), MIN_FACTOR)


def scaled(initial: Any, start: str, factor: float, *arguments: Any) -> Weights:
    """Weights of `initial`, those whose name begins with `start` times a factor."""
    found: Weights = initial(*arguments)
    for name in found:
        if name.startswith(start):
            found[name] *= np.float32(factor)
    return found


OPTIMIZERS: dict[str, tuple[Any, str]] = {  # and the argument that is the number of an idea
    "lion": (Lion, "factor"),
    "muon": (Muon, "rate"),
    "beta2": (Beta2, "beta2"),
}


def prepare(idea: str) -> dict[str, Any]:
    """Set what an idea changes in the code; return the settings that it gives."""
    optimizer, settings = ADAMW, {}
    changes: dict[str, dict[str, float]] = {}
    weights.initial = INITIAL
    Schedule.factor = COSINE  # type: ignore[method-assign]
    for part in idea.split("+"):
        name, _, value = part.replace(":", "=").partition("=")
        kind, _, start = name.partition(".")
        if part == "linear":
            Schedule.factor = linear  # type: ignore[method-assign]
        elif part != "adamw" and not value:
            raise SystemExit(f"an idea is adamw, linear, NAME=NUMBER or setting:value, got {part}")
        elif ":" in part:
            settings[name.replace("-", "_")] = json.loads(value)
        elif kind == "initial":
            weights.initial = partial(scaled, weights.initial, start, float(value))
        elif kind in CHANGES and (changes or optimizer is ADAMW):
            changes.setdefault(kind, {})[start] = float(value)
            optimizer = partial(Changed, changes=changes)
        elif name in OPTIMIZERS and optimizer is ADAMW:
            made, argument = OPTIMIZERS[name]
            optimizer = partial(made, **{argument: float(value)})
        elif part != "adamw":
            raise SystemExit(f"an idea has known names and one optimizer, got {part} in {idea}")
    numba.RNNLM.optimizers["adamw"] = optimizer
    return settings


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
        settings = prepare(idea)
        found = [
            math.log(2) * trained(*of_text, {"seed": seed, **settings}, speed)[1] for seed in seeds
        ]
        mean = statistics.mean(found)
        first = mean if first is None else first
        shown = [f"{each:.4f}" for each in (*found, mean)]
        print_row([asked.text, asked.minutes, idea, *shown, f"{first - mean:+.4f}"])


if __name__ == "__main__":
    main()
