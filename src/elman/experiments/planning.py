"""Plan of a training before it starts: its speed and its memory, for one worker and for more.

Each of W workers computes a W-th of a batch, on a machine like this one or on its own GPU. Updates
with that many rows are timed on this machine. The exchange of gradients between workers depends on
their network, and is not planned.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from elman.data.batches import check_rows
from elman.data.text import Text
from elman.errors import ElmanError, require_at_least, require_at_most
from elman.experiments import recipe
from elman.experiments.choice import choose, default_shards, with_origin
from elman.experiments.recipe import Facts
from elman.experiments.speed import Probe, operations_of
from elman.experiments.train import build_options
from elman.files import memory
from elman.files.long_work import showing
from elman.model import weights
from elman.model.registry import cell_named
from elman.model.weights import Architecture
from elman.runs.frameworks import count_gpus, framework_module
from elman.runs.settings import Settings, check_given
from elman.runs.table import in_rows
from elman.terms import Message, Option
from elman.valid_values import CHAR, MAX_SHARDS, SHARDED, TIME_MACHINE

log = logging.getLogger("elman")

NUMBER, MEGABYTE = 4, 1e6  # bytes
EXCHANGED = 4  # copies of all gradients in an exchange
MAX_LOGITS = 1 << 24  # computed at once
UPDATES, SECONDS = 1000, 1.0  # maximum to time, for each number of workers
MAX_OPERATIONS = 5e10  # of a timed update; of a larger one, some rows are timed
TOKENS, VOCAB_SIZE = Option("tokens"), Option("vocab_size")


@dataclass(frozen=True)
class Task:
    """A training, with `tokens` in its training part and `steps` tokens in a row of a batch."""

    settings: Settings
    arch: Architecture
    tokens: int
    steps: int

    def memory(self, workers: int) -> dict[str, float]:
        """Bytes of the parts of the first worker's memory, without the program."""
        size, cut = NUMBER * weights.count(self.arch), self.settings.partition_optimizer
        state = size * self.settings.numbers
        kept = state / workers if cut else state
        checkpoint = size + state  # a copy; the best epoch is written without one
        return {
            "weights": size,
            "gradients": size,
            "optimizer": kept + (size / workers if cut else 0),  # plus the weights it updates
            "best epoch": size + kept,
            "batch": batch_memory(self.arch, self.rows(workers) * self.steps),
            "copies": max(checkpoint, EXCHANGED * size if workers > 1 else 0),
        }

    def rows(self, workers: int) -> int:
        """Rows of a batch that a worker computes."""
        return -(-self.settings.batch_size // workers)


@dataclass(frozen=True)
class Prediction:
    """Updates with a number of workers.

    - `tokens_per_second`: of all workers together, without their exchange.
    - `epoch`, `update`: seconds for a pass over the training part, and for an update.
    - `memory`: bytes of each part of the first worker's memory. It writes checkpoints.
    """

    workers: int
    tokens_per_second: float
    epoch: float
    update: float
    memory: dict[str, float]

    @property
    def peak(self) -> float:
        """Peak memory in bytes."""
        return sum(self.memory.values())


@dataclass(frozen=True, repr=False)
class Plan:
    """Predictions of a training for several numbers of workers; as a string, a table of them."""

    task: Task
    predictions: list[Prediction]
    workers: int

    def to_dict(self) -> dict[str, Any]:
        """Number of weights of the model, and each prediction."""
        predictions = [asdict(one) | {"peak": one.peak} for one in self.predictions]
        return {"weights": weights.count(self.task.arch), "predictions": predictions}

    def __repr__(self) -> str:
        return self.table(str)

    def table(self, words: Callable[[Any], str]) -> str:
        """The table, with options in the words of the command line or of Python."""
        return "\n".join(map(words, self._lines()))

    def _lines(self) -> Iterator[str | Message]:
        task, largest = self.task, self.predictions[-1]
        tokens = task.settings.batch_size * task.steps
        yield f"model   {weights.in_words(task.arch, task.settings.precision)}"
        yield f"update  {tokens:,} tokens, {operations_of(task.arch, tokens) / 1e9:,.1f} GFLOP"
        yield f"epoch   {task.tokens:,} tokens"
        columns = {
            "workers": [f"{one.workers}" for one in self.predictions],
            "tokens/s": [f"{one.tokens_per_second:,.0f}" for one in self.predictions],
            "update ms": [f"{1e3 * one.update:,.1f}" for one in self.predictions],
            "epoch s": [f"{one.epoch:,.1f}" for one in self.predictions],
            "memory MB": [f"{one.peak / MEGABYTE:,.0f}" for one in self.predictions],
        }
        yield from ("", *in_rows(columns), "")
        yield "memory of the first worker" if largest.workers > 1 else "memory"
        for name, size in largest.memory.items():
            yield f"  {name:<12} {size / MEGABYTE:>8,.1f} MB"
        if largest.workers < self.workers:
            yield ""
            rule = f"more than {largest.workers} workers require more "
            yield Message(rule, Option("shards"), " or a larger ", Option("batch_size"))


def plan(given: Mapping[str, Any], workers: int, tokens: int | None = None) -> Plan:
    """Predict a training with these settings by 1, 2, 4, ... and by this number of workers.

    - `tokens`: tokens of the training part, if no text is read.

    Raises an ElmanError for a model that does not fit in memory.
    """
    require_at_least(1, workers=workers)
    require_at_most(MAX_SHARDS, workers=workers)
    task = task_of(given, workers, tokens)
    weights.require_memory(task.arch, 2 * (2 + task.settings.numbers))
    numbers = numbers_of_workers(workers, task)
    with showing("measuring updates"):
        costs = [measure(task, number) for number in numbers]
    found = []
    for number, (update, _) in zip(numbers, costs, strict=True):
        rate = task.settings.batch_size * task.steps / update
        parts = {"program": costs[number > 1][1], **task.memory(number)}
        found.append(Prediction(number, rate, task.tokens / rate, update, parts))
    return Plan(task, found, workers)


def task_of(given: Mapping[str, Any], workers: int, tokens: int | None = None) -> Task:
    """Training with the given settings; other settings are chosen as for a training."""
    if given.get("pairs"):
        rule = "a plan requires a language model, got pairs: leave "
        raise ElmanError(rule, Option("pairs"), " out")
    if (framework := given.get("framework", Settings.framework)) not in SHARDED:
        raise ElmanError(
            f"a plan requires a framework with workers ({', '.join(SHARDED)}), got {framework}: "
            "choose one of them"
        )
    rows: int = max(1, given.get("batch_size", MAX_SHARDS))
    most = 1 << (min(rows, MAX_SHARDS).bit_length() - 1)  # a power of two
    given = {"shards": min(default_shards(workers), most), **given}
    task = _read(given, workers) if tokens is None else _unread(given, workers, tokens)
    check_rows(task.settings.batch_size, task.settings.shards or 1)
    return task


def _read(given: Mapping[str, Any], workers: int) -> Task:
    if given.get("text", TIME_MACHINE) == TIME_MACHINE:
        raise ElmanError(
            "a plan requires the path of your text, or ", TOKENS, " and ", VOCAB_SIZE, ": give one"
        )
    choice = choose(given, workers)
    assert isinstance(choice.text, Text)
    settings, text = choice.settings, choice.text
    steps = round(text.mean_row(settings.seq_len))
    arch = settings.architecture(len(text.codec.vocab))
    return Task(settings, arch, len(text.ids("training")), max(1, steps))


def _unread(given: Mapping[str, Any], workers: int, tokens: int) -> Task:
    given, _ = with_origin(given)
    for name in ("text", "lines"):
        if value := given.get(name):
            rule = f" conflicts with {name}, got {value}: give one of them"
            raise ElmanError(TOKENS, rule)
    vocab = given.get("vocab_size")
    if vocab is None:
        raise ElmanError(TOKENS, " requires ", VOCAB_SIZE, ": give both")
    require_at_least(2, tokens=tokens)
    check_given({"text": "text", **given})
    framework = framework_module(given.get("framework", Settings.framework))
    precision = given.get("precision") or framework.fastest_precision()
    tokenizer, speed = given.get("tokenizer") or CHAR, workers * recipe.USUAL_SPEED
    facts = Facts(tokens, tokens, vocab, max(2, tokens // 10), 0.0, speed, precision, tokenizer)
    settings, reasons = recipe.choose({"text": "text", **given}, facts)
    for line in reasons:
        log.info(line)
    return Task(settings, settings.architecture(vocab), tokens, settings.seq_len)


def numbers_of_workers(most: int, task: Task) -> list[int]:
    """Powers of two and `most`, while each worker has a shard of a batch."""
    powers = {1 << power for power in range(most.bit_length())}
    return [number for number in sorted({*powers, most}) if number <= (task.settings.shards or 1)]


def measure(task: Task, workers: int) -> tuple[float, float]:
    """Seconds of an update with a worker's rows on this machine, and bytes without the model.

    Of a large update, some rows are timed.
    """
    settings, rows, arch = task.settings, task.rows(workers), task.arch
    if workers > 1 and settings.framework != "jax":
        with suppress(ElmanError):  # not installed here; it exchanges the gradients
            framework_module("torch")
    framework = framework_module(settings.framework)
    num_gpus = count_gpus(settings.device, framework)
    probe = Probe(framework, num_gpus, build_options(settings), UPDATES, SECONDS)
    most = int(MAX_OPERATIONS / operations_of(arch, task.steps))
    timed = max(1, min(rows, most))
    trainer, clock = probe.train(arch, timed, task.steps)
    seconds = float(np.median(np.diff(clock.times))) * rows / timed
    program = 1e6 * (memory.peak_memory_mb() or 0)
    if not trainer.gpus:  # a GPU's memory is separate
        size = NUMBER * weights.count(arch) * (2 + settings.numbers)
        program -= size + batch_memory(arch, timed * task.steps)
    return seconds, max(0.0, program)


def batch_memory(arch: Architecture, tokens: int) -> float:
    """Bytes to keep until the gradients of a batch are computed."""
    layer = 2 * (len(cell_named(arch.cell).gates) + 2) * arch.hidden
    logits = 2 * min(tokens * arch.vocab, MAX_LOGITS)
    return NUMBER * (tokens * (2 * arch.embedding + arch.layers * layer) + logits)
