"""The page's model, tokenizers and draws are those of the specification."""

import random
from unicodedata import category

import numpy as np
import pytest
from numpy.typing import NDArray

from elman import numpy as specification
from elman.formats import html
from elman.inference import language_model
from elman.inference.sampling import Sampler, softmax
from elman.model.cells import CELLS
from elman.text.codec import Codec
from tests.export.models import TEXT, model_of
from tests.pages.conftest import Show

SIZES = {
    "one-hot": {},
    "words": {"layers": 2, "embedding": 5, "tokenizer": "word"},
    "pairs": {"layers": 3, "embedding": 8, "tied": True, "tokenizer": "bpe"},
    "lines": {"layers": 2, "tokenizer": "byte", "lines": True},
}
PIECES = ["Once", " upon", " a", "time", ",", " ", "\n", "Zoë", ": “", "it has", "日", "'s", "12"]
READ = """(text) => {
  const read = new Reading(model, codec);
  for (const id of codec.ids(text)) read.push(id);
  return read;
}"""
ODDS = f"(texts) => texts.map({READ}).map((read) => Array.from(read.odds(read.length)))"
DRAW = f"""([text, temperature, numbers]) => {{
  const read = ({READ})(text);
  return numbers.map((number) => {{
    read.push(read.draw(temperature, number));
    return read.ids.at(-1);
  }});
}}"""
# What some call white space and some do not, and what the borders of words depend on.
ODD = " \t\r\n\x0b\x0c\x1c\x1f\x85\xa0\u180e\u200b\u2028\u3000\ufeff'sdmtlvre1a_,\u0301é日𝄞²Ⅷ"


def ids_of(codec: Codec, text: str) -> list[int]:
    """Ids that a model reads before it predicts; a model of lines begins each line anew."""
    if codec.lines:
        text = text.rpartition("\n")[2]
    ids: list[int] = codec.vocab[codec.tokenizer.split(text)]
    return [codec.line_end, *ids] if codec.lines else ids


def odds(model: specification.RNNLM, texts: list[str]) -> NDArray[np.float64]:
    """The specification's odds of the symbol after each text, (texts, vocab)."""
    prefixes = [np.array([ids_of(model.codec, text)]) for text in texts]
    logits = np.array([model.step(prefix)[0][0, -1] for prefix in prefixes])
    return softmax(logits.astype(np.float64))


@pytest.mark.parametrize("precision", ["half", "single"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("cell", CELLS)
def test_odds_are_those_of_the_specification(
    show: Show, monkeypatch: pytest.MonkeyPatch, cell: str, sizes: str, precision: str
) -> None:
    if precision == "single":
        monkeypatch.setattr(html, "TOLERANCE", -1.0)
    model = model_of(cell, **SIZES[sizes])
    if cell == "rnn-relu":  # its states would grow with the text, and differences with them
        model.load_weights({name: value / 2 for name, value in model.parameters.items()})
    rng = random.Random(cell + sizes)
    texts = ["".join(rng.choices(PIECES, k=rng.randint(1, 9))) for _ in range(25)]
    page = show(model)
    found = np.array(page.evaluate(ODDS, texts))
    assert page.evaluate("parse('model').half") == (precision == "half")
    assert np.abs(found - odds(model, texts)).max() < (1e-3 if precision == "half" else 1e-5)
    if precision == "half":
        model.load_weights(
            {name: np.float32(np.float16(value)) for name, value in model.parameters.items()}
        )
        assert np.abs(found - odds(model, texts)).max() < 1e-5


def test_every_number_of_half_precision_is_read(show: Show) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    finite = bits[np.isfinite(bits.view(np.float16))]
    page = show(model_of("rnn"))
    found = page.evaluate("(bits) => [...singlePrecision(Uint16Array.from(bits))]", finite.tolist())
    np.testing.assert_array_equal(found, finite.view(np.float16).astype(np.float64))


@pytest.mark.parametrize("name", ["char", "byte", "word", "bpe"])
def test_texts_and_ids_are_those_of_the_codec(show: Show, name: str) -> None:
    codec = (model := model_of("rnn", tokenizer=name)).codec
    page = show(model)
    rng = random.Random(name)
    known = [chr(code) for code in range(0x110000) if category(chr(code)) not in ("Cn", "Cs")]
    symbols = [*ODD, *rng.sample(known, 500), *TEXT[:20]]
    texts = ["".join(rng.choices(symbols, k=rng.randint(0, 12))) for _ in range(1000)]
    # Letters of words that are known, in other orders, can be merged in several ways.
    texts += ["".join(rng.choices("Once upon a time", k=30)) for _ in range(1000)]
    found = page.evaluate("(texts) => texts.map((text) => codec.ids(text))", texts)
    assert found == [codec.vocab[codec.tokenizer.split(text)] for text in texts]
    ids = [rng.choices(range(len(codec.vocab)), k=rng.randint(0, 9)) for _ in range(500)]
    ids.append(codec.vocab[codec.tokenizer.split("\ufeffOnce")])
    found = page.evaluate("(all) => all.map((ids) => codec.text(ids))", ids)
    assert found == [codec.text(each) for each in ids]


def test_a_text_that_the_model_reads_cleaned_is_cleaned(show: Show) -> None:
    model = model_of("rnn")
    codec = model.codec
    model.codec = Codec(codec.vocab, codec.tokenizer, clean=True)
    page = show(model)
    assert page.evaluate("codec.text(codec.ids('Once,\\n UPON\u212a9a'))") == "once upon a"
    page.fill("#text", "Once")
    assert page.inner_text("#hint").startswith("The model reads small letters a to z")


@pytest.mark.parametrize("temperature", [0, 0.5, 1, 1.7])
def test_the_same_random_numbers_draw_the_same_text(
    show: Show, monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    monkeypatch.setattr(html, "TOLERANCE", -1.0)
    model = model_of("lstm", layers=2, embedding=5)
    page = show(model)
    sampler = Sampler(temperature, excluded=(model.codec.vocab.unk,))
    for seed in range(3):
        numbers = np.random.default_rng(seed).random(150).tolist()
        found = page.evaluate(DRAW, ["Once", temperature, numbers])
        prefix = model.codec.prefix_ids("Once")
        assert found == list(language_model.generate(model, prefix, 150, sampler, seed))
