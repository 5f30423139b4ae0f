"""Results of a training in words."""

from pathlib import Path

from elman.data import sizes
from elman.experiments.train import Training
from elman.model.metrics import Evaluation, in_digits, perplexity
from elman.runs.results import place_in_words
from elman.training.history import best_epoch

LEAST_SHARE = 0.00005  # of unknown tokens that is shown: 0.01%


def results_in_words(training: Training, test: Evaluation | None) -> list[str]:
    """Lines with the results of a training and of its evaluation on the test part."""
    history = training.trainer.history
    validation = training.validation()
    best, last = best_epoch(history), history[-1]
    speeds = sorted(epoch.tokens_per_second for epoch in history)
    parts = {"validation": validation} if test is None else {"validation": validation, "test": test}
    shares = {"training": training.unknown_share}
    shares |= {part: found.unknown_share for part, found in parts.items()}
    unknown = []
    if max(shares.values()) >= LEAST_SHARE:
        unknown = [_line("unknown tokens", sizes.shares_in_words(shares))]
    quality = training.samples.quality()
    name, place = place_in_words(best, last.epoch, training.settings.by_time)
    return [
        f"{'':12}{'bits/char':>12}{'perplexity':>12}{'nats/token':>12}",
        _losses("training", training.training_bits(best.train_loss), best.train_loss),
        *(_losses(part, found.bits_per_character, found.loss) for part, found in parts.items()),
        "",
        *unknown,
        *map(_line, quality, quality.values()),
        _line(f"best {name}", place),
        _line("seconds", f"{last.seconds:.1f}"),
        _line("tokens per second", f"{speeds[len(speeds) // 2]:,.0f}"),
    ]


def run_in_words(folder: Path) -> str:
    """Line with the place of a run."""
    return _line("run", str(folder))


def _line(name: str, value: str) -> str:
    return f"{name:23}{value}"


def _losses(part: str, bits: float, loss: float) -> str:
    return f"{part:12}{bits:12.3f}{in_digits(perplexity(loss)):>12}{loss:12.4f}"
