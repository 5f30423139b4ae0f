"""A recurrent layer on numbers instead of text: a noisy sine, predicted from its last four values.

The sequence chapter of Dive into Deep Learning with d2l.RNN in place of linear regression: the
further ahead the model feeds on its own predictions, the worse they become. It writes the
predictions to examples/autoregressive.png.

    python examples/autoregressive.py
"""

from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from elman import torch as d2l

TAU = 4  # how many past values predict the next
HORIZONS = (1, 4, 16, 64)


class Sine(d2l.DataModule):
    """A sine with noise, cut into windows of TAU values and the value after each."""

    def __init__(self, batch_size: int = 16, points: int = 1000, num_train: int = 600) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.time = d2l.arange(1, points + 1, dtype=d2l.float32)
        self.clean = d2l.sin(0.01 * self.time)
        self.x = self.clean + 0.2 * d2l.randn(points)

    def get_dataloader(self, train: bool) -> Any:
        """Batches of features (batch, TAU) and labels (batch, 1)."""
        features = self.x[:-1].unfold(0, TAU, 1)  # (points - TAU, TAU)
        labels = self.x[TAU:].reshape(-1, 1)
        # No label of the training part lies after the first num_train points.
        border = self.num_train - TAU
        rows = slice(0, border) if train else slice(border, None)
        return self.get_tensorloader([features, labels], train, rows)


class Autoregressive(d2l.Module):
    """A recurrent layer over the past values, and a linear layer on its last output."""

    def __init__(self, num_hiddens: int = 32, lr: float = 0.02) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.rnn = d2l.RNN(num_inputs=1, num_hiddens=num_hiddens)
        self.linear = nn.Linear(num_hiddens, 1)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Return the next values, (batch, 1), for past values (batch, TAU)."""
        outputs, _ = self.rnn(X.T.unsqueeze(2))  # (TAU, batch, hidden)
        return self.linear(outputs[-1])

    def loss(self, y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error of a batch."""
        return nn.functional.mse_loss(y_hat, y)


@torch.no_grad()
def ahead(model: Autoregressive, x: torch.Tensor, steps: int) -> torch.Tensor:
    """Predict the values `steps` after each window of TAU values: x[TAU + steps - 1 :]."""
    windows = x[:-steps].unfold(0, TAU, 1)  # (windows, TAU)
    for _ in range(steps):
        windows = torch.cat([windows[:, 1:], model(windows)], dim=1)
    return windows[:, -1]


def run(epochs: int = 10) -> tuple[Autoregressive, Sine]:
    """Train on the first 600 points, and return the model and its data."""
    torch.manual_seed(0)
    data, model = Sine(), Autoregressive()
    d2l.Trainer(max_epochs=epochs).fit(model, data)
    return model, data


def error(model: Autoregressive, data: Sine, steps: int) -> float:
    """Return the root mean squared error against the clean sine, after the training part."""
    later = len(data.x) - data.num_train
    difference = ahead(model, data.x, steps)[-later:] - data.clean[-later:]
    return difference.square().mean().sqrt().item()


def draw(model: Autoregressive, data: Sine, path: Path) -> None:
    """Plot one-step predictions over the data, and those of every horizon below, into `path`."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    top, bottom = figure.subplots(2, sharex=True, sharey=True)
    top.plot(data.time, data.x, ".", color="0.7", markersize=3, label="data")
    curve(top, model, data, 1, color="C0", label="1 step ahead")
    for steps, color in zip(HORIZONS, ("C0", "C1", "C2", "C3"), strict=True):
        curve(
            bottom, model, data, steps, color=color, label=f"{steps} step{'s' * (steps > 1)} ahead"
        )
    for axes in (top, bottom):
        axes.plot(data.time, data.clean, "k--", linewidth=1, label="sine")
        axes.axvline(data.num_train, color="0.4", linestyle=":", label="end of training")
        axes.grid(alpha=0.3)
        axes.set_ylabel("x")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    bottom.set(xlabel="time", xlim=(0, len(data.x)))
    figure.savefig(path, dpi=150)


def curve(axes: Any, model: Autoregressive, data: Sine, steps: int, **style: str) -> None:
    """Plot the predictions of one horizon at the times they are for."""
    predictions = ahead(model, data.x, steps)
    axes.plot(data.time[-len(predictions) :], predictions, linewidth=1, **style)


def main() -> None:
    """Train, draw and print the error of every horizon."""
    model, data = run()
    draw(model, data, Path(__file__).with_suffix(".png"))
    for steps in HORIZONS:
        print(f"steps ahead {steps:2}: root mean squared error {error(model, data, steps):.3f}")


if __name__ == "__main__":
    main()
