"""Sentence pairs that code generates, numbers in words of two languages, and models of them.

The tests of encoder-decoders and the program of their table in docs/frameworks.md share them.
"""

import random
from typing import Any

import pytest

from elman.model import weights
from elman.model.weights import Architecture
from elman.training.callback import Callback

WORDS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze
seize dix-sept dix-huit dix-neuf vingt trente quarante cinquante soixante
"""
NUMERALS = WORDS.split()
ENGLISH, ENGLISH_TENS = NUMERALS[:20], NUMERALS[20:28]
FRENCH, FRENCH_TENS = NUMERALS[28:48], NUMERALS[48:]
STEPS = 8  # of the small data
# The losses of the first 50 updates of PyTorch 2.13, with two layers of 32 units.
LOSSES = [
    *(3.44562, 3.37137, 3.27259, 3.17454, 3.03954, 2.91654, 2.76446, 2.69497, 2.60712, 2.52127),
    *(2.48347, 2.45849, 2.36727, 2.34045, 2.34924, 2.26559, 2.26603, 2.21145, 2.2041, 2.14832),
    *(2.15896, 2.1255, 2.04922, 2.05438, 2.02953, 2.00778, 1.99401, 1.91457, 1.92694, 1.95065),
    *(1.85879, 1.76594, 1.85519, 1.7842, 1.72994, 1.76211, 1.62841, 1.75301, 1.68165, 1.73838),
    *(1.67703, 1.57106, 1.65856, 1.58569, 1.60265, 1.56618, 1.52787, 1.53156, 1.48794, 1.52136),
]
# The same with attention.
ATTENTION_LOSSES = [
    *(3.45705, 3.39588, 3.31829, 3.24598, 3.13593, 3.02435, 2.85581, 2.76255, 2.66569, 2.57214),
    *(2.52167, 2.49254, 2.4016, 2.38003, 2.37963, 2.29006, 2.26603, 2.20563, 2.18808, 2.14899),
    *(2.13642, 2.12628, 2.03975, 2.04265, 2.01448, 1.98354, 1.97516, 1.90896, 1.90832, 1.92666),
    *(1.86517, 1.79209, 1.80714, 1.79099, 1.74248, 1.7585, 1.64486, 1.7369, 1.65834, 1.70414),
    *(1.63179, 1.57712, 1.62782, 1.56857, 1.56863, 1.52394, 1.50422, 1.50098, 1.44802, 1.47483),
]


def english(number: int) -> str:
    """A number below 1,000 in English words."""
    if number >= 100:
        rest = f" {english(number % 100)}" if number % 100 else ""
        return f"{ENGLISH[number // 100]} hundred{rest}"
    if number < 20:
        return ENGLISH[number]
    ones = f" {ENGLISH[number % 10]}" if number % 10 else ""
    return ENGLISH_TENS[number // 10 - 2] + ones


def french(number: int) -> str:
    """A number below 1,000 in French words."""
    if number >= 100:
        hundreds = "" if number < 200 else f"{FRENCH[number // 100]} "
        rest = f" {french(number % 100)}" if number % 100 else ""
        return f"{hundreds}cent{rest}"
    if number < 20:
        return FRENCH[number]
    if number >= 80:  # four times twenty, and up to nineteen more
        return "quatre-vingts" if number == 80 else f"quatre-vingt {FRENCH[number - 80]}"
    tens = min(number // 10, 6)  # seventy is sixty and ten
    ones = number - 10 * tens
    joined = {0: "", 1: " et un", 11: " et onze"}.get(ones, f" {FRENCH[ones]}")
    return FRENCH_TENS[tens - 2] + joined


def sentences(seed: int = 0) -> list[tuple[str, str]]:
    """The numbers below 1,000 as sentences of both languages, in random order."""
    numbers = random.Random(seed).sample(range(1000), 1000)
    return [(f"{english(n).capitalize()}!", f"{french(n).capitalize()}\u202f!") for n in numbers]


def text(seed: int = 0) -> str:
    """The pairs as a text, a pair a line."""
    return "".join(f"{source}\t{target}\n" for source, target in sentences(seed))


def data_of(
    module: Any, patch: pytest.MonkeyPatch, raw_text: str | None = None, **sizes: Any
) -> Any:
    """The framework's MTFraEng, which reads these pairs instead of the book's."""
    patch.setattr(
        module.MTFraEng, "_download", lambda self: text() if raw_text is None else raw_text
    )
    return module.MTFraEng(**sizes)


def small_data(module: Any, patch: pytest.MonkeyPatch) -> Any:
    """256 pairs for training, and 64 for validation."""
    sizes = {"batch_size": 64, "num_steps": STEPS, "num_train": 256, "num_val": 63}
    return data_of(module, patch, **sizes)


def architecture_of(
    data: Any, hidden: int, layers: int, embedding: int, attention: bool = False
) -> Architecture:
    sizes = len(data.tgt_vocab), hidden, layers, embedding
    return Architecture("gru", *sizes, source_vocab=len(data.src_vocab), attention=attention)


def model_for(
    module: Any,
    data: Any,
    hidden: int = 32,
    layers: int = 1,
    attention: bool = False,
    **options: Any,
) -> Any:
    arch = architecture_of(data, hidden, layers, hidden // 2, attention)
    values = weights.initial(arch, seed=1)
    return module.build_seq2seq(arch, values, tgt_pad=data.tgt_vocab["<pad>"], **options)


class Losses(Callback):
    """The losses of all updates."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def after_update(self, trainer: Any) -> None:
        """Keep the loss."""
        self.values.append(trainer.batch_loss)


def fit(module: Any, model: Any, data: Any, epochs: int) -> tuple[Any, list[float]]:
    trainer, losses = module.Trainer(epochs, gradient_clip_val=1), Losses()
    trainer.callbacks = (losses,)
    trainer.fit(model, data)
    return trainer, losses.values
