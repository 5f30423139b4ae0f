"""Plots of a sweep: its losses in the order of the trials, and the importance of settings."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import optuna

from elman.core.training.curve_files import drawing, save


def draw(folder: Path, study: optuna.Study, shares: Mapping[str, float]) -> None:
    """Write history.png, and importance.png if there are shares, into the folder of a sweep."""
    path = folder / "history.png"
    with drawing(path):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4))
        axes = figure.subplots()
        values = {t.number: t.value for t in study.get_trials(deepcopy=False)}
        found = {number: value for number, value in values.items() if value is not None}
        numbers, losses = list(found), list(found.values())
        lowest = np.minimum.accumulate(np.array(losses, float))
        axes.plot(numbers, losses, "o", label="a trial")
        axes.plot(numbers, lowest, "-", label="lowest so far")
        axes.set(xlabel="trial", ylabel="validation loss in nats per character")
        axes.legend()
        save(figure, path)
    if not shares:
        return
    path = folder / "importance.png"
    with drawing(path):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 0.6 + 0.4 * len(shares)))
        axes = figure.subplots()
        names = sorted(shares, key=lambda name: shares[name])
        axes.barh(names, [shares[name] for name in names])
        axes.set(xlabel="importance for the best trials")
        save(figure, path)
