"""Plan of a training before it starts: memory, operations, exchange and speed of workers.

For W workers, S shards of a batch and P weights, an update takes

    S / W * (gradients of a shard) + (optimizer's step) + (loop) + (exchange)

and W workers divide the step of a partitioned optimizer. Everything except the network is measured
on this machine, with as many processes as share it. They exchange with each other. An exchange
moves P (W - 1) / W numbers of 4 bytes to and from each worker twice: each worker sends every other
a piece of its gradient, adds up the pieces that it receives along the tree, and sends every other
the sum. Each time it sends all messages at once, each when the other worker has asked for it: two
latencies. Losses and numbers of tokens are sent with the pieces. With one worker on each machine
the network takes

    1538 / 1448 * 8 P (W - 1) / W / bandwidth + 4 * latency

since an Ethernet packet takes 1538 bytes of a link for 1448 of a message. Two workers take two
latencies for a small model: they exchange all numbers in one message. Rows of an embedding take two
rings before, of W - 1 messages one after another. JAX sends sums, losses and tokens around rings.
PyTorch sends the gradients of some weights during the backward pass (`overlap.py`): the exchange is
then what follows it. With M workers on a machine the share (W - M) / (W - 1) of the numbers takes
the network, and a ring crosses it W / M times.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from elman.core.data.batches import check_rows
from elman.core.errors import ElmanError, is_finite_number, require_at_least, require_number
from elman.core.experiments import recipe
from elman.core.experiments.calibration import operations_of
from elman.core.experiments.choice import choose, default_shards
from elman.core.experiments.frameworks import framework_module
from elman.core.experiments.machine import Measured, measure
from elman.core.experiments.measuring import EXCHANGED, NUMBER, Shard
from elman.core.experiments.overlap import Early, early_gradients, seconds_after
from elman.core.experiments.recipe import Facts
from elman.core.experiments.settings import Settings
from elman.core.model import weights
from elman.core.model.weights import Architecture
from elman.core.valid_values import CHAR, MAX_SHARDS, SHARDED, TIME_MACHINE
from elman.core.workers.processes import WHOLE
from elman.core.workers.rows import Rows, embedding_in

log = logging.getLogger("elman")

EXCHANGE, CHECKPOINT = "exchange", "checkpoint"  # parts of the memory, at different times
WIRE = 1538 / 1448  # bytes of a link for a byte of a message, with headers of Ethernet and TCP
WELL_USED = 0.5  # efficiency below which more workers do not pay


@dataclass(frozen=True)
class Network:
    """Network between workers.

    - `bandwidth`: gigabits per second, in both directions at once, for each worker.
    - `latency`: microseconds for a message.
    """

    bandwidth: float
    latency: float

    def __post_init__(self) -> None:
        require_number(
            "a finite number above 0",
            lambda number: is_finite_number(number) and number > 0,
            bandwidth=self.bandwidth,
        )
        require_number(
            "a finite number of 0 or more",
            lambda number: is_finite_number(number) and number >= 0,
            latency=self.latency,
        )

    def seconds(self, size: float, messages: int) -> float:
        """Seconds to move some bytes to and from a worker in some messages, one after another.

        gloo sends a message when the other worker has asked for it: that takes two latencies.
        """
        return WIRE * 8e-9 * size / self.bandwidth + 2e-6 * self.latency * messages


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

    @property
    def weights(self) -> int:
        """Number of weights."""
        return weights.count(self.arch)

    @property
    def operations(self) -> float:
        """Operations of an update, without the optimizer's."""
        return operations_of(self.arch, self.update_tokens)

    @property
    def update_tokens(self) -> int:
        """Tokens of a batch."""
        return self.settings.batch_size * self.steps

    def shards(self, workers: int) -> int:
        """Shards of a batch."""
        return self.settings.shards or default_shards(workers)

    @property
    def embedding(self) -> tuple[int, int, int, int] | None:
        """Embedding whose gradients may be exchanged as rows, as returned by `embedding_in`."""
        return None if self.arch.tied else embedding_in(weights.shapes(self.arch))

    @property
    def gradient_numbers(self) -> int:
        """Size of the exchanged gradient."""
        if self.embedding is None:
            return self.weights
        symbols = self.embedding[2]
        # Most rows that the batch can have; fewer if tokens repeat.
        rows = Rows(*self.embedding, np.arange(min(self.update_tokens, symbols)))
        return self.weights - (rows.left_out if rows.pay else 0)

    @property
    def sent_early(self) -> list[Early]:
        """Gradients that are sent while others are computed: only PyTorch's on CPUs."""
        is_early = self.settings.framework == "torch" and not on_gpus(self)
        return early_gradients(self.arch) if is_early else []

    def exchanged(self, workers: int) -> float:
        """Bytes that an update moves to, and from, each worker."""
        again = self.weights if self.settings.partition_optimizer else 0
        return NUMBER * (2 * self.gradient_numbers + again) * (workers - 1) / workers

    def messages(self, workers: int, machines: int) -> int:
        """Messages of an update that take the network one after another."""
        if machines == 1:
            return 0
        jax, cut = self.settings.framework == "jax", self.settings.partition_optimizer
        rest = self.gradient_numbers - sum(one.numbers for one in self.sent_early)
        small = workers == 2 and rest <= WHOLE
        rounds, rings = (1, 2 + cut) if jax else (2 - (small and not on_gpus(self)) + cut, 0)
        rings += 2 * (self.embedding is not None)
        return rounds + rings * min(workers - 1, machines)

    def shard(self, workers: int) -> Shard:
        """Largest shard of a batch."""
        rows = -(-self.settings.batch_size // self.shards(workers))
        return Shard(self.arch, rows, self.steps, self.gradient_numbers)

    def memory(self, workers: int, program: float) -> dict[str, float]:
        """Bytes of each part of a worker's memory; `program` is a process without a model."""
        size, cut = NUMBER * self.weights, self.settings.partition_optimizer
        copies = size + (EXCHANGED - 1) * NUMBER * self.gradient_numbers
        state = size * self.settings.numbers
        kept = state / workers if cut else state
        return {
            "program": program,
            "weights": size,
            "gradients": size,
            "optimizer": kept + (size / workers if cut else 0),  # plus the weights it updates
            "best epoch": size + kept,
            "batch": self.shard(workers).memory,
            EXCHANGE: copies if self.shards(workers) > 1 else 0,
            CHECKPOINT: size + state,  # a copy; the best epoch is written without one
        }


@dataclass(frozen=True)
class Prediction:
    """Updates with a number of workers.

    - `memory`: bytes of each part of the first worker's memory. It writes checkpoints.
    - `exchanged`: bytes that an update moves to, and from, each worker.
    - `compute`, `exchange`: seconds for an update.
    - `efficiency`: tokens per second of a machine, relative to one process on all its cores; for
      GPUs, tokens per second of a worker, relative to a single worker.
    - `epoch`: seconds for a pass over the training part.
    """

    workers: int
    memory: dict[str, float]
    exchanged: float
    compute: float
    exchange: float
    tokens_per_second: float
    efficiency: float
    epoch: float

    @property
    def peak(self) -> float:
        """Peak memory in bytes."""
        parts = self.memory
        return sum(parts.values()) - min(parts[EXCHANGE], parts[CHECKPOINT])


def task(given: Mapping[str, Any], workers: int, tokens: int | None = None) -> Task:
    """Training with the given settings; other settings are chosen as for a training.

    - `tokens`: tokens of the training part, if no text is read.
    """
    if given.get("pairs"):
        raise ElmanError("a plan requires a language model, got pairs: leave --pairs out")
    if (framework := given.get("framework", "numba")) not in SHARDED:
        raise ElmanError(
            f"a plan requires a framework with workers ({', '.join(SHARDED)}), got {framework}: "
            "choose one of them"
        )
    shards = given.get("shards")
    given = {"shards": _shards(given, workers), **given}
    planned = _unread(given, workers, tokens) if tokens is not None else _read(given, workers)
    if not given.get("partition_optimizer"):  # which is split among the workers, like the batch
        planned = replace(planned, settings=replace(planned.settings, shards=shards))
    check_rows(planned.settings.batch_size, planned.settings.shards or 1)
    return planned


def _shards(given: Mapping[str, Any], workers: int) -> int:
    """Shards of a batch in a training with so many workers, as far as a given size allows."""
    rows: int = max(1, given.get("batch_size", MAX_SHARDS))
    most = 1 << (min(rows, MAX_SHARDS).bit_length() - 1)  # a power of two
    return min(default_shards(workers), most)


def _read(given: Mapping[str, Any], workers: int) -> Task:
    if given.get("text", TIME_MACHINE) == TIME_MACHINE:
        raise ElmanError(
            "a plan requires the path of your text, or --tokens and --vocab-size: give one"
        )
    choice = choose(given, workers)
    assert choice.text is not None
    settings, text = choice.settings, choice.text
    steps = round(text.mean_line(settings.seq_len)) if settings.lines else settings.seq_len
    return _task(settings, len(text.codec.vocab), len(text.ids("training")), steps)


def _unread(given: Mapping[str, Any], workers: int, tokens: int) -> Task:
    if "text" in given:
        raise ElmanError(
            f"--tokens conflicts with a text, got {given['text']} and --tokens: give one of them"
        )
    vocab = given.get("vocab_size")
    if vocab is None:
        raise ElmanError("--tokens requires --vocab-size: give both")
    if given.get("lines"):
        raise ElmanError("--lines requires a text, got --lines and --tokens: give a text")
    require_at_least(2, tokens=tokens)
    framework = given.get("framework", Settings.framework)
    facts = Facts(tokens, tokens, vocab, max(2, tokens // 10), 0.0, workers * recipe.USUAL_SPEED)
    precision = given.get("precision") or framework_module(framework).fastest_precision()
    facts = replace(facts, precision=precision, tokenizer=given.get("tokenizer") or CHAR)
    settings, reasons = recipe.choose({"text": "text", **given}, facts)
    for line in reasons:
        log.info(line)
    return _task(settings, vocab, tokens, settings.seq_len)


def _task(settings: Settings, vocab: int, tokens: int, steps: int) -> Task:
    return Task(settings, settings.architecture(vocab), tokens, max(1, steps))


def predictions(
    task: Task, workers: int, network: Network, per_machine: int = 1
) -> list[Prediction]:
    """Predictions for 1, 2, 4, ... workers up to a number, on machines like this one.

    - `per_machine`: workers that share a machine, unless each has a GPU.
    """
    with_gpus = on_gpus(task)
    known: dict[tuple[Shard, int, bool, bool], Measured] = {}
    found: list[Prediction] = []
    for number in numbers_of_workers(workers, task):
        together = 1 if with_gpus else min(number, per_machine)
        case = task.shard(number), together, number > 1, together == number
        if case not in known:
            known[case] = measure(task.settings, *case)
        alone = found[0].tokens_per_second if found else None
        found.append(_predicted(task, number, together, network, known[case], alone))
    return found


def on_gpus(task: Task) -> bool:
    """True if each worker has a GPU."""
    framework = framework_module(task.settings.framework)
    return task.settings.device != "cpu" and len(framework.devices()) > 1


def _predicted(
    task: Task,
    workers: int,
    together: int,
    network: Network,
    measured: Measured,
    alone: float | None,
) -> Prediction:
    shards = -(-task.shards(workers) // workers)  # of the worker with the most
    cut = task.settings.partition_optimizer
    step = measured.step / (workers if cut else 1)
    compute = shards * measured.gradients + step + measured.loop
    exchanged, exchange = task.exchanged(workers), 0.0
    machines = -(-workers // together)
    if workers > 1:
        fewest = workers % together or together  # smallest number on a machine
        far = (workers - fewest) / (workers - 1)  # share of the other workers on other machines
        exchange = measured.exchange
        exchange += _network_seconds(task, workers, machines, network, far, measured.gradients)
    rate = task.update_tokens / (compute + exchange)
    return Prediction(
        workers,
        task.memory(workers, measured.program),
        exchanged,
        compute,
        exchange,
        rate,
        rate / machines / (alone or rate),
        task.tokens / rate,
    )


def _network_seconds(
    task: Task, workers: int, machines: int, network: Network, far: float, gradients: float
) -> float:
    """Seconds that the network takes for an exchange after the backward pass.

    - `far`: share of the numbers that takes the network.
    - `gradients`: seconds for the gradients of a shard.
    """
    early = task.sent_early if machines > 1 else []
    # Two workers send all of an early part at once, others the pieces of the first round.
    size = far * NUMBER * (1 if workers == 2 else (workers - 1) / workers)
    after = seconds_after(gradients, early, lambda number: network.seconds(size * number, 0))
    later = far * task.exchanged(workers) - size * sum(one.numbers for one in early)
    return after + network.seconds(later, task.messages(workers, machines))


def numbers_of_workers(most: int, task: Task) -> list[int]:
    """Powers of two and `most`, while each worker has a shard, and each shard a row."""
    limit = min(task.settings.batch_size, MAX_SHARDS)
    powers = {1 << power for power in range(most.bit_length())}
    shards = {number: task.shards(number) for number in sorted({*powers, most})}
    return [n for n, parts in shards.items() if n <= parts <= limit]


def last_that_pays(found: list[Prediction]) -> Prediction:
    """The last prediction, with increasing numbers of workers, that uses its machines well."""
    return [one for one in found if one.efficiency >= WELL_USED][-1]
