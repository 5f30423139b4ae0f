"""The graphs for speech recognizers, asked in the way of sherpa-onnx, score as elman does.

`Offline` and `Online` do what its classes OfflineRnnLM and OnlineRnnLM do: inputs and outputs by
position, metadata by key, types and shapes as there.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import elman
from elman.formats import onnx
from elman.model.cells import CELLS
from tests.export.models import TEXT, model_of, saved
from tests.export.test_onnx import session_of

CONTEXT = 2  # blanks before a hypothesis, which a transducer's decoder reads
LETTERS = sorted(set(TEXT) - {"\n"})
SENTENCES = st.lists(st.text(st.sampled_from(LETTERS), max_size=30), min_size=1, max_size=5)


class Offline:
    """Scores all hypotheses at the end."""

    def __init__(self, path: Path) -> None:
        self.session = session_of(path)
        self.inputs = [each.name for each in self.session.get_inputs()]
        self.outputs = [each.name for each in self.session.get_outputs()]

    def scores(self, hypotheses: list[list[int]], scale: float) -> list[float]:
        longest = max(len(ys) - CONTEXT for ys in hypotheses)
        x = np.zeros((len(hypotheses), longest), np.int64)
        x_lens = np.array([len(ys) - CONTEXT for ys in hypotheses], np.int64)
        for row, ys, length in zip(x, hypotheses, x_lens, strict=True):
            row[:length] = ys[CONTEXT:]
        inputs = dict(zip(self.inputs, (x, x_lens), strict=True))
        (nll,) = self.session.run(self.outputs[:1], inputs)
        assert nll.dtype == np.float32
        return [-scale * float(nll.ravel()[n]) for n in range(len(hypotheses))]


class Online:
    """Adds the score of each token of a hypothesis as it comes."""

    def __init__(self, path: Path) -> None:
        self.session = session_of(path)
        self.inputs = [each.name for each in self.session.get_inputs()]
        self.outputs = [each.name for each in self.session.get_outputs()]
        numbers = self.session.get_modelmeta().custom_metadata_map
        shape = int(numbers["num_layers"]), 1, int(numbers["hidden_size"])
        zeros = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self.first = self.score_token(int(numbers["sos_id"]), zeros)

    def score_token(self, token: int, states: Any) -> tuple[Any, Any]:
        x = np.array([[token]], np.int64)
        inputs = dict(zip(self.inputs, (x, *states), strict=True))
        scores, *states = self.session.run(self.outputs, inputs)
        return scores, states

    def score(self, ys: list[int], scale: float) -> float:
        total, (scores, states) = 0.0, self.first
        for token in ys[CONTEXT:]:
            total += float(scores.ravel()[token]) * scale
            scores, states = self.score_token(token, states)
        return total


class Recognizer:
    """A model, its two graphs, and the recognizer's symbols."""

    def __init__(self, model: Any, folder: Path) -> None:
        onnx.write(saved(folder, model), folder / "out")
        self.model, self.folder = model, folder / "out"
        self.offline = Offline(self.folder / "no-state.onnx")
        self.online = Online(self.folder / "with-state.onnx")
        rows = (self.folder / "tokens.txt").read_text(encoding="utf-8").splitlines()
        self.numbers = {symbol: int(number) for symbol, number in map(str.split, rows)}

    def hypothesis(self, text: str) -> list[int]:
        """Numbers of the characters of a text, after the blanks of the context."""
        return [0] * CONTEXT + [self.numbers[c.replace(" ", "\u2581")] for c in text]


@pytest.fixture(scope="module", params=CELLS)
def recognizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    model = model_of(request.param, layers=2, embedding=8, tied=True, lines=True)
    return Recognizer(model, tmp_path_factory.mktemp("speech"))


@given(texts=SENTENCES)
def test_sentences_have_elmans_scores_and_padding_costs_nothing(
    recognizer: Recognizer, texts: list[str]
) -> None:
    found = recognizer.offline.scores(list(map(recognizer.hypothesis, texts)), scale=0.5)
    wanted = [0.5 * score.log_probability for score in recognizer.model.score(texts)]
    assert found == pytest.approx(wanted, abs=1e-4, rel=1e-5)


@given(text=st.text(st.sampled_from(LETTERS), max_size=30))
def test_tokens_one_by_one_have_elmans_scores_up_to_the_end_of_the_line(
    recognizer: Recognizer, text: str
) -> None:
    found = recognizer.online.score(recognizer.hypothesis(text), scale=0.5)
    *tokens, _ = recognizer.model.score([text])[0].tokens
    wanted = 0.5 * sum(token.log_probability for token in tokens)
    assert found == pytest.approx(wanted, abs=1e-4, rel=1e-5)


def test_symbols_are_numbered_as_in_icefall(recognizer: Recognizer) -> None:
    numbers = recognizer.numbers
    assert [numbers[name] for name in ("<blk>", "<sos/eos>", "<unk>")] == [0, 1, 2]
    assert sorted(numbers.values()) == list(range(len(numbers)))
    known = {*recognizer.model.codec.vocab.idx_to_token} - {"<unk>", "\n", " "}
    assert {*numbers} == {*known, "<blk>", "<sos/eos>", "<unk>", "\\n", "\u2581"}


def test_the_metadata_are_those_that_icefall_writes(recognizer: Recognizer) -> None:
    for session in (recognizer.offline.session, recognizer.online.session):
        numbers = session.get_modelmeta().custom_metadata_map
        assert (numbers["sos_id"], numbers["eos_id"]) == ("1", "1")
        assert int(numbers["vocab_size"]) == len(recognizer.numbers)
        assert (numbers["num_layers"], numbers["hidden_size"]) == ("2", "8")
        assert numbers["model_type"] == "rnnlm"
    names = recognizer.online.inputs, recognizer.online.outputs
    assert names == (["x", "h0", "c0"], ["log_softmax", "next_h0", "next_c0"])
    names = recognizer.offline.inputs, recognizer.offline.outputs
    assert names == (["x", "x_lens"], ["nll"])


def test_bytes_have_the_numbers_that_sherpa_onnx_knows(tmp_path: Path) -> None:
    recognizer = Recognizer(model_of("lstm", tokenizer="byte", lines=True), tmp_path)
    numbers = recognizer.numbers
    assert all(numbers[f"<0x{byte:02X}>"] == byte + 3 for byte in range(256))
    text = "Zo\xeb said"
    found = recognizer.offline.scores([[0, 0, *(byte + 3 for byte in text.encode())]], 1)
    assert found == pytest.approx([recognizer.model.score([text])[0].log_probability], abs=1e-4)


def test_a_model_of_running_text_scores_a_sentence_between_two_line_ends(tmp_path: Path) -> None:
    recognizer = Recognizer(model_of("gru"), tmp_path)
    found = recognizer.offline.scores([recognizer.hypothesis("said he")], 1)
    wanted = recognizer.model.score(["said he"])[0].log_probability
    assert found == pytest.approx([wanted], abs=1e-4)


def test_without_a_line_end_there_are_no_such_graphs_which_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    model = model_of("rnn")
    model.codec = elman.text.codec.Codec(without_line_end(model), "char", clean=False)
    onnx.write(saved(tmp_path, model), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"step.onnx", "vocab.json"}
    assert "no graphs for speech recognizers" in caplog.text


def without_line_end(model: Any) -> Any:
    """A vocabulary as large as a model's, with another symbol in place of the line end."""
    tokens = [token for token in model.codec.vocab.idx_to_token if token not in ("\n", "<unk>")]
    return type(model.codec.vocab)([*tokens, "~"])
