"""Short trainings with different settings, on a text of the comparison of models.

    python benchmarks/choices.py TEXT SECONDS SETTINGS ...

SETTINGS, as JSON, are changes to `DEFAULTS`. Of the initial weights `input_scale` multiplies those
of the first layer's inputs, `forget_bias` is that of an LSTM, and with `orthogonal` the recurrent
weights of each gate are. Prints the loss in nats a character of the first characters of the
validation part, the training loss of the last pass, updates and tokens per second.
"""

import json
import sys
from typing import Any

import numpy as np
from quality import FOLDER
from quality_texts import parts

from elman import numba
from elman.data.batch_settings import BatchSettings
from elman.data.parts import Sources
from elman.data.text import Text, TokenOptions, read_text
from elman.inference.language_model import score
from elman.model import weights
from elman.model.weights import Architecture, Weights
from elman.training.schedule import Schedule

DEFAULTS: dict[str, Any] = {
    **{"cell": "lstm", "layers": 2, "hidden": 256, "embedding": 0, "batch": 32, "steps": 64},
    **{"lr": 0.006, "clip": 1.0, "dropout": 0.0, "input_dropout": 0.0, "output_dropout": 0.0},
    **{"weight_decay": 0.01, "input_scale": 1.0, "forget_bias": None, "orthogonal": False},
}
READ = 150_000  # characters of the validation part


def orthogonal(rng: np.random.Generator, size: int) -> np.ndarray:
    """A random orthogonal matrix, (size, size), evenly distributed (Mezzadri 2007)."""
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    return np.asarray(q * np.sign(np.diag(r)), np.float32)


def initial(arch: Architecture, chosen: dict[str, Any]) -> Weights:
    """Initial weights with the changes that are chosen."""
    values, rng, size = weights.initial(arch), np.random.default_rng(1), arch.hidden
    values["rnn.weight_ih_l0"] *= np.float32(chosen["input_scale"])
    for name, value in values.items():
        if chosen["orthogonal"] and "weight_hh" in name:
            blocks = [orthogonal(rng, size) for _ in range(len(value) // size)]
            value[:] = np.concatenate(blocks)
        if chosen["forget_bias"] is not None and "bias_ih" in name:
            value[size : 2 * size] = chosen["forget_bias"]
    return values


def run(text: Text, seconds: float, changes: dict[str, Any]) -> None:
    """Train for so many seconds, and print the result."""
    chosen = DEFAULTS | changes
    sizes = (chosen[name] for name in ("hidden", "layers", "embedding"))
    arch = Architecture(chosen["cell"], len(text.codec.vocab), *sizes)
    names = ("dropout", "input_dropout", "output_dropout", "weight_decay")
    settings = {"optimizer": "adamw", "precision": numba.fastest_precision()}
    settings |= {name: chosen[name] for name in names}
    model = numba.build(arch, initial(arch, chosen), lr=chosen["lr"], **settings)
    model.compile(chosen["batch"])
    batches = BatchSettings(chosen["batch"], chosen["steps"], "contiguous")
    data = numba.TextFile.of(text, batches)
    data.val_dataloader = lambda: None  # all of the time is for training
    trainer = numba.Trainer(1_000_000, 0, chosen["clip"], show_progress=False)
    trainer.max_seconds, trainer.callbacks = seconds, (Schedule("cosine", 0.02),)
    trainer.fit(model, data)
    loss = float(np.concatenate(list(score(model, data.val[:READ]))).mean())
    last = trainer.history[-1]
    print(
        f"{loss:.4f} nats, in training {last.train_loss:.4f}, {trainer.train_batch_idx:,} updates, "
        f"{last.tokens_per_second:,.0f} tokens/s {json.dumps(changes)}",
        flush=True,
    )


def main() -> None:
    """Train with each of the settings."""
    text, seconds, *settings = sys.argv[1:]
    training, validation = parts(text, FOLDER)
    read = read_text(Sources.of(str(training), validation=str(validation)), TokenOptions())
    for changes in settings or ["{}"]:
        run(read, float(seconds), json.loads(changes))


if __name__ == "__main__":
    main()
