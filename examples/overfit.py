"""Overfitting on purpose: a large LSTM learns 600 windows of The Time Machine by heart.

Little data and much capacity: the training perplexity falls towards 1, while the validation
perplexity falls, turns and rises. It writes the curves to examples/overfit.png.

    python examples/overfit.py
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure

from elman import torch as d2l
from elman.training.history import Epoch


def run(epochs: int = 30) -> d2l.Trainer:
    """Train on far too little text, and return the trainer with its history."""
    torch.manual_seed(0)
    data = d2l.TimeMachine(batch_size=50, num_steps=32, num_train=600, num_val=600)
    rnn = d2l.LSTM(num_inputs=len(data.vocab), num_hiddens=256)
    model = d2l.RNNLM(rnn, vocab_size=len(data.vocab), lr=0.003, optimizer="adam")
    trainer = d2l.Trainer(max_epochs=epochs, gradient_clip_val=1)
    trainer.fit(model, data)
    return trainer


def best(trainer: d2l.Trainer) -> Epoch:
    """Return the epoch with the lowest validation perplexity, where one would have stopped."""
    return min(trainer.history, key=lambda epoch: epoch.val_ppl)


def draw(trainer: d2l.Trainer, path: Path) -> None:
    """Plot the training and the validation perplexity of every epoch into `path`."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    epochs = [epoch.epoch for epoch in trainer.history]
    axes.plot(epochs, [epoch.train_ppl for epoch in trainer.history], label="training")
    axes.plot(epochs, [epoch.val_ppl for epoch in trainer.history], "C1--", label="validation")
    lowest = best(trainer)
    axes.plot(lowest.epoch, lowest.val_ppl, "C1o", label=f"lowest, epoch {lowest.epoch}")
    axes.set(xlabel="epoch", ylabel="perplexity", yscale="log", xlim=(0, epochs[-1] + 1))
    axes.set_yticks(ticks := [1, 2, 5, 10, 20, 50, 100, 200, 500], labels=map(str, ticks))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train, draw and print what came of it."""
    trainer = run()
    draw(trainer, Path(__file__).with_suffix(".png"))
    last, lowest = trainer.history[-1], best(trainer)
    print(f"training perplexity at the end    {last.train_ppl:8.2f}")
    print(f"lowest validation perplexity      {lowest.val_ppl:8.2f} (epoch {lowest.epoch})")
    print(f"validation perplexity at the end  {last.val_ppl:8.2f}")


if __name__ == "__main__":
    main()
