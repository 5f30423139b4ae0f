"""The stop button of a notebook: the run is kept, and goes on to the same bits."""

from collections.abc import Iterator

import pytest

from tests.robustness.interrupts import Notebook, notebook


@pytest.fixture(scope="module")
def cells() -> Iterator[Notebook]:
    """A notebook that has trained without an interrupt."""
    with notebook() as started:
        assert started.run("whole = outcome(train())") == ""
        yield started


@pytest.mark.filterwarnings("ignore")  # of the notebook's machinery
@pytest.mark.parametrize("moment", ["update 37", "validation"])
def test_a_stopped_training_goes_on_to_the_same_bits(cells: Notebook, moment: str) -> None:
    stopped = []

    def stop(printed: str) -> None:
        if moment in printed and not stopped:
            stopped.append(printed)
            cells.stop()

    assert moment in cells.run("run = train(callbacks=[Moments()])", stop)
    assert cells.run("print(run.finished)") == "False\n"
    assert cells.run("run") == ""
    assert "interrupted" in cells.run("print(run)")
    assert cells.run("run = elman.resume(run)") == ""
    assert cells.run("print(run.finished, outcome(run) == whole)") == "True True\n"
