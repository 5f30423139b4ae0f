"""Results of a training in words."""

from elman.core.data import splits
from elman.core.experiments.results import place_in_words
from elman.core.experiments.train import Training
from elman.core.model.metrics import Evaluation, in_digits
from elman.core.training.history import best_epoch

LEAST_SHARE = 0.00005  # of unknown tokens that is shown: 0.01%


def results_in_words(training: Training, test: Evaluation | None) -> list[str]:
    """Lines with the results of a training, and with its evaluation on the test part."""
    history = training.trainer.history
    validation = training.validation()
    best = best_epoch(history)
    last = history[-1]
    speeds = sorted(epoch.tokens_per_second for epoch in history)
    parts = {"validation": validation} if test is None else {"validation": validation, "test": test}
    bits = {
        part: f"{part + ' bits/char':22} {found.bits_per_character:.3f}"
        for part, found in parts.items()
    }
    are_characters = training.trainer.in_bits is None  # else bits are first
    lines = [] if are_characters else [*bits.values()]
    lines.append(f"training perplexity    {in_digits(best.train_ppl)}")
    for part, found in parts.items():
        lines += [
            f"{part + ' loss':22} {found.loss:.4f} nats per token",
            f"{part + ' perplexity':22} {in_digits(found.perplexity)}",
            *([bits[part]] if are_characters else []),
        ]
    shares = {"training": training.unknown_share}
    shares |= {part: found.unknown_share for part, found in parts.items()}
    if max(shares.values()) >= LEAST_SHARE:
        lines.append(f"unknown tokens         {splits.shares_in_words(shares)}")
    name, place = place_in_words(best, last.epoch, training.settings.by_time)
    return [
        *lines,
        f"{name:22} {place}",
        f"seconds                {last.seconds:.1f}",
        f"tokens per second      {speeds[len(speeds) // 2]:,.0f}",
    ]
