"""Intact runs, checkpoints and stores, of which `hostile.py` spoils copies."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spoiling import STORY, Chance

from elman.data.store import prepare
from elman.experiments import train
from elman.experiments.choice import settled
from elman.files import atomic
from elman.runs.settings import Settings
from elman.training import checkpoint

FILES = ("config.json", "vocab.json", "tokenizer.json", "model.safetensors", "history.csv")
BLOCK = 100  # bytes of the text that is half read
SMALL = {"cell": "gru", "hidden": 4, "seq_len": 8, "batch_size": 16, "epochs": 2}
SETTINGS: dict[str, Any] = {
    **{"edition": None, "layers": 2, "embedding": 4, "tied": True},
    **{"dropout": 0.1, "lr": 0.01, "clip": 1.0, "optimizer": "adam", "momentum": 0.0},
    **{"framework": "numpy", "device": "auto", "seed": 0},
    **{"minutes": None, "patience": 3, "schedule": "plateau", "warmup": 0.1},
    **{"vocab_size": None, "min_freq": None, "newlines": None, "precision": "single"},
}


class Good:
    """Runs, checkpoints and stores, to spoil copies of."""

    def __init__(self, folder: Path) -> None:
        self.text = folder / "story.txt"
        self.text.write_text(STORY, encoding="utf-8")
        self.stores = [folder / name for name in ("char", "bpe")]
        for path in self.stores:
            prepare([str(self.text)], path, path.name, 300 if path.name == "bpe" else None)
        self.names, self.line_store = folder / "names.txt", folder / "lines"
        self.names.write_text("\n".join(f"name {number}" for number in range(200)))
        prepare([str(self.names)], self.line_store, "char", lines=True)
        self.checkpoints: list[tuple[dict[str, Any], bytes]] = []  # and the settings of each
        self.run, self.bpe_run = folder / "run", folder / "bpe run"
        self._write(self._trained(folder / "on bpe", text=str(self.stores[1])), self.bpe_run)
        self._trained(folder / "contiguous", tokenizer="char", batching="contiguous")
        training = self._trained(folder / "random", tokenizer="char")
        self.settings = asdict(training.run_settings)
        self._write(training, self.run)

    def _write(self, training: train.Training, path: Path) -> None:
        with atomic.new_folder(path) as part:
            training.write(part)

    def _trained(self, folder: Path, **changes: str) -> train.Training:
        given = {"text": str(self.text), "batching": "random", "tokenizer": None} | changes
        settings = Settings(**(SETTINGS | SMALL | given))
        training = train.Training(settled(settings))
        training.fit(checkpoint.Checkpoints(folder, seconds=0))
        # The last two are one in an epoch and one at the end of it.
        for path in checkpoint.paths(folder):
            self.checkpoints.append((asdict(training.run_settings), path.read_bytes()))
        return training


def copied(good: Good, place: Path, chance: Chance | None = None) -> Path:
    """A copy of the good run by characters, or for a share of the chances that by byte pairs."""
    arch = good.bpe_run if chance is not None and chance.random() < 0.3 else good.run
    folder = place / "run"
    folder.mkdir()
    for path in files(arch):
        shutil.copyfile(path, folder / path.name)
    return folder


def files(folder: Path) -> list[Path]:
    """Files that a run is read from."""
    return [path for name in FILES if (path := folder / name).exists()]
