"""The stop button of a notebook: the run is kept, and goes on to the same bits."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.robustness.interrupts import Notebook, notebook

PAUSE = """
from elman.training.callback import Callback


class Pause(Callback):
    "Prints a moment of the training when it has come, and waits until the button is pressed."

    def __init__(self, moment, pressed):
        self.moment, self.pressed = moment, pressed

    def after_update(self, trainer):
        self.pause_at(f"update {trainer.train_batch_idx}")

    def before_validate(self, trainer):
        self.pause_at("validation")

    def pause_at(self, moment):
        if moment == self.moment:
            self.moment = None
            print(moment, flush=True)
            with open(self.pressed) as pipe:
                pipe.readline()
"""


@pytest.fixture(scope="module")
def cells() -> Iterator[Notebook]:
    """A notebook that has trained without an interrupt."""
    with notebook() as started:
        assert started.run(PAUSE) == ""
        assert started.run("whole = outcome(train())") == ""
        yield started


@pytest.fixture
def pressed(tmp_path: Path) -> Iterator[int]:
    """A named pipe, open to tell the training that the button has been pressed."""
    os.mkfifo(tmp_path / "pressed")
    pipe = os.open(tmp_path / "pressed", os.O_RDWR)
    yield pipe
    os.close(pipe)


@pytest.mark.filterwarnings("ignore")  # of the notebook's machinery
@pytest.mark.parametrize("moment", ["update 37", "validation"])
def test_a_stopped_training_goes_on_to_the_same_bits(
    cells: Notebook, pressed: int, tmp_path: Path, moment: str
) -> None:
    def stop(printed: str) -> None:
        if moment in printed:
            cells.stop()
            os.write(pressed, b"\n")

    training = f"run = train(callbacks=[Pause({moment!r}, {str(tmp_path / 'pressed')!r})])"
    assert moment in cells.run(training, stop)
    assert cells.run("print(run.finished)") == "False\n"
    assert cells.run("run") == ""
    assert "interrupted" in cells.run("print(run)")
    assert cells.run("run = elman.resume(run)") == ""
    assert cells.run("print(run.finished, outcome(run) == whole)") == "True True\n"
