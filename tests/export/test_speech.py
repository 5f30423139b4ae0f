"""The graphs for speech recognizers, asked by sherpa-onnx and in its way, score as elman does."""

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
from tests.export.transducer import Transducer

LETTERS = sorted(set(TEXT) - {"\n"})
SENTENCES = st.lists(st.text(st.sampled_from(LETTERS), max_size=30), min_size=1, max_size=5)


class Recognizer:
    """A model, its two graphs, and the recognizer's symbols."""

    def __init__(self, model: Any, folder: Path) -> None:
        onnx.write(saved(folder, model), folder / "out")
        self.model, self.folder = model, folder / "out"
        self.offline = session_of(self.folder / "no-state.onnx")
        rows = (self.folder / "tokens.txt").read_text(encoding="utf-8").splitlines()
        self.numbers = {symbol: int(number) for symbol, number in map(str.split, rows)}

    def hypothesis(self, text: str) -> list[int]:
        """Numbers of the characters of a text."""
        return [self.numbers[c.replace(" ", "\u2581")] for c in text]

    def scores(self, hypotheses: list[list[int]]) -> list[float]:
        """Scores of hypotheses, by inputs and outputs by position as OfflineRnnLM has them."""
        x_lens = np.array(list(map(len, hypotheses)), np.int64)
        x = np.zeros((len(hypotheses), max(x_lens)), np.int64)
        for row, ys in zip(x, hypotheses, strict=True):
            row[: len(ys)] = ys
        names = [each.name for each in self.offline.get_inputs()]
        (nll,) = self.offline.run(None, dict(zip(names, (x, x_lens), strict=True)))
        assert nll.dtype == np.float32
        return [-float(value) for value in nll.ravel()]


@pytest.fixture(scope="module", params=CELLS)
def recognizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    model = model_of(request.param, layers=2, embedding=8, tied=True, lines=True)
    return Recognizer(model, tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="module")
def transducer(recognizer: Recognizer, tmp_path_factory: pytest.TempPathFactory) -> Transducer:
    return Transducer(tmp_path_factory.mktemp("transducer"), recognizer.folder / "tokens.txt")


def test_each_symbol_that_sherpa_hears_has_elmans_score(
    recognizer: Recognizer, transducer: Transducer
) -> None:
    for scale in (0.1, 0.5):
        text, found = transducer.stream(recognizer.folder / "with-state.onnx", scale)
        assert len(text) == len(found) > 5
        *tokens, _ = recognizer.model.score([text])[0].tokens
        assert found == pytest.approx([token.log_probability for token in tokens], abs=1e-4)


def test_of_all_hypotheses_of_sherpa_the_likeliest_is_chosen(
    recognizer: Recognizer, transducer: Transducer
) -> None:
    def goodness(text: str) -> float:  # divided by the symbols, with the two blanks before all
        return float(recognizer.model.score([text])[0].log_probability) / (2 + len(text))

    chosen = transducer.sentence(lm=str(recognizer.folder / "no-state.onnx"), lm_scale=1000.0)
    assert goodness(chosen) > goodness(transducer.sentence())


@given(texts=SENTENCES)
def test_sentences_have_elmans_scores_and_padding_costs_nothing(
    recognizer: Recognizer, texts: list[str]
) -> None:
    found = recognizer.scores(list(map(recognizer.hypothesis, texts)))
    wanted = [score.log_probability for score in recognizer.model.score(texts)]
    assert found == pytest.approx(wanted, abs=1e-4, rel=1e-5)


def test_symbols_are_numbered_as_in_icefall(recognizer: Recognizer) -> None:
    numbers = recognizer.numbers
    assert [numbers[name] for name in ("<blk>", "<sos/eos>", "<unk>")] == [0, 1, 2]
    assert sorted(numbers.values()) == list(range(len(numbers)))
    known = {*recognizer.model.codec.vocab.idx_to_token} - {"<unk>", "\n", " "}
    assert {*numbers} == {*known, "<blk>", "<sos/eos>", "<unk>", "\\n", "\u2581"}


def test_the_metadata_are_those_that_icefall_writes(recognizer: Recognizer) -> None:
    online = session_of(recognizer.folder / "with-state.onnx")
    for session in (recognizer.offline, online):
        assert session.get_modelmeta().custom_metadata_map == {
            **{"model_type": "rnnlm", "vocab_size": str(len(recognizer.numbers))},
            **{"sos_id": "1", "eos_id": "1", "num_layers": "2", "hidden_size": "8"},
        }
    names = [
        [[each.name for each in part] for part in (session.get_inputs(), session.get_outputs())]
        for session in (recognizer.offline, online)
    ]
    assert names[0] == [["x", "x_lens"], ["nll"]]
    assert names[1] == [["x", "h0", "c0"], ["log_softmax", "next_h0", "next_c0"]]


def test_bytes_have_the_numbers_that_sherpa_onnx_knows(tmp_path: Path) -> None:
    recognizer = Recognizer(model_of("lstm", tokenizer="byte", lines=True), tmp_path)
    numbers = recognizer.numbers
    assert all(numbers[f"<0x{byte:02X}>"] == byte + 3 for byte in range(256))
    text = "Zo\xeb said"
    found = recognizer.scores([[byte + 3 for byte in text.encode()]])
    assert found == pytest.approx([recognizer.model.score([text])[0].log_probability], abs=1e-4)


def test_a_model_of_running_text_scores_a_sentence_between_two_line_ends(tmp_path: Path) -> None:
    recognizer = Recognizer(model_of("gru"), tmp_path)
    found = recognizer.scores([recognizer.hypothesis("said he")])
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
