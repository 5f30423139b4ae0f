"""Picture of a model while it learns: how well it predicts, and what it writes meanwhile.

    python benchmarks/learning.py TEXT PREFIX [--epochs N] [--plot PATH]

trains on a text with the settings that `elman train TEXT --epochs N` chooses. Forty times it
measures the model on the last 20,000 characters of the test part and has it continue the prefix at
temperature 0.5. The picture shows the bits per character and four of the texts. One machine draws
the same picture each time. The text of the picture in docs is the
output of `bible -l79 Genesis1:1-Revelation22:21` (bible-kjv).
"""

import argparse
import textwrap
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot

import elman
from elman.experiments.report import continued
from elman.inference.evaluation import evaluate
from elman.training.callback import Callback
from elman.training.loop import Loop

POINTS, SHOWN = 40, (0, 2, 9, 39)  # measurements, and those with a text in the picture
HELD_OUT = 20_000  # characters
TEMPERATURE, SEED, TOKENS = 0.5, 0, 120
WIDTH, LINES = 80, 3  # of a text in the picture
COLOR = "tab:blue"


@dataclass(frozen=True)
class Point:
    """Share of the training, bits per character, and a text."""

    share: float
    bits: float
    text: str


class Observer(Callback):
    """Measures the model, and has it write, at equal distances in a training."""

    def __init__(self, prefix: str, held_out: str) -> None:
        self._prefix, self._held_out = prefix, held_out
        self.points: list[Point] = []

    def after_update(self, trainer: Loop) -> None:
        """Add a point if it is time."""
        if trainer.progress < (len(self.points) + 1) / POINTS:
            return
        model = trainer.model
        bits = evaluate(model, self._held_out, model.codec).bits_per_character
        prefix = model.codec.prefix_ids(self._prefix)
        text = continued(model, model.codec, prefix, TOKENS, TEMPERATURE, SEED)
        self.points.append(Point(trainer.progress, bits, text))
        print(f"\n{trainer.progress:.3f}: {bits:.3f} bits per character\n{text}", flush=True)


def draw(path: str, points: list[Point], characters: float) -> None:
    """The curve on the left, and some of the texts on the right."""
    figure, (curve, page) = pyplot.subplots(
        1, 2, figsize=(11, 3.6), width_ratios=(3, 5), layout="constrained"
    )
    read = [each.share * characters / 1e6 for each in points]
    bits = [each.bits for each in points]
    curve.plot(read, bits, color=COLOR, marker="o", markevery=[*SHOWN])
    curve.set_xlim(left=0)
    curve.set_xlabel("millions of characters read")
    curve.set_ylabel("bits per character of unseen text")
    curve.grid(alpha=0.3)
    curve.spines[["top", "right"]].set_visible(False)
    page.axis("off")
    for row, place in enumerate(SHOWN):
        top = 1 - row / len(SHOWN)
        head = f"after {read[place]:.1f} million characters: {bits[place]:.2f} bits per character"
        lines = textwrap.wrap(" ".join(points[place].text.split()), WIDTH)[:LINES]
        page.text(0, top, head, color=COLOR, va="top", size=10, weight="bold")
        page.text(0, top - 0.07, "\n".join(lines), va="top", family="monospace", size=9)
    figure.savefig(path, dpi=160)


def main() -> None:
    """Train and draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("text")
    parser.add_argument("prefix")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--plot", default="learning.png")
    asked = parser.parse_args()
    text = Path(asked.text).read_text("utf-8")
    observer = Observer(asked.prefix, text[-HELD_OUT:])
    print(elman.train(asked.text, epochs=asked.epochs, callbacks=[observer]))
    draw(asked.plot, observer.points, 0.8 * len(text) * asked.epochs)


if __name__ == "__main__":
    main()
