"""The stop button of a notebook: the run is kept, and goes on to the same bits."""

from collections.abc import Iterator

import pytest

from tests.robustness.interrupts import Notebook, notebook

STOP = """
import signal
from elman.training.callback import Callback


class Stop(Callback):
    "Interrupts the kernel, as the button does, in an update or before the validation."

    def __init__(self, update):
        self.update = update

    def after_update(self, trainer):
        if trainer.train_batch_idx == self.update:
            signal.raise_signal(signal.SIGINT)

    def before_validate(self, trainer):
        if self.update is None:
            signal.raise_signal(signal.SIGINT)
"""


@pytest.fixture(scope="module")
def cells() -> Iterator[Notebook]:
    """A notebook that has trained without an interrupt."""
    with notebook() as started:
        assert started.run(STOP) == ""
        assert started.run("whole = outcome(train())") == ""
        yield started


@pytest.mark.filterwarnings("ignore")  # of the notebook's machinery
@pytest.mark.parametrize("update", [37, None])
def test_a_stopped_training_goes_on_to_the_same_bits(cells: Notebook, update: int | None) -> None:
    assert cells.run(f"run = train(callbacks=[Stop({update})])") == ""
    assert cells.run("print(run.finished)") == "False\n"
    assert cells.run("run") == ""
    assert "interrupted" in cells.run("print(run)")
    assert cells.run("run = elman.resume(run)") == ""
    assert cells.run("print(run.finished, outcome(run) == whole)") == "True True\n"
