"""Any number of threads gives the same bits, and a batch ends whatever becomes of them."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Thread
from typing import Any

import numpy as np
import pytest

from elman import numba as engine
from elman.inference.language_model import generate_all
from elman.inference.sampling import Sampler
from elman.kernels.codegen import work_queue
from elman.kernels.host import arrays as host_arrays
from elman.kernels.host import engine as kernels
from elman.kernels.host import threads
from elman.kernels.host.arrays import DropoutMasks
from elman.kernels.host.engine import Engine
from elman.kernels.rnn.program import FIRST
from elman.model.options import ModelOptions
from elman.model.weights import Architecture, Weights
from tests.engine.batches import batch_of, learned, weights_of


def engine_with(arch: Architecture, number: int, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine that has weights, and divides a batch among so many threads."""
    monkeypatch.setattr(threads.config, "NUMBA_NUM_THREADS", number)
    made = Engine(arch)
    made.load(weights_of(arch))
    return made


def update(made: Engine, batch: Any) -> tuple[float, Weights]:
    """The loss of a batch and its gradients."""
    loss, _ = made.loss(*batch, (), DropoutMasks(), training=True)
    return loss, made.gradients()


def take_turns(used: Any, step: int, work: Any, number: int, queue: Any) -> None:
    """A stand-in for `run_in_threads`: of the threads, the one `step` further has the next part."""
    threads.open_queue(queue)
    shapes, cell, arrays, phases, _ = used.arguments
    for part in range(phases[-1, FIRST]):
        until = phases.copy()
        until[-1, FIRST] = part + 1  # as if there were no further parts
        queue.next[0] = part
        spinning = threads.counter(work_queue.CALLED_AWAY)
        used.run(shapes, cell, arrays, until, queue, part * step % number, spinning)


def assert_same_bits(found: tuple[float, Weights], wanted: tuple[float, Weights]) -> None:
    assert found[0] == wanted[0]
    for name, gradient in wanted[1].items():
        np.testing.assert_array_equal(found[1][name], gradient)


def test_whichever_thread_has_a_part_the_bits_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    number, arch = 3, Architecture("lstm", 28, 16)
    batch = batch_of(arch, 300, 6)
    wanted = update(engine_with(arch, 1, monkeypatch), batch)
    made = engine_with(arch, number, monkeypatch)
    # A worker that still spun on the queue would take parts, too.
    monkeypatch.setattr(threads.Worker, "call", lambda *arguments: None)
    assert_same_bits(update(made, batch), wanted)
    losses = [work.losses for work in made.used.arrays.works]
    for step in (1, number - 1):
        for of_thread in losses:
            of_thread.fill(0)
        monkeypatch.setattr(kernels, "run_in_threads", partial(take_turns, made.used, step))
        assert_same_bits(update(made, batch), wanted)
        assert [of_thread.any() for of_thread in losses] == [True] * number


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_large_weights_are_read_once_a_step_with_the_same_bits(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = Architecture(cell, 28, 160, 2, 40)  # all 64 sequences are one block
    batch = batch_of(arch, 64, 3)
    wanted = update(engine_with(arch, 1, monkeypatch), batch)
    monkeypatch.setattr(host_arrays, "LARGE_WEIGHTS", 0)
    for number in (1, 2, 3):
        made = engine_with(arch, number, monkeypatch)
        assert_same_bits(update(made, batch), wanted)


def test_a_batch_does_not_wait_for_a_thread_that_does_not_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arch = Architecture("gru", 28, 16)
    batch, asked = batch_of(arch, 300, 6), []
    wanted = update(engine_with(arch, 1, monkeypatch), batch)
    made = engine_with(arch, 3, monkeypatch)
    monkeypatch.setattr(threads.Worker, "call", lambda worker, work, n, queue: asked.append(n))
    assert_same_bits(update(made, batch), wanted)
    assert asked == [1, 2]
    works = made.used.arrays.works
    assert [work.losses.any() for work in works] == [True, False, False]


def test_a_batch_is_completed_after_an_interrupt() -> None:
    calls: list[int] = []

    def work(thread: int, spinning: Any) -> None:
        calls.append(thread)
        if len(calls) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        threads.run_in_threads(work, 1, threads.empty_queue())
    assert calls == [0, 0]


def test_two_models_share_the_threads() -> None:
    kinds = [Architecture("rnn", 11, 7), Architecture("lstm", 28, 16)]
    batches = [batch_of(arch, 300, 6) for arch in kinds]
    alone = [learned(engine, arch, batch)[1] for arch, batch in zip(kinds, batches, strict=True)]
    models = [engine.build(arch, weights_of(arch)) for arch in kinds]
    for model in models:
        model.plot = lambda *values, **options: None  # there is no trainer

    def train(n: int) -> set[float]:
        return {models[n].training_step(batches[n]) for _ in range(30)}

    for _ in range(10):
        assert [models[n].training_step(batches[n]) for n in (0, 1)] == alone
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(train, (0, 1))) == [{loss} for loss in alone]


@pytest.mark.parametrize("allowed", [0, 1])
def test_training_and_generation_work_with_the_threads_that_can_be_started(
    allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = Architecture("gru", 28, 16)
    batch, prefixes = batch_of(arch, 300, 6), [[n] for n in range(20)]
    monkeypatch.setattr(threads.config, "NUMBA_NUM_THREADS", 3)
    monkeypatch.setattr(threads, "_workers", [])
    model, wanted = learned(engine, arch, batch)
    texts = generate_all(model, prefixes, 30, Sampler(), 5)
    start, left = Thread.start, [None] * allowed

    def start_some(thread: Thread) -> None:
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        start(thread)

    monkeypatch.setattr(threads, "_workers", [])
    monkeypatch.setattr(Thread, "start", start_some)
    found, loss = learned(engine, arch, batch)
    assert loss == wanted
    left[:] = [None] * allowed
    np.testing.assert_array_equal(generate_all(found, prefixes, 30, Sampler(), 5), texts)


FORKED_MEANWHILE = """
import os, signal, sys
from threading import Thread
import numpy as np
from numba.core.compiler_lock import global_compiler_lock
from elman import numba
from elman.model.weights import Architecture, initial

arch = Architecture("rnn", 11, 7)
model = numba.build(arch, initial(arch))
model.plot = lambda *values, **options: None
ids = np.arange(11)[None].repeat(300, axis=0)
wanted = model.training_step((ids, ids))
done = False

def train():
    while not done:
        assert model.training_step((ids, ids)) == wanted
        with global_compiler_lock:
            sum(range(300_000))

thread = Thread(target=train)
thread.start()
codes = []
for _ in range(20):
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # which ends a child that waits for ever
        with global_compiler_lock:
            os._exit(model.training_step((ids, ids)) != wanted)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    if codes[-1]:
        break
done = True
thread.join()
sys.exit(any(codes))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_has_threads_locks_and_arrays_of_its_own() -> None:
    environment = os.environ | {"NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", FORKED_MEANWHILE], env=environment, timeout=100)
    assert done.returncode == 0


def test_threads_read_one_model_as_one_thread_does() -> None:
    arch = Architecture("lstm", 29, 61, 2, 30)
    model = engine.build(arch, weights_of(arch))
    ids = np.random.default_rng(0).integers(0, 29, (2, 50))
    wanted = model.step(ids)[0]
    with ThreadPoolExecutor(4) as pool:
        for logits, _ in pool.map(lambda _: model.step(ids), range(100)):
            np.testing.assert_array_equal(logits, wanted)


@pytest.mark.parametrize("precision", ["single", "bf16"])
@pytest.mark.parametrize(("hidden", "embedding"), [(16, 0), (96, 40)])
def test_any_batch_has_the_same_bits_with_any_number_of_threads(
    precision: str, hidden: int, embedding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = Architecture("gru", 28, hidden, 2, embedding)

    def updates(number: int) -> list[tuple[float, Weights]]:
        monkeypatch.setattr(threads.config, "NUMBA_NUM_THREADS", number)
        made = Engine(arch, options=ModelOptions(precision=precision))
        made.load(weights_of(arch))
        sizes = (20, 1, 2, 7, 8, 31, 32, 33, 64, 65, 129)
        return [update(made, batch_of(arch, batch, 3)) for batch in sizes]

    wanted = updates(1)
    for number in (2, 3, 7, 16, 64):
        for found, right in zip(updates(number), wanted, strict=True):
            assert_same_bits(found, right)


@pytest.mark.parametrize("precision", ["single", "bf16"])
def test_states_masks_dropout_and_many_tokens_change_no_bit_between_threads(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = Architecture("lstm", 1100, 40, 2, 40, tied=True)
    batch, steps, rng = 50, 21, np.random.default_rng(2)
    kept = [
        rng.integers(0, 2, shape).astype(np.float32)
        for shape in ((steps, batch, 40), *2 * [(batch, 40)])
    ]
    masks = DropoutMasks([kept[0]], kept[1], kept[2])
    state = tuple(rng.normal(0, 1, (2, batch, 40)).astype(np.float32) for _ in range(2))
    counted = rng.random((batch, steps)) < 0.7

    def trained(number: int) -> tuple[float, Weights]:
        monkeypatch.setattr(threads.config, "NUMBA_NUM_THREADS", number)
        made = Engine(arch, options=ModelOptions(precision=precision))
        made.load(weights_of(arch))
        loss, final = made.loss(*batch_of(arch, batch, steps), state, masks, True, counted)
        return loss, made.gradients() | dict(zip(("h", "c"), final, strict=True))

    wanted = trained(1)
    for number in (2, 3, 7, 16, 64):
        assert_same_bits(trained(number), wanted)
