"""Plan of a training, made before it starts: memory, operations, exchange and speed of workers.

For W workers, S shards of a batch and P weights, an update takes

    S / W * (gradients of a shard) + (optimiser's step) + (exchange)

The first two are measured on this machine. An exchange moves 2 P (W - 1) / W numbers to and from
each worker, as docs/scale.md describes it.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from elman.core.errors import ElmanError, is_finite_number, require_at_least, require_number
from elman.core.experiments import recipe, train
from elman.core.experiments.calibration import Probe, Speeds, operations_of, speeds
from elman.core.experiments.frameworks import framework_module
from elman.core.experiments.recipe import Facts
from elman.core.experiments.settings import Settings
from elman.core.model import weights
from elman.core.model.cells import CELLS
from elman.core.model.weights import Architecture
from elman.core.training.rows import embedding_in
from elman.core.valid_values import SHARDED

log = logging.getLogger("elman")

NUMBER = 4  # bytes
PASSES = 4  # over all gradients, around an exchange
EXCHANGED = 4  # copies of all gradients, in an exchange
MAX_LOGITS = 1 << 24  # that are computed at once
WELL_USED = 0.5  # of a worker's time; where less is, more workers do not pay


@dataclass(frozen=True)
class Network:
    """Network between workers.

    - `bandwidth`: gigabits per second, to and from each worker at the same time.
    - `latency`: microseconds of a message.
    """

    bandwidth: float
    latency: float

    def __post_init__(self) -> None:
        for name, value in (("bandwidth", self.bandwidth), ("latency", self.latency)):
            require_number(
                "a finite number above 0",
                lambda number: is_finite_number(number) and number > 0,
                **{name: value},
            )

    def seconds(self, size: float, messages: int) -> float:
        """Time of some bytes to and from a worker in some messages."""
        return 8e-9 * size / self.bandwidth + 1e-6 * self.latency * messages


@dataclass(frozen=True)
class Task:
    """A training, as far as a plan goes.

    - `tokens`: tokens of the training part.
    - `steps`: tokens of a row of a batch.
    """

    settings: Settings
    arch: Architecture
    tokens: int
    steps: int

    @property
    def weights(self) -> int:
        """Number of weights."""
        return weights.count(self.arch)

    @property
    def operations(self) -> float:
        """Operations of an update, but for the optimiser's."""
        return operations_of(self.arch, self.update_tokens)

    @property
    def update_tokens(self) -> int:
        """Tokens of a batch."""
        return self.settings.batch_size * self.steps

    def shards(self, workers: int) -> int:
        """Shards of a batch."""
        return self.settings.shards or train.default_shards(workers)

    def exchanged(self, workers: int) -> float:
        """Bytes that an update moves to, and from, each worker."""
        collectives = 3 if self.settings.partition_optimizer else 2
        embedding = None if self.arch.tied else embedding_in(weights.shapes(self.arch))
        left_out = 0
        if embedding is not None:
            _, symbols, features = embedding
            rows = min(self.update_tokens, symbols)  # fewer if symbols repeat
            left_out = 2 * (symbols - rows) * features if 2 * rows < symbols else 0
        return NUMBER * (collectives * self.weights - left_out) * (workers - 1) / workers

    def memory(self, workers: int, program: float) -> dict[str, float]:
        """Bytes of each part of a worker's memory; `program` is that of one without a model."""
        size = NUMBER * self.weights
        parts = workers if self.settings.partition_optimizer else 1
        optimizer = size * train.optimizer_numbers(self.settings) / parts
        rows = -(-self.settings.batch_size // self.shards(workers))
        return {
            "program": program,
            "weights": size,
            "gradients": size,
            "optimizer": optimizer,
            "best epoch": size + optimizer,
            "exchange": EXCHANGED * size if self.shards(workers) > 1 else 0,
            "batch": NUMBER * _batch_numbers(self.arch, rows * self.steps),
        }


def _batch_numbers(arch: Architecture, tokens: int) -> float:
    """Numbers that are kept of the tokens of a batch until its gradients are computed."""
    layer = 2 * (len(CELLS[arch.cell].gates) + 2) * arch.hidden
    logits = 2 * min(tokens * arch.vocab, MAX_LOGITS)
    return tokens * (2 * arch.embedding + arch.layers * layer) + logits


@dataclass(frozen=True)
class Prediction:
    """Updates of so many workers.

    - `memory`: bytes of each part of a worker's memory.
    - `exchanged`: bytes that an update moves to, and from, each worker.
    - `compute`, `exchange`: seconds of an update.
    - `efficiency`: tokens per second of a worker, as a share of those of one that is alone.
    - `epoch`: seconds of a pass over the training part.
    """

    workers: int
    memory: dict[str, float]
    exchanged: float
    compute: float
    exchange: float
    tokens_per_second: float
    efficiency: float
    epoch: float


def task(given: Mapping[str, Any], workers: int, tokens: int | None = None) -> Task:
    """Training with the settings that are given; the others are chosen as those of a training.

    - `tokens`: number of those of a training part that is not read.
    """
    if (framework := given.get("framework", "numba")) not in SHARDED:
        raise ElmanError(
            f"plans are for workers, which train in {', '.join(SHARDED)}, got {framework}: choose "
            "one of these"
        )
    if tokens is not None:
        return _unread(given, workers, tokens)
    if train.is_chosen(given):
        settings, _, _, data, reasons = train.settings_for_text(given, workers)
        _tell(reasons)
    else:
        settings = Settings(**given)
        framework = framework_module(settings.framework)
        data = train.read_data(settings, framework, train.origin_of(settings))
    steps = round(data.mean_line) if settings.lines else settings.seq_len
    return _task(settings, len(data.vocab), len(data.train), steps)


def _unread(given: Mapping[str, Any], workers: int, tokens: int) -> Task:
    if "text" in given:
        raise ElmanError(
            f"the tokens of a text are counted, got {given['text']} and --tokens: give one of them"
        )
    vocab = given.get("vocab_size")
    if vocab is None:
        raise ElmanError("a text that is not read has --tokens and --vocab-size: give both")
    require_at_least(2, tokens=tokens)
    facts = Facts(tokens, tokens, vocab, max(2, tokens // 10), 0.0, workers * recipe.USUAL_SPEED)
    settings, reasons = recipe.choose({"text": "text", **given}, facts)
    _tell(reasons)
    return _task(settings, vocab, tokens, settings.seq_len)


def _tell(reasons: list[str]) -> None:
    for line in reasons:
        log.info(line)


def _task(settings: Settings, vocab: int, tokens: int, steps: int) -> Task:
    s = settings
    arch = Architecture(s.cell, vocab, s.hidden, s.layers, s.embedding, s.tied)
    return Task(settings, arch, tokens, max(1, steps))


def predictions(task: Task, workers: int, network: Network) -> list[Prediction]:
    """Predictions for 1, 2, 4 and more workers, up to some number, on machines like this one."""
    settings, framework = task.settings, framework_module(task.settings.framework)
    num_gpus = train.count_gpus(settings, framework)
    probe = Probe(framework, framework.Trainer, num_gpus, train.build_options(settings))
    program = 1e6 * (train.peak_memory_mb() or 0)  # of this process, which has read the text
    known: dict[int, Speeds] = {}
    found: list[Prediction] = []
    for number in numbers_of_workers(workers, task):
        rows = -(-settings.batch_size // task.shards(number))
        if rows not in known:
            known[rows] = speeds(probe, task.arch, rows, task.steps)
        alone = found[0].tokens_per_second if found else None
        memory = task.memory(number, program)
        found.append(_predicted(task, number, network, known[rows], memory, alone))
    return found


def _predicted(
    task: Task,
    workers: int,
    network: Network,
    speed: Speeds,
    memory: dict[str, float],
    alone: float | None,
) -> Prediction:
    shards = -(-task.shards(workers) // workers)  # of the worker that has the most
    step = speed.step / (workers if task.settings.partition_optimizer else 1)
    compute = shards * speed.gradients + step
    exchanged, exchange = task.exchanged(workers), 0.0
    if workers > 1:
        exchange = network.seconds(exchanged, 2 * (workers - 1))
        exchange += PASSES * task.weights * speed.number
    rate = task.update_tokens / (compute + exchange)
    return Prediction(
        workers,
        memory,
        exchanged,
        compute,
        exchange,
        rate,
        rate / workers / (alone or rate),
        task.tokens / rate,
    )


def numbers_of_workers(most: int, task: Task) -> list[int]:
    """Powers of two and `most`, as far as each worker has a shard, and each shard a row."""
    powers = {1 << log for log in range(most.bit_length())}
    shards = {number: task.shards(number) for number in sorted({*powers, most})}
    return [n for n, parts in shards.items() if n <= parts <= task.settings.batch_size]


def last_that_pays(found: list[Prediction]) -> Prediction:
    """The last of predictions for more and more workers that uses them well."""
    return [one for one in found if one.efficiency >= WELL_USED][-1]
