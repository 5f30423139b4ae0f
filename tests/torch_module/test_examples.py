"""The exercises of the section work, and so do custom cells."""

from pathlib import Path

import pytest
from examples import autoregressive, cells, overfit

import elman


def test_the_model_overfits(tmp_path: Path) -> None:
    trainer = overfit.run()
    overfit.draw(trainer, tmp_path / "overfit.png")
    last, lowest = trainer.history[-1], min(epoch.val_ppl for epoch in trainer.history)
    assert last.train_ppl < 1.3
    assert last.val_ppl > 2 * lowest
    assert trainer.history[0].val_ppl > lowest
    assert (tmp_path / "overfit.png").stat().st_size > 10_000


def test_the_sine_is_predicted_and_the_further_ahead_the_worse(tmp_path: Path) -> None:
    model, data = autoregressive.run()
    autoregressive.draw(model, data, tmp_path / "sine.png")
    errors = [autoregressive.error(model, data, steps) for steps in (1, 4, 16, 64)]
    assert errors[0] < 0.15  # below the noise of 0.2
    assert errors == sorted(errors)
    assert [len(autoregressive.ahead(model, data.x, steps)) for steps in (1, 64)] == [996, 933]
    assert (tmp_path / "sine.png").stat().st_size > 10_000


def test_custom_cells_are_trained_and_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cells.main("torch", epochs=1)
    for line, name in zip(
        capsys.readouterr().out.splitlines(), ("minlstm", "normalized-rnn"), strict=True
    ):
        assert line == f"{name}: {elman.load(name, 'torch').predict('it has', 40)!r}"
