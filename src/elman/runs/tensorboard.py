"""Callback that writes the log of a training for TensorBoard."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.data.batches import Batch, ShardedLoader
from elman.errors import ElmanError
from elman.files.paths import as_path, os_error
from elman.model import step_arrays
from elman.model.registry import cell_named
from elman.model.weights import Architecture
from elman.runs.frameworks import module_of
from elman.training.callback import Callback
from elman.training.loop import Loop

log = logging.getLogger("elman")

POINTS = 1000  # maximum for a curve of batches; TensorBoard shows no more
SNAPSHOTS = 50  # maximum number of histograms of a weight, and of texts
SEQUENCES = 32  # whose gates are recorded
Arrays = dict[str, NDArray[Any]]


def check_installed() -> Any:
    """The module of event files; an ElmanError if the package it needs is missing."""
    return import_module("elman.runs.event_file")


class TensorBoard(Callback):
    """Write losses, perplexities, speed, histograms of weights and gates, and texts to `folder`.

    A step is an update. The curves of epochs have a point for each epoch. Curves of batches have at
    most 1,000 points, and there are at most 50 histograms and texts, evenly spaced over the
    training. Gates are recorded for a validation batch. `sample` returns a text. If the folder
    contains the log of a resumed training, the log continues. If the log cannot be written, it ends
    with a warning.
    """

    def __init__(self, folder: str | Path, sample: Callable[[], str] | None = None) -> None:
        self.folder = as_path(folder, "the folder of a log")
        self.sample = sample
        self._events = check_installed()
        self._file: Any = None  # of the log, unless it cannot be written
        self._updates = math.inf  # so far
        self._progress = 0.0  # after the last of them

    def before_update(self, trainer: Loop) -> None:
        """Open a file if a training begins or resumes."""
        if trainer.train_batch_idx < self._updates:
            self._progress = trainer.progress
            with self._giving_up():
                self._file = self._events.EventFile(self.folder, trainer.train_batch_idx)
        self._updates = trainer.train_batch_idx

    def before_validate(self, trainer: Loop) -> None:
        """Open a file if a training resumes here."""
        self.before_update(trainer)

    def after_update(self, trainer: Loop) -> None:
        """Log the batch, and the weights if they are due."""
        self._updates = trainer.train_batch_idx
        before, self._progress = self._progress, trainer.progress

        def passes(number: int) -> bool:
            """True if one of `number` equal parts of the training has ended since."""
            return int(number * self._progress) > int(number * before)

        if passes(POINTS):
            self._write(
                trainer,
                {
                    "loss/batch": trainer.batch_loss,
                    "training/learning_rate": trainer.learning_rate,
                    "training/gradient_norm": float(trainer.gradient_norm),
                },
            )
        if passes(SNAPSHOTS):
            self._write(trainer, {**_histograms(trainer), **self._texts()})

    def after_epoch(self, trainer: Loop) -> None:
        """Log the epoch."""
        epoch = trainer.history[-1]
        values: dict[str, Any] = {
            "loss/training": epoch.train_loss,
            "loss/validation": epoch.val_loss,
            "training/tokens_per_second": epoch.tokens_per_second,
        }
        if trainer.in_bits is not None:
            to_train, to_val = trainer.in_bits
            values |= {
                "bits_per_character/training": to_train(epoch.train_loss),
                "bits_per_character/validation": to_val(epoch.val_loss),
            }
        elif trainer.model.board.data.keys() & {"train_ppl", "val_ppl"}:
            values |= {
                "perplexity/training": epoch.train_ppl,
                "perplexity/validation": epoch.val_ppl,
            }
        self._write(trainer, values)

    def _texts(self) -> dict[str, str]:
        try:
            return {} if self.sample is None else {"sample": self.sample()}
        except ElmanError:  # if weights diverged, the next update raises
            return {}

    def _write(self, trainer: Loop, values: Mapping[str, Any]) -> None:
        if self._file is not None:
            with self._giving_up():
                self._file.write(trainer.train_batch_idx, values)

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        """Turn an error of the operating system into a warning, and end the log."""
        try:
            yield
        except OSError as error:
            self._file = None
            log.warning(
                "%s; the training continues without a log", os_error("write", self.folder, error)
            )


def _histograms(trainer: Loop) -> Arrays:
    """Weights, by canonical name or the trainer's name for other kinds of models, and gates."""
    model = trainer.model
    try:
        weights = dict(module_of(model).export_weights(model))
        gates = _gates(trainer, module_of(model).architecture(model), weights)
    except ElmanError:
        arrays = trainer.state_dict().items()
        weights = {name[6:]: array for name, array in arrays if name.startswith("model.")}
        gates = {}
    named = {f"weights/{name}": array for name, array in weights.items()}
    return named | {f"gates/{name}": array for name, array in gates.items()}


def _gates(trainer: Loop, arch: Architecture, weights: Arrays) -> Arrays:
    """Activations of the gates on some sequences of the first validation batch."""
    if trainer.val_dataloader is None:
        return {}
    whole = trainer.val_dataloader
    if isinstance(whole, ShardedLoader):
        whole = whole.loader
    batch = Batch.of(next(iter(whole)))
    ids = trainer.model.xp.numpy(batch.inputs[0])[:SEQUENCES]
    found = gate_activations(arch, weights, ids)
    if batch.mask is None:
        return found
    counts = batch.mask[:SEQUENCES].T  # (steps, batch)
    return {name: values[counts] for name, values in found.items()}


def gate_activations(arch: Architecture, weights: Mapping[str, Any], ids: NDArray[Any]) -> Arrays:
    """Activations of the gates while reading ids, (batch, steps), from the zero state.

    Names consist of layer and gate, such as `l0.f`. Arrays are (steps, batch, hidden), with numbers
    between 0 and 1. A cell without gates has none.
    """
    cell, found = cell_named(arch.cell), Arrays()
    inputs = weights["embedding.weight"][ids.T] if arch.embedding else None
    for layer in range(arch.layers if cell.sigmoids else 0):
        own = {kind: weights[f"rnn.{kind}_l{layer}"] for kind in cell.weight_kinds}
        W_ih = own["weight_ih"].T
        # One-hot ids select rows.
        x = (W_ih[ids.T] if inputs is None else inputs @ W_ih) + own["bias_ih"]
        state = (np.zeros((x.shape[1], arch.hidden), x.dtype),) * cell.states
        outputs, sums = [], []
        for x_t in x:
            r = state[0] @ own["weight_hh"].T + own["bias_hh"] if "weight_hh" in own else None
            sums.append(x_t if r is None else x_t + r)
            state = cell.next_state(step_arrays, x_t, r, state, own)
            outputs.append(state[0])
        inputs = np.stack(outputs)
        parts = np.split(np.stack(sums), len(cell.gates), axis=2)
        for gate, part in zip(cell.gates, parts, strict=True):
            if gate in cell.sigmoids:
                found[f"l{layer}.{gate}"] = step_arrays.sigmoid(part)
    return found
