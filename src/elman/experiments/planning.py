"""Plan of a training before it starts: its memory and its speed, for one worker and for more.

Each of W workers computes a W-th of a batch, on a machine like this one or on its own GPU. Updates
with that many rows are timed on this machine. Then the workers exchange P gradients: each one sends
and receives 8 P (W - 1) / W bytes in two round trips. A partitioned optimizer takes half as much
again, to exchange the weights.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from elman.data.batches import check_rows
from elman.errors import (
    ElmanError,
    counted,
    is_finite_number,
    require_at_least,
    require_at_most,
    require_number,
)
from elman.experiments import recipe
from elman.experiments.choice import choose, default_shards
from elman.experiments.recipe import Facts
from elman.experiments.speed import Probe, operations_of
from elman.experiments.train import build_options
from elman.files import memory
from elman.files.long_work import showing
from elman.model import weights
from elman.model.registry import cell_named
from elman.model.weights import Architecture
from elman.runs.frameworks import count_gpus, framework_module
from elman.runs.settings import Settings
from elman.terms import Message, Option
from elman.training.workers.rows import Rows, embedding_in
from elman.valid_values import CHAR, MAX_SHARDS, SHARDED, TIME_MACHINE

log = logging.getLogger("elman")

NUMBER = 4  # bytes
EXCHANGE, CHECKPOINT = "exchange", "checkpoint"  # parts of the memory, at different times
EXCHANGED = 4  # copies of all gradients in an exchange
MAX_LOGITS = 1 << 24  # computed at once
UPDATES, SECONDS = 1000, 1.0  # maximum to time, for each number of workers
MAX_OPERATIONS = 5e10  # of a timed update; a larger one is measured on a part of it
MAX_WEIGHTS = 1 << 27  # of that part; its state takes two gigabytes
MIN_STEPS, MIN_SIZE = 8, 512  # of that part; the size is its vocabulary or its hidden units
TOKENS, VOCAB_SIZE = Option("tokens"), Option("vocab_size")
COLUMNS = ("workers", "tokens/s", "efficiency", "epoch", "update", "exchange", "moved", "memory")


@dataclass(frozen=True)
class Task:
    """The facts about a training that a plan needs.

    - `tokens`: tokens of the training part.
    - `steps`: tokens in a row of a batch.
    """

    settings: Settings
    arch: Architecture
    tokens: int
    steps: int

    def rows(self, workers: int) -> int:
        """Rows of a batch that a worker computes."""
        return -(-self.settings.batch_size // workers)

    @property
    def gradients(self) -> int:
        """Number of gradients that are exchanged: of a large embedding, a batch's rows."""
        shapes, symbols = weights.shapes(self.arch), self.settings.batch_size * self.steps
        number = weights.count(self.arch)
        if self.arch.tied or (embedding := embedding_in(shapes)) is None:
            return number
        rows = Rows(*embedding, np.arange(min(symbols, self.arch.vocab)))
        return number - (rows.left_out if rows.pay else 0)

    def exchanged(self, workers: int) -> float:
        """Bytes that an update moves to, and from, each worker."""
        again = weights.count(self.arch) if self.settings.partition_optimizer else 0
        return NUMBER * (2 * self.gradients + again) * (workers - 1) / workers

    def memory(self, workers: int, program: float) -> dict[str, float]:
        """Bytes of each part of the first worker's memory; `program` is all but the model."""
        size, cut = NUMBER * weights.count(self.arch), self.settings.partition_optimizer
        state = size * self.settings.numbers
        kept = state / workers if cut else state
        return {
            "program": program,
            "weights": size,
            "gradients": size,
            "optimizer": kept + (size / workers if cut else 0),  # plus the weights it updates
            "best epoch": size + kept,
            "batch": batch_memory(self.arch, self.rows(workers) * self.steps),
            EXCHANGE: EXCHANGED * NUMBER * self.gradients if workers > 1 else 0,
            CHECKPOINT: size + state,  # a copy; the best epoch is written without one
        }


@dataclass(frozen=True)
class Prediction:
    """Updates with a number of workers.

    - `efficiency`: tokens per second of a worker, relative to a single worker.
    - `epoch`, `update`, `exchange`: seconds for a pass over the training part, for an update, and
      for its exchange.
    - `exchanged`: bytes that an update moves to, and from, each worker.
    - `memory`: bytes of each part of the first worker's memory. It writes checkpoints.
    """

    workers: int
    tokens_per_second: float
    efficiency: float
    epoch: float
    update: float
    exchange: float
    exchanged: float
    memory: dict[str, float]

    @property
    def peak(self) -> float:
        """Peak memory in bytes."""
        parts = self.memory
        return sum(parts.values()) - min(parts[EXCHANGE], parts[CHECKPOINT])


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
        return "\n".join(map(words, _lines(self)))


def plan(
    given: Mapping[str, Any], workers: int, bandwidth: float, latency: float, tokens: int | None
) -> Plan:
    """Predict a training with these settings by 1, 2, 4, ... and by this number of workers.

    - `bandwidth`: gigabits per second to and from each worker.
    - `latency`: microseconds of a round trip between two workers.
    - `tokens`: tokens of the training part, if no text is read.
    """
    require_at_least(1, workers=workers)
    require_at_most(MAX_SHARDS, workers=workers)
    require_number(
        "a finite number above 0",
        lambda number: is_finite_number(number) and number > 0,
        bandwidth=bandwidth,
    )
    require_number(
        "a finite number of 0 or more",
        lambda number: is_finite_number(number) and number >= 0,
        latency=latency,
    )
    task = task_of(given, workers, tokens)
    numbers = numbers_of_workers(workers, task)
    with showing("measuring updates"):
        costs = [measure(task, number) for number in numbers]
    found: list[Prediction] = []
    for number, cost in zip(numbers, costs, strict=True):
        exchanged, exchange = task.exchanged(number), 0.0
        if number > 1:
            trips = 3 if task.settings.partition_optimizer else 2
            exchange = 8e-9 * exchanged / bandwidth + 1e-6 * latency * trips
        update = cost.seconds + exchange
        rate = task.settings.batch_size * task.steps / update
        efficiency = rate / number / (found[0].tokens_per_second if found else rate)
        times = task.tokens / rate, update, exchange
        parts = task.memory(number, costs[number > 1].program)
        found.append(Prediction(number, rate, efficiency, *times, exchanged, parts))
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
    assert choice.text is not None
    settings, text = choice.settings, choice.text
    steps = round(text.mean_line(settings.seq_len)) if settings.lines else settings.seq_len
    arch = settings.architecture(len(text.codec.vocab))
    return Task(settings, arch, len(text.ids("training")), max(1, steps))


def _unread(given: Mapping[str, Any], workers: int, tokens: int) -> Task:
    if "text" in given:
        raise ElmanError(
            TOKENS,
            f" conflicts with a text, got {given['text']} and ",
            TOKENS,
            ": give one of them",
        )
    vocab = given.get("vocab_size")
    if vocab is None:
        raise ElmanError(TOKENS, " requires ", VOCAB_SIZE, ": give both")
    if given.get("lines"):
        lines = Option("lines")
        raise ElmanError(lines, " requires a text, got ", lines, " and ", TOKENS, ": give a text")
    require_at_least(2, tokens=tokens)
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
    shards = task.settings.shards or 1
    powers = {1 << power for power in range(most.bit_length())}
    return [number for number in sorted({*powers, most}) if number <= shards]


@dataclass(frozen=True)
class Cost:
    """Seconds of an update on this machine, and bytes of a process without the model."""

    seconds: float
    program: float


def measure(task: Task, workers: int) -> Cost:
    """Train for a second with a worker's rows of a batch, or with a part of a large update."""
    settings, rows = task.settings, task.rows(workers)
    if workers > 1 and settings.framework != "jax":
        with suppress(ElmanError):  # not installed here; it exchanges the gradients
            framework_module("torch")
    framework = framework_module(settings.framework)
    num_gpus = count_gpus(settings.device, framework)
    probe = Probe(framework, num_gpus, build_options(settings), UPDATES, SECONDS)
    arch, part_rows, steps = part_of_update(task.arch, rows, task.steps)
    trainer, clock = probe.train(arch, part_rows, steps)
    seconds = float(np.median(np.diff(clock.times)))
    operations = operations_of(arch, part_rows * steps)
    program = 1e6 * (memory.peak_memory_mb() or 0)
    if not trainer.gpus:  # a GPU's memory is separate
        copies = 2 + settings.numbers
        program -= NUMBER * weights.count(arch) * copies + batch_memory(arch, part_rows * steps)
    whole = operations_of(task.arch, rows * task.steps)
    return Cost(seconds * whole / operations, max(0.0, program))


def part_of_update(arch: Architecture, rows: int, steps: int) -> tuple[Architecture, int, int]:
    """Model, rows and steps of an update of about a second, with a model that fits in memory.

    Reduce first the sizes of the model: that divides the optimizer's step as well.
    """
    while True:
        slow = operations_of(arch, rows * steps) > MAX_OPERATIONS
        if not slow and weights.count(arch) <= MAX_WEIGHTS:
            break
        if max(arch.hidden, arch.vocab) > MIN_SIZE:
            hidden, vocab = (
                max(min(size, MIN_SIZE), size // 2) for size in (arch.hidden, arch.vocab)
            )
            embedding = hidden if arch.tied else -(-arch.embedding // 2)
            arch = replace(arch, hidden=hidden, vocab=vocab, embedding=embedding)
        elif slow and steps > MIN_STEPS:
            steps = max(MIN_STEPS, steps // 2)
        elif slow and rows > 1:
            rows //= 2
        else:
            break
    return arch, rows, steps


def batch_memory(arch: Architecture, tokens: int) -> float:
    """Bytes to keep until the gradients of a batch are computed."""
    layer = 2 * (len(cell_named(arch.cell).gates) + 2) * arch.hidden
    logits = 2 * min(tokens * arch.vocab, MAX_LOGITS)
    return NUMBER * (tokens * (2 * arch.embedding + arch.layers * layer) + logits)


def _lines(plan: Plan) -> Iterator[str | Message]:
    task, largest = plan.task, plan.predictions[-1]
    arch, tokens = task.arch, task.settings.batch_size * task.steps
    layers, count = counted(arch.layers, "layer"), weights.count(arch)
    yield f"model    {arch.cell}, {layers} of {arch.hidden} units: {count:,} weights"
    yield f"update   {tokens:,} tokens, {_scaled(operations_of(arch, tokens))} operations"
    yield f"epoch    {task.tokens:,} tokens"
    yield ""
    rows = [COLUMNS, *map(_cells, plan.predictions)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
    yield ""
    yield "memory of the first worker" if largest.workers > 1 else "memory"
    for name, size in largest.memory.items():
        yield f"  {name:<12} {_scaled(size) + 'B':>8}"
    here = memory.limit()
    if here is not None and largest.peak > here:
        yield ""
        yield f"a worker needs {_scaled(largest.peak)}B, but this machine has {_scaled(here)}B"
    if largest.workers < plan.workers:
        yield ""
        yield Message(
            f"more than {largest.workers} workers require more ",
            Option("shards"),
            " or a larger ",
            Option("batch_size"),
        )


def _cells(one: Prediction) -> tuple[str, ...]:
    return (
        str(one.workers),
        f"{one.tokens_per_second:,.0f}",
        f"{one.efficiency:.0%}",
        _time(one.epoch),
        _time(one.update),
        _time(one.exchange),
        _scaled(one.exchanged) + "B",
        _scaled(one.peak) + "B",
    )


def _scaled(number: float) -> str:
    """A number with an SI prefix."""
    for prefix in ("", "k", "M", "G"):
        if number < 999.5:
            return f"{number:.3g} {prefix}"
        number /= 1000
    return f"{number:,.3g} T"


def _time(seconds: float) -> str:
    """A duration in the largest unit that it contains."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{1e6 * seconds:.3g} us"
