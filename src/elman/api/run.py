"""A run as an object: its model, settings, results, curves."""

import base64
import html
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elman import html_tables
from elman.errors import ElmanError
from elman.files import atomic, regular
from elman.files.paths import TemporaryFolder, as_path
from elman.inference.evaluation import PairEvaluation
from elman.inference.text_model import Score, scores
from elman.inference.translation import PairModel, Translation
from elman.model.metrics import Evaluation
from elman.runs import records, results, run, run_folder, table
from elman.text import in_memory
from elman.text.in_memory import PairsLike, TextLike
from elman.training.curve_files import Picture
from elman.training.history import Epoch

if TYPE_CHECKING:
    from elman.inference.dynamic import AdaptingModel

SAMPLES = 5  # maximum number of texts drawn until one is not blank
HTML_SAMPLE, HTML_TEMPERATURE = 200, 0.5  # tokens, and their temperature
MAX_PICTURE_BYTES = 1 << 24
UNITS = {"val_bits_per_character": "validation", "test_bits_per_character": "test"}


def run_paths(function: str, runs: Iterable[Any]) -> list[Path]:
    """Paths of runs that are given as separate arguments."""
    runs = list(runs)
    if several := [each for each in runs if isinstance(each, list | tuple)]:
        raise ElmanError(
            f"runs must be separate arguments, got a {type(several[0]).__name__} of them: "
            f"elman.{function}(*runs)"
        )
    return [as_path(each, "a run directory") for each in runs]


def scores_of(model: Any, text: TextLike, adapting: "AdaptingModel | None" = None) -> list[Score]:
    """Score each line of a text: a path or a text in memory; `adapting` as in `ScoredText`."""
    from elman.inference import scoring

    in_memory.check(text)
    scored = scoring.ScoredText(model, in_memory.blocks_of(text), adapting)
    found = [each for lines in scored for each in scores(lines, model.codec)]
    scored.tell_of_empty()
    scored.warn_of_unknown()
    return found


class Run:
    """A run directory: a trained model, its training, and its quality.

    Functions that take the path of a run accept this object. `keeping` is a temporary folder that
    is removed with the object.
    """

    def __init__(
        self,
        path: "str | os.PathLike[str]",
        keeping: TemporaryFolder | None = None,
    ) -> None:
        self.path = as_path(path, "a run directory")
        self.keeping = keeping
        if not run_folder.is_run(self.path):
            run.read_config(self.path)  # raises

    def __fspath__(self) -> str:
        return str(self.path)

    def __reduce__(self) -> Any:
        """A copy for another process has the same directory; the directory must outlast it."""
        if self.keeping is not None and self.keeping.path in self.path.parents:
            raise ElmanError(
                "a run in a temporary folder ends with its process: train with out=, or save it"
            )
        return Run, (str(self.path),)

    @property
    def finished(self) -> bool:
        """False while the training can be resumed."""
        return not run_folder.is_unfinished(self.path)

    @cached_property
    def model(self) -> Any:
        """The model, in the engine if it supports it (`load` selects another framework)."""
        return self.load()

    @property
    def _language_model(self) -> Any:
        """The model; an ElmanError if it is of pairs."""
        run.read_config(self.path, pairs=False)
        return self.model

    @cached_property
    def _pair_model(self) -> PairModel:
        from elman.runs.loading import load_pairs

        return load_pairs(self.path)

    def load(self, framework: str | None = None, precision: str | None = None) -> Any:
        """The model in a framework, as with `elman.load`."""
        from elman.runs import loading

        return loading.load(self.path, framework, precision)

    @property
    def settings(self) -> dict[str, Any]:
        """All settings of the training by name; {} for a saved model without one."""
        return {} if self._record is None else asdict(self._record.settings)

    @property
    def given(self) -> dict[str, Any]:
        """The settings that were given."""
        named = [] if self._record is None else self._record.given or []
        return {name: value for name, value in self.settings.items() if name in named}

    @property
    def chosen(self) -> dict[str, Any]:
        """The settings that were chosen for the text or are defaults."""
        return {name: value for name, value in self.settings.items() if name not in self.given}

    @property
    def reasons(self) -> list[str]:
        """Sentences that describe the settings chosen for the text."""
        return [] if self._record is None else self._record.reasons

    @property
    def _record(self) -> records.RunSettings | None:
        return (
            run.read_config(self.path).training
            if self.finished
            else run_folder.read_training(self.path)
        )

    @property
    def history(self) -> dict[str, list[Any]]:
        """Columns of the history by name, for `pandas.DataFrame`."""
        return run.columns(self._epochs, run.read_config(self.path).training)

    @property
    def _epochs(self) -> list[Epoch]:
        if not self.finished:
            run.read_config(self.path)  # raises: it is still in training
        return run.read_history(self.path)

    @property
    def results(self) -> dict[str, float | None]:
        """Results by name; None for missing ones."""
        return results.result(*results.read(self.path)).results

    def plot(self) -> Picture:
        """The curves: losses and perplexities of the training and the validation part."""
        from elman.training.curve_files import curves

        return Picture(curves(self._epochs, run.scales(run.read_config(self.path))))

    def sample(self, tokens: int = 200, temperature: float = 0.5, seed: int = 0) -> str:
        """A text written by the model, with the first seed from `seed` on that is not blank.

        A model of lines writes one line.
        """
        codec = self._language_model.codec
        if codec.lines:
            prefix = ""
        else:
            known = (text for text in ("\n", " ") if not codec.unknown(text))
            prefix = next(known, codec.text([int(codec.vocab.unk == 0)]))
        options = {"tokens": tokens, "temperature": temperature}
        written = (
            str(self._language_model.generate(prefix, **options, seed=seed + n)[0]).lstrip()
            for n in range(SAMPLES)
        )
        return next(filter(None, written), "")

    def evaluate(
        self, text: TextLike | PairsLike, edition: str | None = None
    ) -> Evaluation | PairEvaluation:
        """Evaluate the model on a text or pairs, a path or in memory, as `elman.evaluate` does."""
        from elman.runs import loading

        if run.read_config(self.path).is_of_pairs:
            return loading.evaluate(self.path, text, edition)
        return self._language_model.evaluate(text, edition)  # type: ignore[no-any-return]

    def score(self, text: TextLike) -> list[Score]:
        """Score each line of a text, a path or in memory, as `elman.score` does."""
        return scores_of(self._language_model, text)

    def translate(
        self, texts: Iterable[str], *, beams: int = 1, n: int = 1, length_penalty: float = 1.0
    ) -> list[list[Translation]]:
        """The `n` best targets of each text by a model of pairs, as `elman.translate` does."""
        options = {"beams": beams, "n": n, "length_penalty": length_penalty}
        return self._pair_model.translate(texts, **options)  # type: ignore[arg-type]

    def export(self, to: str, out: "str | os.PathLike[str] | None" = None) -> Path:
        """Write the model as html, onnx or torch, and return the path."""
        from elman.formats import export

        return export(self.path, to, out)

    def save(self, path: "str | os.PathLike[str]") -> "Run":
        """Copy a finished run into a new run directory, and return the run there."""
        if not self.finished:
            run.read_config(self.path)  # raises: it is still in training
        folder = as_path(path, "a run directory")
        with atomic.new_folder(folder) as part:
            for each in self.path.iterdir():
                copy = shutil.copytree if each.is_dir() else shutil.copyfile
                copy(each, part / each.name)
        return Run(folder)

    def __repr__(self) -> str:
        if not self.finished:
            return f"Run({str(self.path)!r}): interrupted, continue with elman.resume"
        facts = table.describe(self.path)
        found = [
            f"{name} {facts['results'][key]:.3f} bits per character"
            for key, name in UNITS.items()
            if facts["results"][key] is not None
        ]
        return ", ".join([f"Run({str(self.path)!r}): {table.model(facts)}", *found])

    def _repr_html_(self) -> str:
        if not self.finished:
            return html.escape(repr(self))
        facts = table.describe(self.path)
        rows = html_tables.of_facts(table.in_lines(facts))
        if run.read_config(self.path).is_of_pairs:
            return f"{rows}{self._picture()}"
        sample = html.escape(self.sample(HTML_SAMPLE, HTML_TEMPERATURE))
        return f"{rows}{self._picture()}<pre style='white-space:pre-wrap'>{sample}</pre>"

    def _picture(self) -> str:
        path = self.path / "curves.png"
        if not path.exists():
            return ""
        data = base64.b64encode(regular.read(path, MAX_PICTURE_BYTES)).decode()
        return f"<img style='max-width:480px' alt='curves' src='data:image/png;base64,{data}'>"


def open_run(path: "str | os.PathLike[str]") -> Run:
    """The run in a directory, finished or not."""
    return Run(path)
