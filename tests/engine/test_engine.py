"""The engine gives what the specification gives, for all sizes, and the same bits every time."""

import copy
import os
import subprocess
import sys
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from elman import numba as engine
from elman import numpy as specification
from elman.core.errors import ElmanError
from elman.core.model.language_model import generate, generate_all, score
from elman.core.model.sampling import Sampler
from elman.core.model.weights import GATES, Architecture, Weights, initial
from elman.kernels.codegen import threads
from elman.kernels.codegen.tiles import Shape
from elman.kernels.host import engine as kernels
from elman.kernels.host import weight_layout
from elman.kernels.host.engine import Engine
from elman.kernels.rnn.packing import SHARES
from elman.kernels.rnn.sampling import choice_of, draw, falls_to, settings
from elman.kernels.rnn.update import run

SIZES = [  # vocab, hidden, layers, embedding, batch, steps
    (1, 1, 1, 0, 1, 1),
    (2, 1, 2, 1, 1, 3),
    (28, 32, 1, 0, 64, 5),  # whole tiles
    (31, 33, 2, 7, 37, 11),  # a little more
    (97, 61, 3, 0, 33, 2),
]


def weights_of(of: Architecture) -> Weights:
    """Weights that are not symmetric; large ones, but for where they would grow without bound."""
    factor = 1 if of.cell == "rnn-relu" else 2
    return {name: factor * value for name, value in initial(of, 1).items()}


def batch_of(of: Architecture, batch: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(0).integers(0, of.vocab, (batch, steps + 1))
    return ids[:, :-1], ids[:, 1:]


def learned(module: Any, of: Architecture, batch: Any, dropout: float = 0) -> Any:
    """A model with the gradients of a batch, and the loss."""
    model = module.build(of, weights_of(of), dropout=dropout)
    model.plot = lambda *values, **options: None  # there is no trainer
    model.train()
    loss = model.training_step(batch)
    model.backward()
    return model, loss


def assert_alike(of: Architecture, batch: Any, dropout: float = 0) -> None:
    (wanted, wanted_loss), (found, loss) = (
        learned(module, of, batch, dropout) for module in (specification, engine)
    )
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    assert found.gradients.keys() == wanted.gradients.keys()
    for name, gradient in wanted.gradients.items():
        difference = np.linalg.norm(found.gradients[name] - gradient)
        assert difference <= 1e-5 * np.linalg.norm(gradient) + 1e-9, name


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("cell", GATES)
def test_losses_and_gradients_are_the_specifications_at_every_size(
    cell: str, sizes: tuple[int, ...]
) -> None:
    vocab, hidden, layers, embedding, batch, steps = sizes
    of = Architecture(cell, vocab, hidden, layers, embedding)
    assert_alike(of, batch_of(of, batch, steps))


@pytest.mark.parametrize("cell", GATES)
def test_tied_weights_have_the_gradients_of_both_ends(cell: str) -> None:
    of = Architecture(cell, 31, 33, 2, 33, tied=True)
    assert_alike(of, batch_of(of, 37, 4))


@pytest.mark.parametrize("cell", GATES)
def test_a_state_is_carried_into_a_batch(cell: str) -> None:
    of = Architecture(cell, 11, 7, 2)
    X, Y = batch_of(of, 5, 4)
    rng = np.random.default_rng(1)
    state = tuple(rng.normal(0, 1, (2, 5, 7)).astype(np.float32) for _ in range(2))
    assert_alike(of, (X, state if cell == "lstm" else state[0], Y))


@pytest.mark.parametrize("cell", GATES)
def test_a_state_of_zeros_is_as_good_as_none(cell: str) -> None:
    of = Architecture(cell, 11, 40, 2)
    X, Y = batch_of(of, 35, 5)
    zeros = np.zeros((2, 35, 40), np.float32)
    (wanted, loss), (found, same) = (
        learned(engine, of, batch) for batch in ((X, Y), (X, (zeros,) * (1 + (cell == "lstm")), Y))
    )
    assert same == loss
    for name, gradient in wanted.gradients.items():
        np.testing.assert_array_equal(found.gradients[name], gradient)


@pytest.mark.parametrize("cell", GATES)
def test_kernels_are_compiled_once_for_all_sizes(cell: str) -> None:
    learned(engine, Architecture(cell, 28, 32), batch_of(Architecture(cell, 28, 32), 64, 5))
    before = list(run.signatures)
    for vocab, hidden, layers, embedding, batch, steps in SIZES:
        of = Architecture(cell, vocab, hidden, layers, embedding)
        X, Y = batch_of(of, batch, steps)
        state = np.zeros((layers, batch, hidden), np.float32)
        learned(engine, of, (X, (state, state) if cell == "lstm" else state, Y))
        learned(engine, of, (X, Y), dropout=0.5 if layers > 1 else 0)
    assert list(run.signatures) == before


def test_a_model_of_more_floats_than_kernels_count_is_refused() -> None:
    with pytest.raises(ElmanError, match="models of fewer than 4,294,967,296 floats"):
        Engine(Architecture("lstm", 11, 1 << 15))


@pytest.mark.parametrize("cell", GATES)
def test_dropout_drops_what_the_specification_drops(cell: str) -> None:
    of = Architecture(cell, 11, 40, 3)
    assert_alike(of, batch_of(of, 35, 4), dropout=0.5)


@pytest.mark.parametrize("shape", [Shape(4, 2, 8), Shape(4, 4, 4)], ids=str)
@pytest.mark.parametrize("cell", GATES)
def test_narrower_vectors_give_the_same_within_rounding(cell: str, shape: Shape) -> None:
    of = Architecture(cell, 11, 20, 2, 5)
    X, Y = batch_of(of, 35, 4)
    results = []
    for made in (Engine(of), Engine(of, shape)):
        made.load(weights_of(of))
        loss, _ = made.loss(X, Y, (), [], learn=True)
        results.append((loss, made.gradients(weights_of(of))))
    (wanted, right), (loss, found) = results
    assert loss == pytest.approx(wanted, rel=1e-6)
    for name, gradient in right.items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_any_number_of_threads_gives_the_same_bits(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = Architecture("lstm", 28, 16)
    batch = batch_of(of, 300, 6)
    monkeypatch.setattr(threads.config, "NUMBA_NUM_THREADS", 2)
    wanted, wanted_loss = learned(engine, of, batch)
    monkeypatch.setattr(threads.config, "NUMBA_NUM_THREADS", number)
    found, loss = learned(engine, of, batch)
    assert loss == wanted_loss
    for name, gradient in wanted.gradients.items():
        np.testing.assert_array_equal(found.gradients[name], gradient)


def test_a_large_model_has_fewer_slots_and_the_same_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of = Architecture("gru", 28, 16, 2)
    X, Y = batch_of(of, 300, 6)
    results = []
    for floats in (kernels.SLOT_FLOATS, 1):
        monkeypatch.setattr(kernels, "SLOT_FLOATS", floats)
        made = Engine(of)
        made.load(weights_of(of))
        loss, _ = made.loss(X, Y, (), [], learn=True)
        results.append((made.slots_at_most, loss, made.gradients(weights_of(of))))
    (eight, wanted, right), (two, loss, found) = results
    assert (eight, two) == (8, 2)
    assert loss == pytest.approx(wanted, rel=1e-12)
    for name, gradient in right.items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-4, atol=1e-7)


def test_a_batch_does_not_wait_for_a_thread_that_does_not_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of = Architecture("gru", 28, 16)
    batch = batch_of(of, 300, 6)
    monkeypatch.setattr(threads.config, "NUMBA_NUM_THREADS", 3)
    wanted, wanted_loss = learned(engine, of, batch)
    monkeypatch.setattr(threads.Helper, "call", lambda *arguments: None)
    found, loss = learned(engine, of, batch)
    assert loss == wanted_loss
    for name, gradient in wanted.gradients.items():
        np.testing.assert_array_equal(found.gradients[name], gradient)


def test_a_helper_does_what_it_finds_and_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads.config, "NUMBA_NUM_THREADS", 2)
    of = Architecture("rnn", 11, 7)
    X, Y = (part.astype(np.int32) for part in batch_of(of, 300, 5))
    made = Engine(of)
    made.load(weights_of(of))
    made.loss(X, Y, (), [], learn=True)
    wanted, totals, awake = made.gradients(weights_of(of)), made.totals.copy(), threads.counter(1)
    while any(helper.awake[0] for helper in threads._helpers):
        pass  # those that look for this batch would take parts of it
    for array in (*made.slots, made.totals, made.layout.canonical.gradients):
        array.fill(0)
    made._take(X, Y, (), [], learn=True)
    threads.begin(made.board)
    made.run(*made.arguments, 1, awake)
    assert awake[0] == 0
    np.testing.assert_array_equal(made.totals, totals)
    for name, gradient in made.gradients(weights_of(of)).items():
        np.testing.assert_array_equal(gradient, wanted[name])


def test_parts_of_a_batch_wait_for_all_that_come_before_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads.config, "NUMBA_NUM_THREADS", 1)
    of = Architecture("rnn", 11, 7)
    X, Y = (part.astype(np.int32) for part in batch_of(of, 300, 5))
    made = Engine(of)
    made.load(weights_of(of))
    made.loss(X, Y, (), [], learn=True)
    wanted, board, gradients = made.totals.copy(), made.board, made.layout.canonical.gradients
    for before, of_them in ((SHARES, made.totals), (SHARES + len(wanted), gradients)):
        made._take(X, Y, (), [], learn=True)
        of_them[:] = np.inf
        board.ended[0], board.next[0] = before - 1, before  # another thread has the last of those
        late = Thread(target=made.run, args=(*made.arguments, 0, threads.counter(1)))
        late.start()
        while board.next[0] == before:
            pass
        late.join(0.05)
        assert np.isinf(of_them).all()
        board.ended[0] += 1  # what nothing else writes while the thread waits
        late.join()
        assert np.isfinite(of_them).all()
    np.testing.assert_array_equal(made.totals, wanted)


def test_an_interrupted_batch_is_seen_through() -> None:
    calls: list[int] = []

    def work(thread: int, awake: Any) -> None:
        calls.append(thread)
        if len(calls) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        threads.in_threads(work, 1, threads.new_board())
    assert calls == [0, 0]


def test_two_models_share_the_threads() -> None:
    kinds = [Architecture("rnn", 11, 7), Architecture("lstm", 28, 16)]
    batches = [batch_of(of, 300, 6) for of in kinds]
    alone = [learned(engine, of, batch)[1] for of, batch in zip(kinds, batches, strict=True)]
    models = [engine.build(of, weights_of(of)) for of in kinds]
    for model in models:
        model.plot = lambda *values, **options: None  # there is no trainer

    def train(n: int) -> set[float]:
        return {models[n].training_step(batches[n]) for _ in range(30)}

    for _ in range(10):
        assert [models[n].training_step(batches[n]) for n in (0, 1)] == alone
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(train, (0, 1))) == [{loss} for loss in alone]


@pytest.mark.parametrize("allowed", [0, 1])
def test_where_no_thread_can_be_started_there_are_fewer(
    allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = Architecture("gru", 28, 16)
    batch, prefixes = batch_of(of, 300, 6), [[n] for n in range(20)]
    monkeypatch.setattr(threads.config, "NUMBA_NUM_THREADS", 3)
    monkeypatch.setattr(threads, "_helpers", [])
    model, wanted = learned(engine, of, batch)
    texts = generate_all(model, prefixes, 30, Sampler(), 5)
    start, left = Thread.start, [None] * allowed

    def start_some(thread: Thread) -> None:
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        start(thread)

    monkeypatch.setattr(threads, "_helpers", [])
    monkeypatch.setattr(Thread, "start", start_some)
    found, loss = learned(engine, of, batch)
    assert loss == wanted
    left[:] = [None] * allowed
    np.testing.assert_array_equal(generate_all(found, prefixes, 30, Sampler(), 5), texts)


def test_after_a_second_interrupt_nothing_is_done_to_arrays_that_a_helper_is_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of = Architecture("gru", 11, 7)
    batch, made = batch_of(of, 300, 5), Engine(of)

    def interrupted(work: Any, number: int, board: Any) -> None:
        threads.begin(board)
        board.next[0] += 1  # a helper has taken a part
        raise KeyboardInterrupt

    def learn() -> list[Any]:
        made.load(weights_of(of))
        return [made.loss(*batch, (), [], learn=True)[0], made.gradients(weights_of(of))]

    wanted, wanted_gradients = learn()
    with monkeypatch.context() as within:
        within.setattr(kernels, "in_threads", interrupted)
        with pytest.raises(KeyboardInterrupt):
            learn()
    assert [part.tolist() for part in made.taken] == [part.tolist() for part in batch]
    found: list[Any] = []
    waiting = Thread(target=lambda: found.extend(learn()), daemon=True)
    waiting.start()
    waiting.join(0.1)
    assert not found
    made.board.ended[0] += 1  # and ends it
    waiting.join(60)
    assert found[0] == wanted
    for name, gradient in wanted_gradients.items():
        np.testing.assert_array_equal(found[1][name], gradient)
    assert not made.taken


@pytest.mark.parametrize("states", [0, 2])
def test_nothing_of_a_broken_batch_is_left_for_the_next(states: int) -> None:
    of = Architecture("lstm", 11, 7, 2)
    X, Y = batch_of(of, 40, 5)
    state = (np.zeros((2, 40, 7), np.float32),) * states
    broken = {name: value * np.float32(np.nan) for name, value in weights_of(of).items()}
    found = []
    for before in ([broken], []):
        made = Engine(of)
        for weights in (*before, weights_of(of)):
            made.load(weights)
            made.loss(X, Y, state, [], learn=True)
        found.append(made.gradients(weights_of(of)))
    for name, gradient in found[0].items():
        np.testing.assert_array_equal(gradient, found[1][name])


FORKED = """
import os, sys
import numpy as np
from elman import numba
from elman.core.model.weights import Architecture, initial

of = Architecture("rnn", 11, 7)
model = numba.build(of, initial(of))
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
from elman.core.model.weights import Architecture, initial

of = Architecture("rnn", 11, 7)
model = numba.build(of, initial(of))
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


def test_the_names_are_the_specifications() -> None:
    assert engine.__all__ == specification.__all__


@pytest.mark.parametrize("cell", GATES)
def test_a_text_of_any_length_is_scored_as_by_the_specification(cell: str) -> None:
    of = Architecture(cell, 29, 19, 2, 4)
    wanted, found = (module.build(of, weights_of(of)) for module in (specification, engine))
    for length in (2, 3, 1500, 3000):
        ids = np.random.default_rng(length).integers(0, 29, length)
        losses = np.concatenate(list(score(found, ids)))
        assert losses.shape == (length - 1,)
        np.testing.assert_allclose(losses, np.concatenate(list(score(wanted, ids))), atol=2e-5)


@pytest.mark.parametrize(("cell", "kept"), [("lstm", "if"), ("gru", "z")])
def test_a_gate_that_is_shut_keeps_a_state_for_ever(cell: str, kept: str) -> None:
    of = Architecture(cell, 29, 19, 2)
    weights = weights_of(of)
    gates = {"i": (0, -20), "f": (1, 20), "z": (1, 20)}  # where each is, and what it is given
    for layer in range(2):
        for gate in kept:
            block, value = gates[gate]
            rows = slice(block * 19, block * 19 + 19)
            weights[f"rnn.bias_ih_l{layer}"][rows] = value
            weights[f"rnn.bias_hh_l{layer}"][rows] = 0
            weights[f"rnn.weight_ih_l{layer}"][rows] = 0
            weights[f"rnn.weight_hh_l{layer}"][rows] = 0
    state = np.random.default_rng(0).uniform(-1, 1, (2, 1, 19)).astype(np.float32)
    made, ids = Engine(of), np.random.default_rng(1).integers(0, 29, 100_000)
    made.load(weights)
    _, reached = made.losses(ids[:-1], ids[1:], (state,) * (1 + (cell == "lstm")))
    np.testing.assert_array_equal(reached[-1], state)
    batch, states = ids[:300].reshape(1, -1).repeat(40, axis=0), state.repeat(40, axis=1)
    _, reached = made.loss(batch, batch, (states,) * (1 + (cell == "lstm")), [], learn=True)
    np.testing.assert_array_equal(reached[-1], states)


@pytest.mark.parametrize("cell", GATES)
def test_reading_in_pieces_is_reading_at_once(cell: str) -> None:
    of = Architecture(cell, 29, 19, 2)
    model = engine.build(of, weights_of(of))
    ids = np.random.default_rng(0).integers(0, 29, (3, 700))
    whole, _ = model.step(ids)
    first, state = model.step(ids[:, :333])
    rest, _ = model.step(ids[:, 333:], state)
    np.testing.assert_array_equal(np.concatenate([first, rest], axis=1), whole)
    logits = specification.build(of, weights_of(of)).step(ids)[0]
    np.testing.assert_allclose(whole, logits, atol=2e-5)


SAMPLERS = st.builds(
    Sampler,
    temperature=st.floats(0.1, 5),
    top_k=st.none() | st.integers(1, 40),
    top_p=st.none() | st.floats(0.01, 1),
    min_p=st.none() | st.floats(0.01, 1),
)
LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=30)


@given(SAMPLERS, LOGITS, st.integers(0, 2**32), st.sets(st.integers(0, 28)))
@example(Sampler(top_p=0.25), [-(2.0**-126), 0.0], 0, ())  # other logits, the same chances
def test_tokens_are_drawn_as_the_sampler_draws_them(
    sampler: Sampler, logits: list[float], seed: int, excluded: Collection[int]
) -> None:
    array = np.array(logits, np.float32)
    sampler = replace(sampler, excluded=tuple(n for n in excluded if n < len(array) - 1))
    chosen, choice = settings(sampler, len(array)), choice_of(len(array))
    found = draw(array.copy(), chosen, np.random.default_rng(seed).random(), choice)
    assert found not in sampler.excluded
    wanted = sampler(array, np.random.default_rng(seed))
    if (
        found != wanted
    ):  # where rounding decides: a chance, or a bound, that is hit to the last digit
        chances = sampler.probabilities(array)
        uniform = np.random.default_rng(seed).random()
        edges = np.abs(np.cumsum(chances) - uniform).min()
        assert edges < 1e-12 or close_to_a_bound(sampler, array)


def close_to_a_bound(sampler: Sampler, logits: np.ndarray) -> bool:
    """True if a token is left out, or not, by less than rounding."""
    for factor in (1 - 1e-12, 1 + 1e-12):
        bounds = {
            name: min(1.0, getattr(sampler, name) * factor)
            for name in ("top_p", "min_p")
            if getattr(sampler, name) is not None
        }
        moved = replace(sampler, **bounds)
        if ((moved.probabilities(logits) > 0) != (sampler.probabilities(logits) > 0)).any():
            return True
    return False


@given(LOGITS)
def test_the_likeliest_token_is_the_first_of_the_largest_logits(logits: list[float]) -> None:
    array = np.array(logits, np.float32)
    chosen = settings(Sampler(temperature=0), len(array))
    assert draw(array, chosen, 0.5, choice_of(len(array))) == array.argmax()


def test_a_token_without_a_chance_is_never_drawn() -> None:
    chances = np.array([0, 1, 0, 2, 0], float)
    drawn = {falls_to(uniform, chances) for uniform in np.linspace(0, np.nextafter(1, 0), 1001)}
    assert drawn == {1, 3}


@pytest.mark.parametrize("cell", GATES)
def test_a_text_is_written_as_by_the_specification(cell: str) -> None:
    of = Architecture(cell, 29, 19, 2, 4)
    models = [module.build(of, weights_of(of)) for module in (specification, engine)]
    plain = (Sampler(0), Sampler(), Sampler(0.8, 5), Sampler(1.1, None, 0.8, 0.05))
    for sampler in (*plain, Sampler(0, excluded=(7,)), Sampler(0.8, 5, excluded=(7, 0))):
        for prefix in ([3], [1, 2, 3, 4]):
            wanted, found = (list(generate(model, prefix, 300, sampler, 5)) for model in models)
            assert found == wanted
    wanted, found = (list(generate(model, [1], 3000, Sampler(), 5)) for model in models)
    assert found == wanted  # goes on where a piece ends


def test_what_is_excluded_is_not_written_though_it_is_the_likeliest() -> None:
    of = Architecture("rnn", 11, 7)
    values = weights_of(of) | {"linear.bias": 50 * np.eye(11, dtype="f4")[5]}
    model = engine.build(of, values)
    for temperature in (0, 1):
        allowed, free = Sampler(temperature, excluded=(5,)), Sampler(temperature)
        for texts in ([[1]], [[1], [2, 3]]):
            assert 5 not in np.ravel(generate_all(model, texts, 40, allowed))
            assert set(np.ravel(generate_all(model, texts, 40, free))) == {5}
    with pytest.raises(ElmanError, match="excluded ids must be from 0 to 10, got"):
        generate_all(model, [[1]], 1, Sampler(excluded=(11,)))
    with pytest.raises(ElmanError, match="every token of the vocabulary is excluded"):
        generate_all(model, [[1]], 1, Sampler(excluded=tuple(range(11))))


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("cell", GATES)
def test_many_texts_are_written_as_each_of_them_would_be(
    cell: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads.config, "NUMBA_NUM_THREADS", number)
    of = Architecture(cell, 29, 19, 2, 4)
    prefixes = [[n % 29 for n in range(1 + 7 * text % 12)] for text in range(40)]
    models = [module.build(of, weights_of(of)) for module in (specification, engine)]
    for sampler in (Sampler(0), Sampler(0.8, 5)):
        wanted, found = (generate_all(model, prefixes, 30, sampler, 5) for model in models)
        np.testing.assert_array_equal(found, wanted)
    assert np.shape(generate_all(models[1], prefixes, 0, Sampler())) == (len(prefixes), 0)
    assert generate_all(models[1], [], 30, Sampler()) == []


def test_many_texts_go_on_where_a_piece_ends() -> None:
    of = Architecture("gru", 29, 19)
    models = [module.build(of, weights_of(of)) for module in (specification, engine)]
    wanted, found = (generate_all(model, [[1], [2, 3]], 1100, Sampler(), 5) for model in models)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("shape", [Shape(4, 2, 8), Shape(4, 4, 4)], ids=str)
def test_narrower_vectors_read_score_and_write_the_same(
    shape: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = Architecture("lstm", 29, 19, 2, 4)
    ids = np.random.default_rng(0).integers(0, 29, 50)
    results = []
    for host in (kernels.shape_of_host(), shape):
        monkeypatch.setattr(kernels, "shape_of_host", lambda host=host: host)
        model = engine.build(of, weights_of(of))
        texts = generate_all(model, [[1], [2, 3], [4]], 40, Sampler(0.8, 5), 5)
        results.append((model.step(ids[None])[0], next(score(model, ids)), texts))
    np.testing.assert_allclose(results[1][0], results[0][0], atol=1e-5)
    np.testing.assert_allclose(results[1][1], results[0][1], atol=1e-5)
    np.testing.assert_array_equal(results[1][2], results[0][2])


@pytest.mark.parametrize("logit", [0.3, 20, 25.1, 1.2e8, 1.2e20])
def test_what_is_certain_costs_nothing(logit: float) -> None:
    of = Architecture("rnn", 11, 7)
    weights = weights_of(of)
    weights["linear.weight"] *= 0
    weights["linear.bias"] = np.where(np.arange(11) == 3, logit, 0).astype(np.float32)
    made, ids = Engine(of), np.full((40, 5), 3)
    made.load(weights)
    loss, _ = made.loss(ids, ids, (), [], learn=True)
    others = 10 * np.exp(-logit)
    assert loss == pytest.approx(np.log1p(others), abs=2e-7)
    assert loss >= 0
    gradient = made.gradients(weights)["linear.bias"]
    assert gradient[3] == pytest.approx(-others / (1 + others), abs=2e-7)
    assert (made.losses(ids[0], ids[0], ())[0] >= 0).all()


def test_a_weight_that_is_no_number_reaches_the_loss() -> None:
    of = Architecture("gru", 11, 7)
    for name, value in weights_of(of).items():
        broken = weights_of(of)
        broken[name] = value.copy()
        broken[name].flat[-1] = np.nan
        made = Engine(of)
        made.load(broken)
        one_step = np.arange(11)[:, None]
        for ids in (one_step, one_step.T):
            assert np.isnan(made.loss(ids, ids, (), [], learn=True)[0]), name


@pytest.mark.parametrize("id_type", [np.int32, np.uint8, ">i8"])
def test_integers_of_any_type_are_ids(id_type: Any) -> None:
    of = Architecture("gru", 11, 7)
    batch = batch_of(of, 40, 5)
    wanted, loss = learned(engine, of, batch)
    for order in ("C", "F"):
        found, same = learned(engine, of, [part.astype(id_type, order) for part in batch])
        assert same == loss
        for name, gradient in wanted.gradients.items():
            np.testing.assert_array_equal(found.gradients[name], gradient)


def test_data_of_the_engine_has_ids_as_its_kernels_read_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, text = tmp_path / "text", "the time machine " * 40
    path.write_text(text)
    monkeypatch.setattr(engine.TimeMachine, "_download", lambda data: text)
    for data in (
        engine.TimeMachine(4, 5, 100, 100),
        *(engine.TextFile(str(path), 4, 5, windows=kind) for kind in ("random", "stream")),
    ):
        assert {part.dtype for part in next(iter(data.train_dataloader()))} == {np.dtype("i4")}


def test_the_books_time_machine_can_be_built_anew() -> None:
    class TimeMachine(engine.TimeMachine):
        pass

    @engine.add_to_class(TimeMachine)
    def __init__(self: Any, batch_size: int, num_steps: int) -> None:  # noqa: N807
        super(engine.TimeMachine, self).__init__()
        self.save_hyperparameters()
        corpus, self.vocab = self.build("the time machine " * 40)
        array = np.array([corpus[i : i + num_steps + 1] for i in range(300)])
        self.X, self.Y = array[:, :-1], array[:, 1:]
        self.num_train, self.num_val = 200, 100

    X, _ = next(iter(TimeMachine(2, 10).val_dataloader()))
    assert X.shape == (2, 10)


@pytest.mark.parametrize(
    ("ids", "id_type", "told"),
    [
        ([0, 11], np.int32, "0 to 11"),
        ([-1, 3], np.int32, "-1 to 3"),
        ([-1, 3], np.int64, "-1 to 3"),
        ([0, 1 << 32], np.int64, "0 to 4294967296"),
    ],
)
def test_ids_without_a_place_in_the_table_are_refused(
    ids: list[int], id_type: Any, told: str
) -> None:
    model = engine.build(Architecture("rnn", 11, 7), initial(Architecture("rnn", 11, 7)))
    batch, many = np.array([ids], id_type), np.zeros((300, 2), id_type)
    last = np.concatenate([many, batch])
    for call in (
        lambda: model.step(batch),
        lambda: model.training_step((last, many[[0] * 301])),
        lambda: model.validation_step((many[[0] * 301], last)),
        lambda: list(model.score(batch[0])),
        lambda: next(model.write([[1], ids], 5, Sampler(), 0)),
    ):
        with pytest.raises(ElmanError, match=f"ids must be from 0 to 10, got {told}"):
            call()


def test_a_batch_that_does_not_fit_is_refused() -> None:
    of = Architecture("lstm", 11, 7, 2)
    model = engine.build(of, initial(of))
    X, Y = batch_of(of, 3, 4)
    H = np.zeros((2, 3, 7), np.float32)
    for batch, told in (
        ((X, Y[:2]), "the same shape, got"),
        ((X, Y[:, :1]), "the same shape, got"),
        ((X[:0], Y[:0]), "one or more"),
        ((X[0], Y[0]), "integers in 2 dimensions, got int64 in 1"),
        ((X + 0.5, Y), "integers in 2 dimensions, got float64 in 2"),
        ((X, H, Y), "the state has 2 of the shape"),
        ((X, (H[:1], H[:1]), Y), "the state has 2 of the shape"),
    ):
        for step in (model.training_step, model.validation_step):
            with pytest.raises(ElmanError, match=told):
                step(batch)


@pytest.mark.parametrize("module", [specification, engine])
def test_what_is_no_number_is_no_size(module: Any) -> None:
    with pytest.raises(ElmanError, match=r"vocab must be a whole number, got \[28\]"):
        module.RNNLM(module.RNN(28, 8), [28])


def test_weights_of_another_shape_are_refused() -> None:
    of = Architecture("gru", 11, 7)
    model = engine.build(of, initial(of))
    model.parameters["linear.weight"] = np.ones((11, 2000), np.float32)
    with pytest.raises(ElmanError, match=r"linear\.weight must be"):
        model.step(np.zeros((1, 1), int))


def test_a_copy_of_a_model_learns_as_the_model_does() -> None:
    of = Architecture("lstm", 11, 7)
    batch = batch_of(of, 70, 4)
    model, _ = learned(engine, of, batch)
    twin = copy.deepcopy(model)
    for each in (model, twin, model, twin):
        each.training_step(batch)
    for name, gradient in model.gradients.items():
        np.testing.assert_array_equal(twin.gradients[name], gradient)


def test_gradients_stay_what_they_are_when_the_next_batch_comes() -> None:
    of = Architecture("rnn", 11, 7)
    model, _ = learned(engine, of, batch_of(of, 5, 4))
    before = {name: value.copy() for name, value in model.gradients.items()}
    kept = model.gradients
    model.training_step(batch_of(of, 7, 3))
    for name, value in before.items():
        np.testing.assert_array_equal(kept[name], value)


@pytest.mark.parametrize("shape", [Shape(8, 2, 16), Shape(4, 2, 8), Shape(4, 4, 4)], ids=str)
@pytest.mark.parametrize(("vocab", "hidden"), [(1, 1), (28, 32), (33, 33)])
def test_kernels_write_to_their_arrays_alone(
    shape: Shape, vocab: int, hidden: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside: list[np.ndarray] = []

    def zeros(*sizes: int, dtype: Any = np.float32) -> np.ndarray:
        inside = np.prod(sizes, dtype=int) * np.dtype(dtype).itemsize
        memory = np.full(inside + 8192 + 64, 0xFF, np.uint8)
        start = 4096 + -(memory.ctypes.data + 4096) % 64
        memory[start : start + inside] = 0
        beside.extend((memory[:start], memory[start + inside :]))
        return memory[start : start + inside].view(dtype).reshape(sizes)

    for module in (kernels, weight_layout):
        monkeypatch.setattr(module, "zeros", zeros)
    monkeypatch.setattr(weight_layout, "LINE", 4096)  # what stands in one vector is that far apart
    of = Architecture("gru", vocab, hidden, 2)
    one = Engine(of, shape)
    one.load(weights_of(of))
    for batch, steps in ((1, 1), (33, 3)):
        assert np.isfinite(one.loss(*batch_of(of, batch, steps), (), [], learn=True)[0])
    for steps in (1, 33):
        (ids,), (targets,) = batch_of(of, 1, steps)
        assert np.isfinite(one.losses(ids, targets, ())[0]).all()
    assert all((margin == 0xFF).all() for margin in beside)
    for whole, *parts in (one.packed[2:], one.slots):
        between = np.ones(whole.shape[-1], bool)
        for array in parts:
            begin = (array.ctypes.data - whole.ctypes.data) // 4
            between[begin : begin + array.size // (whole.size // whole.shape[-1])] = False
        assert between.sum() > 4096
        assert not whole[..., between].any()


def test_sequences_that_fill_a_group_up_leave_no_trace() -> None:
    of = Architecture("rnn-relu", 11, 7)
    grown = weights_of(of) | {"rnn.weight_hh_l0": 2 * np.eye(7, dtype=np.float32)}
    X = np.ones((5, 140), int)
    grown["rnn.weight_ih_l0"] = -np.abs(grown["rnn.weight_ih_l0"])  # nothing grows from these ids
    grown["rnn.bias_ih_l0"] = 0 * grown["rnn.bias_ih_l0"]
    grown["rnn.weight_ih_l0"][:, 0] = 1  # from id 0 everything would
    model = engine.build(of, grown)
    model.plot = lambda *values, **options: None
    model.training_step((X, X))
    assert all(np.isfinite(gradient).all() for gradient in model.gradients.values())


def test_dropout_is_for_training_alone() -> None:
    of = Architecture("lstm", 11, 40, 2)
    batch = batch_of(of, 5, 4)
    model, dropped = learned(engine, of, batch, dropout=0.5)
    model.eval()
    _, plain = learned(engine, of, batch)
    assert model.validation_step(batch) == pytest.approx(plain, rel=1e-12)
    assert abs(dropped - plain) > 1e-4


def test_threads_read_one_model_as_one_thread_does() -> None:
    of = Architecture("lstm", 29, 61, 2, 30)
    model = engine.build(of, weights_of(of))
    ids = np.random.default_rng(0).integers(0, 29, (2, 50))
    wanted = model.step(ids)[0]
    with ThreadPoolExecutor(4) as pool:
        for logits, _ in pool.map(lambda _: model.step(ids), range(100)):
            np.testing.assert_array_equal(logits, wanted)


def test_a_model_whose_logits_are_no_numbers_writes_nothing() -> None:
    of = Architecture("gru", 11, 7)
    model = engine.build(of, initial(of))
    model.parameters["linear.bias"][3] = np.nan
    for sampler in (Sampler(0), Sampler(), Sampler(1, 3)):
        with pytest.raises(ElmanError, match="the logits are no numbers"):
            next(model.write([[1, 2]], 5, sampler, 0))
        with pytest.raises(ElmanError, match="the logits are no numbers"):
            next(model.write([[1, 2], [3]], 5, sampler, 0))


def test_a_step_of_ones_own_goes_through_the_specification() -> None:
    class Own(engine.RNNLM):
        def training_step(self, batch: Any) -> Any:
            return self.loss(self(batch[0]), batch[-1])

    data = engine.TimeMachine(64, 8, num_train=128, num_val=64)
    vocab, histories = len(data.vocab), []
    for kind in (Own, specification.RNNLM):
        trainer = engine.Trainer(2, gradient_clip_val=1)
        trainer.fit(kind(engine.RNN(vocab, 8), vocab, lr=1), data)
        histories.append([epoch.train_loss for epoch in trainer.history])
    assert histories[0] == histories[1]


def test_a_model_with_code_of_its_own_is_refused() -> None:
    class Scaled(engine.RNNLM):
        def forward(self, X: Any, state: Any = None) -> Any:
            return 2 * super().forward(X, state)

    class Own(engine.GRU):
        def forward(self, inputs: Any, state: Any = None) -> Any:
            return super().forward(inputs, state)

    for model in (Scaled(engine.RNN(11, 7), 11), engine.RNNLM(Own(11, 7), 11)):
        with pytest.raises(ElmanError, match="has a forward of its own"):
            model.step(np.zeros((1, 2), int))


def test_forward_loss_and_backward_by_hand_are_the_specifications() -> None:
    of = Architecture("lstm", 11, 7, 2)
    batch = batch_of(of, 5, 4)
    results = []
    for module in (specification, engine):
        model = module.build(of, weights_of(of))
        model.train()
        loss = model.loss(model(batch[0]), batch[1])
        model.backward()
        results.append((loss, model.gradients))
    assert results[0][0] == results[1][0]
    for name, gradient in results[0][1].items():
        np.testing.assert_array_equal(results[1][1][name], gradient)


def test_kernels_follow_weights_that_are_changed_by_hand() -> None:
    of = Architecture("gru", 11, 7, 2)
    model = engine.build(of, weights_of(of))
    model.step(np.zeros((1, 1), int))
    changed = {name: value + 0.1 for name, value in weights_of(of).items()}
    for name in changed:
        if "bias_hh" in name:
            changed[name] = weights_of(of)[name]
        model.parameters[name][...] = changed[name]
    ids = np.arange(11)[None]
    wanted = specification.build(of, changed).step(ids)[0]
    np.testing.assert_allclose(model.step(ids)[0], wanted, atol=1e-5)
