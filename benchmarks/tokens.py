"""Trainings that differ in their tokens, or in other settings, on the first characters of a text.

    python benchmarks/tokens.py [--counted GFLOPS] [--drawn N] TEXT CHARACTERS MINUTES [TOKENS ...]

TEXT is one of quality_texts.py, or the path of a file, whose last tenth is then for validation.
TOKENS is auto, char, byte, word, or a number of byte pairs, and other settings that are given, as
in 1024,embedding=128. All others are those that `elman train` chooses. Prints a line of JSON for
each training: bits for each character of the validation part, and what was chosen.

--drawn adds so many trainings with settings around the choice, the first ones that `quality.py
search` would draw for elman.

With --counted the clock of a training counts operations, at so many GFLOP/s, and it takes as many
updates on a machine that does other work as on a quiet one.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from quality import FOLDER, drawn, unused
from quality_texts import OTHER_ALPHABETS, TEXTS, parts, split

import elman
from elman.experiments import choice
from elman.model import weights
from elman.numba import architecture
from elman.training import loop as training
from elman.training.callback import Callback
from elman.training.loop import Loop

READ = 150_000  # characters of the validation part
VALIDATED = 1.1  # times the operations of the updates, with the validations
PROBED = 0.8  # of the speed, which the probe before a training reaches


class Counted(Callback):
    """A clock that counts the operations of a training, at a speed in operations a second."""

    def __init__(self, speed: float) -> None:
        self.speed, self.now = speed, 0.0
        self.optimizer_operations = 0.0  # beside those of the model
        training.time = self  # type: ignore[attr-defined]
        choice.operations_per_second = lambda *_: PROBED * speed  # type: ignore[assignment]

    def perf_counter(self) -> float:
        """Seconds so far."""
        return self.now

    def after_update(self, trainer: Loop) -> None:
        """Count the update, and a share of a validation."""
        operations = weights.OPERATIONS * weights.products(architecture(trainer.model))
        operations *= VALIDATED * trainer.reached().tokens
        self.now = (operations + self.optimizer_operations) / self.speed


def texts(name: str, characters: int, folder: Path) -> tuple[Path, Path]:
    """Files of the first characters of a text's training part, and of its validation part."""
    if name in TEXTS | OTHER_ALPHABETS:
        whole = [path.read_text(encoding="utf-8") for path in parts(name, FOLDER)]
    else:
        whole = list(split(Path(name).read_text(encoding="utf-8"), False))
    paths = folder / "training.txt", folder / "validation.txt"
    for path, text, length in zip(paths, whole, (characters, READ), strict=True):
        path.write_text(text[:length], encoding="utf-8", newline="")
    return paths


def options_of(words: str) -> dict[str, Any]:
    """Options of a training for a name, or a number of byte pairs, and other settings."""
    tokens, *others = words.split(",")
    options = {
        name: json.loads(value) for name, _, value in (each.partition("=") for each in others)
    }
    if tokens == "auto":
        return options
    if tokens.isdecimal():
        return {"tokenizer": "bpe", "vocab_size": int(tokens), **options}
    return {"tokenizer": tokens, **options}


def drawn_options(trial: int) -> dict[str, Any]:
    """Options of a training that are drawn at random, but for those that it does not use."""
    options = drawn("elman", trial)
    for name in unused(options):
        del options[name]
    return {name.replace("-", "_"): value for name, value in options.items()}


def trained(
    name: str, characters: int, minutes: float, options: dict[str, Any], speed: float | None
) -> tuple[elman.Run, float]:
    """A training on a text, and bits for each character of its validation part.

    - `speed`: operations a second of a clock that counts them; None for the machine's clock.
    """
    with tempfile.TemporaryDirectory() as folder:
        training, validation = texts(name, characters, Path(folder))
        run = elman.train(
            training,
            val=str(validation),
            minutes=minutes,
            lines=name in TEXTS and TEXTS[name].kind == "lines",
            quiet=True,
            callbacks=[Counted(speed)] if speed else [],
            **options,
        )
        return run, elman.evaluate(run, validation).bits_per_character


def main() -> None:
    """Train with each of the tokens."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--counted", type=float)
    parser.add_argument("--drawn", type=int, default=0)
    parser.add_argument("text")
    parser.add_argument("characters", type=int)
    parser.add_argument("minutes", type=float)
    parser.add_argument("tokens", nargs="*")
    asked = parser.parse_args()
    name, characters, minutes = asked.text, asked.characters, asked.minutes
    speed = asked.counted and 1e9 * asked.counted
    trainings = [(tokens, options_of(tokens)) for tokens in asked.tokens]
    trainings += [(f"trial {n}", drawn_options(n)) for n in range(asked.drawn)]
    for tokens, options in trainings:
        run, bits = trained(name, characters, minutes, options, speed)
        passes = run.history.get("passes", run.history.get("epoch"))
        print(
            json.dumps(
                {
                    **{"text": name, "characters": characters, "minutes": minutes},
                    **{"tokens": tokens, "given": options, "bits": round(bits, 4)},
                    **{
                        key: run.settings[key]
                        for key in ("hidden", "embedding", "lr", "input_dropout")
                    },
                    **{"dropout": run.settings["output_dropout"], "passes": passes[-1]},
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
