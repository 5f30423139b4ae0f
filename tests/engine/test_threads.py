"""Any number of threads gives the same bits, and a batch ends whatever becomes of them."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from numba import njit

from elman import numba as engine
from elman.inference.language_model import generate_all
from elman.inference.sampling import Sampler
from elman.kernels.codegen import work_queue
from elman.kernels.host import arrays as host_arrays
from elman.kernels.host import engine as kernels
from elman.kernels.host import threads
from elman.kernels.host.arrays import BatchSizes, DropoutMasks, StepArrays
from elman.kernels.host.engine import Engine
from elman.kernels.rnn import by_groups, by_steps
from elman.kernels.rnn.program import FIRST, OPERATION, PARTS
from elman.model.options import ModelOptions
from elman.model.weights import Architecture, Weights
from tests.engine.batches import batch_of, learned, wait_until, weights_of


def engine_with(arch: Architecture, number: int, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine that has weights, and divides a batch among so many threads."""
    monkeypatch.setattr(threads.config, "NUMBA_NUM_THREADS", number)
    made = Engine(arch)
    made.load(weights_of(arch))
    return made


def engine_after_a_batch(number: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Engine, Any, Any]:
    """An engine of so many threads that has had a batch, and the ids of that."""
    arch = Architecture("rnn", 11, 7)
    X, Y = (part.astype(np.int32) for part in batch_of(arch, 300, 5))
    made = engine_with(arch, number, monkeypatch)
    made.loss(X, Y, (), DropoutMasks(), training=True)
    return made, X, Y


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


@pytest.mark.parametrize("number", [2, 3, 7])
def test_any_number_of_threads_gives_the_same_bits(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = Architecture("lstm", 28, 16)
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


def step_arrays(arch: Architecture, batch: int, cores: int) -> StepArrays:
    """The arrays of a batch of 64 steps on a machine with some cores, without compiled code."""
    made = Engine(arch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads.config, "NUMBA_NUM_THREADS", cores)
        patch.setattr(host_arrays, "compiled", lambda run, *arguments: run)
        return StepArrays(made.layout, made.shapes, batch, BatchSizes(64, False, 0, False, False))


@pytest.mark.parametrize("batch", [1, 8, 32, 64, 130, 160])
@pytest.mark.parametrize(("cell", "hidden"), [("rnn", 96), ("gru", 128), ("lstm", 256)])
def test_more_cores_make_no_batch_slower_by_the_estimate(
    cell: str, hidden: int, batch: int
) -> None:
    before = np.inf
    for cores in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64):
        used = step_arrays(Architecture(cell, 28, hidden), batch, cores)
        cycles = used.estimated_cycles(used.threads)
        assert used.threads <= cores
        assert cycles <= before
        before = cycles


def test_blocks_that_take_turns_take_as_long_as_each_of_them() -> None:
    one, three = (step_arrays(Architecture("lstm", 28, 256), batch, 1) for batch in (64, 192))
    assert three.estimated_cycles(1) == 3 * one.estimated_cycles(1)


def test_threads_that_wait_for_each_other_at_every_step_are_no_more_than_the_parts() -> None:
    used = step_arrays(Architecture("lstm", 28, 256), 8, 64)
    phases = used.phases[used.phases[:, OPERATION] == by_steps.FORWARD]
    assert len(phases) == 64
    assert 4 < used.threads <= phases[0, PARTS]


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
        phases = made.used.arguments[3]
        forward = phases[phases[:, OPERATION] == by_steps.FORWARD]
        panels = made.layout.hidden // made.layout.width
        assert forward[:, PARTS].tolist() == [min(panels, 4 * number)] * len(forward)


@pytest.mark.parametrize(
    "arch", [Architecture("gru", 11, 16), Architecture("lstm", 11, 80)], ids=str
)
def test_padded_lines_have_the_same_bits_on_any_number_of_threads(
    arch: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(arch, 70, 12)
    mask = np.arange(12) < np.random.default_rng(0).integers(1, 13, 70)[:, None]

    def masked(made: Engine) -> tuple[float, Weights]:
        loss, _ = made.loss(*batch, (), DropoutMasks(), True, mask)
        return loss, made.gradients()

    wanted = masked(engine_with(arch, 1, monkeypatch))
    for number in (2, 3):
        assert_same_bits(masked(engine_with(arch, number, monkeypatch)), wanted)


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


def test_a_helper_computes_a_batch_alone_and_goes_to_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    # A worker that had been called to this queue would take parts, too.
    monkeypatch.setattr(threads.Worker, "call", lambda *arguments: None)
    made, X, Y = engine_after_a_batch(2, monkeypatch)
    used, spinning = made.used, threads.counter(1)
    totals, wanted = used.totals.copy(), made.gradients()
    arrays = used.arrays
    for array in (arrays.sums, used.totals, *made.layout.new_gradients().values()):
        array.fill(0)
    made.filled = made.layout.new_gradients()
    made._fill_batch(used, X, Y, (), DropoutMasks(), training=True)
    threads.open_queue(used.queue)
    used.run(*used.arguments, 1, spinning)
    assert spinning[0] == 0
    np.testing.assert_array_equal(used.totals, totals)
    for name, gradient in made.gradients().items():
        np.testing.assert_array_equal(gradient, wanted[name])


def spinner(looks: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`spin_for_batch` of a worker that sleeps after so many looks."""
    monkeypatch.setattr(work_queue, "SPIN_LIMIT", looks)
    return njit(nogil=True)(work_queue.spin_for_batch.py_func)


def test_a_call_for_another_queue_gets_a_spinning_worker_off_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spin, worker, done = spinner(1 << 62, monkeypatch), threads.Worker(), []
    queues = [threads.empty_queue() for _ in range(2)]

    def work(queue: Any, thread: int, spinning: Any) -> None:
        assert not spin(queue, 1, spinning)
        done.append(thread)

    for n, queue in enumerate((*queues, queues[0])):
        worker.call(partial(work, queue), n, queue)
        wait_until(lambda queue=queue: worker.queue is queue and worker.spinning[0] == 1)
        assert done == list(range(n))
        worker.call(partial(work, queue), -1, queue)  # it spins on that already
        assert worker.calls.empty()
    worker.call(lambda thread, spinning: done.append(thread), 3, threads.empty_queue())
    wait_until(lambda: done == [0, 1, 2, 3])


def test_a_worker_that_is_called_away_takes_part_in_a_batch_that_has_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    last_look, queue = spinner(0, monkeypatch), threads.empty_queue()
    spinning = threads.counter(work_queue.CALLED_AWAY)
    assert not last_look(queue, 1, spinning)
    assert spinning[0] == 0
    spinning[0] = work_queue.CALLED_AWAY
    threads.open_queue(queue)
    assert last_look(queue, 1, spinning)
    assert spinning[0] == work_queue.CALLED_AWAY  # it leaves afterwards


def test_of_calls_that_a_worker_has_not_come_to_the_last_one_counts() -> None:
    worker, done, busy = threads.Worker(), [], Event()
    queues = [threads.empty_queue() for _ in range(3)]
    worker.call(lambda thread, spinning: busy.wait(60), 0, queues[0])
    wait_until(lambda: worker.spinning[0])
    for n in (1, 2):
        worker.call(lambda thread, spinning: done.append(thread), n, queues[n])
    busy.set()
    wait_until(lambda: done)
    assert done == [2]
    assert worker.calls.empty()


def test_each_phase_of_a_batch_waits_for_the_end_of_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, X, Y = engine_after_a_batch(1, monkeypatch)
    used, gradients = made.used, made.gradients()["linear.weight"]
    wanted, queue, phases = used.totals.copy(), used.queue, used.phases
    process, sums = (
        next(phase for phase in phases if phase[OPERATION] == operation)
        for operation in (by_groups.PROCESS, by_groups.SUM)
    )
    for before, of_them in ((process[FIRST], used.totals), (sums[FIRST], gradients)):
        made._fill_batch(used, X, Y, (), DropoutMasks(), training=True)
        of_them[:] = np.inf
        queue.finished[0], queue.next[0] = (
            before - 1,
            before,
        )  # another thread has the last of those
        arguments = (*used.arguments, 0, threads.counter(1))
        late = Thread(target=used.run, args=arguments, daemon=True)
        late.start()
        wait_until(lambda before=before: queue.next[0] > before)
        late.join(0.05)
        assert np.isinf(of_them).all()
        queue.finished[0] += 1  # what nothing else writes while the thread waits
        late.join(60)
        assert not late.is_alive()
        assert np.isfinite(of_them).all()
    np.testing.assert_array_equal(used.totals, wanted)


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


def test_after_a_second_interrupt_the_next_batch_waits_for_helpers_still_at_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arch = Architecture("gru", 11, 7)
    batch, made = batch_of(arch, 300, 5), Engine(arch)
    # A worker that still spun on the queue would take parts of the interrupted batch, too.
    monkeypatch.setattr(threads.Worker, "call", lambda *arguments: None)

    def interrupted(work: Any, number: int, queue: Any) -> None:
        threads.open_queue(queue)
        queue.next[0] += 1  # a worker has taken a part
        raise KeyboardInterrupt

    def learn() -> list[Any]:
        made.load(weights_of(arch))
        return [made.loss(*batch, (), DropoutMasks(), training=True)[0], made.gradients()]

    wanted, wanted_gradients = learn()
    with monkeypatch.context() as within:
        within.setattr(kernels, "run_in_threads", interrupted)
        with pytest.raises(KeyboardInterrupt):
            learn()
    # What helpers read and write is kept for them.
    given, gradients = made.borrowed[:2], made.borrowed[2:]
    assert [part.tolist() for part in given] == [part.tolist() for part in batch]
    assert [*map(id, gradients)] == [*map(id, made.filled.values())]
    assert len(gradients) == len(weights_of(arch))
    found: list[Any] = []
    waiting = Thread(target=lambda: found.extend(learn()), daemon=True)
    waiting.start()
    waiting.join(0.1)
    assert not found
    made.used.queue.finished[0] += 1  # and ends it
    waiting.join(60)
    assert found[0] == wanted
    for name, gradient in wanted_gradients.items():
        np.testing.assert_array_equal(found[1][name], gradient)
    assert not made.borrowed


FORKED = """
import os, sys
import numpy as np
from elman import numba
from elman.model.weights import Architecture, initial

arch = Architecture("rnn", 11, 7)
model = numba.build(arch, initial(arch))
model.plot = lambda *values, **options: None
ids = np.arange(11)[None].repeat(100, axis=0)  # more than one group, and so more than one thread
wanted = model.training_step((ids, ids))
child = os.fork()
if child == 0:
    os._exit(model.training_step((ids, ids)) != wanted)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


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
@pytest.mark.parametrize("script", [FORKED, FORKED_MEANWHILE], ids=["alone", "meanwhile"])
def test_a_forked_process_has_threads_locks_and_arrays_of_its_own(script: str) -> None:
    environment = os.environ | {"NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, timeout=100)
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
