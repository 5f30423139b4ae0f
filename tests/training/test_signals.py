"""Signals end a training with its batch, and a command in order."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from elman import signals
from elman.training.checkpoint import Checkpoints


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    names = [name for name in signals.HANDLED if hasattr(signal, name)]
    before = {name: signal.getsignal(getattr(signal, name)) for name in names}
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    signals.install_handlers()
    return Checkpoints(tmp_path)


needs_hangup = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")
EACH = [*["SIGINT", "SIGTERM"], pytest.param("SIGHUP", marks=needs_hangup)]


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("name", EACH)
def test_a_signal_ends_a_training_after_its_batch_or_before_it_begins_at_once(
    checkpoints: Checkpoints, name: str, begun: bool
) -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), signals.ending_with_a_batch(checkpoints):
        checkpoints.begun = begun
        signal.raise_signal(getattr(signal, name))
        assert checkpoints.stopping
        reached = True
    assert reached == begun


def test_a_second_interrupt_from_the_keyboard_ends_it_at_once(checkpoints: Checkpoints) -> None:
    times = 0
    with pytest.raises(KeyboardInterrupt), signals.ending_with_a_batch(checkpoints):
        checkpoints.begun = True
        for times in range(2):  # noqa: B007
            signal.raise_signal(signal.SIGINT)
    assert times == 1


@needs_hangup
def test_further_signals_do_not_disturb_the_end_after_a_hangup(checkpoints: Checkpoints) -> None:
    tidy = False
    with pytest.raises(KeyboardInterrupt):
        try:
            signal.raise_signal(signal.SIGHUP)
        finally:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
            tidy = True
    assert tidy


@needs_hangup
@pytest.mark.parametrize("name", EACH)
def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path, name: str) -> None:
    number = getattr(signal, name)
    signal.signal(number, signal.SIG_IGN)  # as SIGHUP is under nohup
    signals.install_handlers()
    with signals.ending_with_a_batch(Checkpoints(tmp_path)):
        signal.raise_signal(number)
    signals.remove_handlers()
    assert signal.getsignal(number) == signal.SIG_IGN
