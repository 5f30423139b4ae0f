"""Validation losses of trainings that differ in their regularization alone.

    python benchmarks/regularization.py [options] TEXT

Trains an LSTM on a text file, read by characters with the state carried from window to window:
Adam, gradients clipped at 1, the engine. Prints for each epoch the training loss, and the
validation loss in nats a character: of the weights as they are, and of their averages, exponential
ones (Polyak and Juditsky 1992) and a plain one over the last quarter of the updates (Izmailov et
al. 2018). The number of updates follows from text and epochs, so that a busy machine changes no
loss.

- `--forget-bias`: initial value of the forget gates' biases (Jozefowicz et al. 2015).
- `--recurrent-dropout`: share of the recurrent weights that are zero in a batch, the same at all of
  its steps (Merity et al. 2018).
"""

import argparse
import sys
from typing import Any

import numpy as np
from reporting import print_header, print_machine, print_row

from elman import numba
from elman.model.metrics import Mean
from elman.model.weights import Architecture, Weights, initial
from elman.training.callback import Callback
from elman.training.schedule import Schedule

DECAYS = (0.99, 0.998)
LAST = 0.75  # share of the updates before the plain average begins
RECURRENT = "weight_hh"


class Step(numba.Trainer.step_type):
    """Step that drops recurrent weights."""

    recurrent_dropout = 0.0
    rng = np.random.default_rng(1)

    def update(self, batch: Any) -> float:
        """Take one step, from gradients at the weights that are left."""
        if not self.recurrent_dropout:
            return super().update(batch)
        values, kept = self.model.parameters, {}
        masks = {name: self._mask(value) for name, value in values.items() if RECURRENT in name}
        for name, mask in masks.items():
            kept[name], values[name] = values[name], values[name] * mask
        loss = self.model.training_step(batch)
        values.update(kept)
        for name, mask in masks.items():
            self.model.gradients[name] = self.model.gradients[name] * mask
        self.update_weights()
        return float(loss)

    def _mask(self, value: np.ndarray) -> np.ndarray:
        keep = self.rng.random(value.shape, np.float32) >= self.recurrent_dropout
        return keep.astype(np.float32) / np.float32(1 - self.recurrent_dropout)


class Averages(Callback):
    """Averages of the weights, and the validation losses of each after every epoch."""

    def __init__(self, data: Any) -> None:
        self.data, self.means, self.plain, self.number = data, {}, {}, 0

    def after_update(self, trainer: Any) -> None:
        """Add the weights to the averages."""
        values = trainer.model.parameters
        for decay in DECAYS:
            mean = self.means.setdefault(decay, copied(values))
            # A longer average than the training so far would be that of the initial weights.
            share = max(1 - decay, 1 / (10 + trainer.train_batch_idx))
            for name, value in values.items():
                mean[name] += np.float32(share) * (value - mean[name])
        if trainer.progress >= LAST:
            self.number += 1
            self.plain = self.plain or copied(values)
            for name, value in values.items():
                self.plain[name] += (value - self.plain[name]) / np.float32(self.number)

    def after_epoch(self, trainer: Any) -> None:
        """Print the losses."""
        values, epoch = trainer.model.parameters, trainer.history[-1]
        now, losses = copied(values), []
        for mean in (now, *self.means.values(), *([self.plain] if self.plain else [])):
            fill(values, mean)
            losses.append(f"{validation_loss(trainer.model, self.data):.4f}")
        fill(values, now)
        losses += [""] * (not self.plain)
        row = [epoch.epoch, trainer.train_batch_idx, f"{epoch.train_loss:.4f}", *losses]
        print_row([*row, f"{epoch.seconds:.0f}"])


def copied(values: Weights) -> Weights:
    """Copies of weights."""
    return {name: value.copy() for name, value in values.items()}


def fill(values: Weights, mean: Weights) -> None:
    """Fill weights with others."""
    for name, value in values.items():
        value[...] = mean[name]


def validation_loss(model: Any, data: Any) -> float:
    """Loss of the validation part, in nats a token, with the state carried along."""
    mean, state = Mean(), None
    model.eval()
    for batch in data.val_dataloader():
        mean.add(model.validation_step(batch.with_state(state)), batch.num_targets)
        state = model.final_state
    return mean.value


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("text")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--lr", type=float, default=0.004)
    parser.add_argument("--schedule", default="cosine")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--output-dropout", type=float, default=0.0)
    parser.add_argument("--recurrent-dropout", type=float, default=0.0)
    parser.add_argument("--forget-bias", type=float, default=0.0)
    asked = parser.parse_args()
    print_machine({"numba": sys.executable})
    data = numba.TextFile(asked.text, 64, 64, seed=asked.seed, batching="contiguous")
    arch = Architecture("lstm", len(data.vocab), asked.hidden, asked.layers)
    values = initial(arch, asked.seed)
    for layer in range(asked.layers):
        # of the gates i f g o
        values[f"rnn.bias_ih_l{layer}"][asked.hidden : 2 * asked.hidden] += asked.forget_bias
    shares = {"dropout": asked.dropout, "output_dropout": asked.output_dropout}
    model = numba.build(arch, values, lr=asked.lr, optimizer="adam", seed=asked.seed, **shares)
    model.plot = lambda *values, **options: None
    Step.recurrent_dropout = asked.recurrent_dropout
    trainer = numba.Trainer(asked.epochs, gradient_clip_val=1, show_progress=False)
    trainer.step_type = Step
    trainer.callbacks = [Schedule(asked.schedule, 0.05), Averages(data)]
    means = [f"mean {decay}" for decay in DECAYS]
    print_header(["epoch", "updates", "training", "weights", *means, "last quarter", "seconds"])
    trainer.fit(model, data)


if __name__ == "__main__":
    main()
