"""Running written graphs with onnxruntime, and comparing them with the specification."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from elman.errors import ElmanError
from elman.formats.onnx import speech
from elman.inference.language_model import check_finite, log_probabilities
from elman.inference.scoring import score_texts

TOLERANCE = 1e-4  # of logits and log-probabilities
ROUNDING = 1e-5  # likewise, relative to the largest value
BATCH, STEPS = 3, 16  # of the text to read


def check_step(path: Path, wanted: Any) -> None:
    """Raise an ElmanError unless the graph of a step produces a model's logits.

    A text is read in two parts; the second starts from the state after the first.
    """
    ids = _random(wanted.vocab_size)
    logits, _ = wanted.step(ids)
    with _loaded(path) as session:
        state, found = zero_state(session, BATCH), []
        for part in np.split(ids, 2, axis=1):
            outputs = run(session, {"ids": part} | state)
            found.append(outputs["logits"])
            state = {name: outputs[f"next_{name}"] for name in state}
        _compare(path, np.concatenate(found, axis=1), logits)


def check_sentences(path: Path, wanted: Any, symbols: speech.Symbols) -> None:
    """Raise an ElmanError unless the graph of sentences produces a model's losses."""
    x, lengths = _random(len(symbols)), np.array([STEPS, STEPS // 2, 0])
    border = [speech.BORDER]
    texts = [[*border, *row[:n], *border] for row, n in zip(x.tolist(), lengths, strict=True)]
    losses = score_texts(wanted, [symbols.tokens[text] for text in texts])
    with _loaded(path) as session:
        nll = run(session, {"x": x, "x_lens": lengths})["nll"]
        _compare(path, nll, np.array([each.sum() for each in losses]))


def check_streaming(path: Path, wanted: Any, symbols: speech.Symbols) -> None:
    """Raise an ElmanError unless the graph of tokens produces a model's log-probabilities."""
    x = _random(len(symbols))
    logits, _ = wanted.step(symbols.tokens[x])
    with _loaded(path) as session:
        state = zero_state(session, BATCH)
        found = []
        for n in range(STEPS):
            outputs = run(session, {"x": x[:, n : n + 1]} | state)
            found.append(outputs["log_softmax"])
            state = {name: outputs[f"next_{name}"] for name in state}
        values = log_probabilities(logits)[..., symbols.tokens]
        _compare(path, np.stack(found, axis=1), values)


def zero_state(session: Any, batch: int) -> dict[str, NDArray[np.float32]]:
    """Parts of the initial state by name: (layers, batch, hidden) each."""
    shapes = {part.name: part.shape for part in session.get_inputs() if len(part.shape) == 3}
    return {
        name: np.zeros((layers, batch, hidden), np.float32)
        for name, (layers, _, hidden) in shapes.items()
    }


def run(session: Any, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Outputs of a session by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def _random(vocab: int) -> NDArray[np.int64]:
    """Ids, (BATCH, STEPS), the same in every call."""
    return np.random.default_rng(0).integers(vocab, size=(BATCH, STEPS))


@contextmanager
def _loaded(path: Path) -> Iterator[Any]:
    """Session of a file. A failure within the block becomes an ElmanError."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
        yield onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except ElmanError:
        raise
    except Exception as error:  # the libraries raise many kinds
        raise ElmanError(f"{path.name} does not run in onnxruntime: {error}") from error


def _compare(path: Path, found: NDArray[Any], wanted: NDArray[Any]) -> None:
    check_finite(wanted)
    difference = np.abs(found - wanted).max()
    allowed = max(TOLERANCE, ROUNDING * np.abs(wanted).max())
    if not difference <= allowed:  # also refuses NaN
        raise ElmanError(
            f"{path.name} must equal elman.numpy within {allowed:.2g}, got a difference of "
            f"{difference:.2g}: use another version of onnxruntime"
        )
