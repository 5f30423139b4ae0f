"""A model keeps the tokens that it was trained with, and is trained and asked with no others."""

import copy
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elman
from elman.data.store import prepare
from elman.errors import ElmanError
from elman.inference.evaluation import evaluate
from elman.model.weights import Architecture, initial
from elman.numpy import RNN, RNNLM, DataModule, TextFile, TimeMachine, Trainer, build
from elman.text.codec import Codec
from elman.text.tokenizers import clean
from elman.text.vocab import Vocab
from elman.valid_values import TOKENIZERS
from tests.conftest import STORY


def model_of(codec: Codec) -> RNNLM:
    """A model that knows its tokens."""
    arch = Architecture("rnn", len(codec.vocab), 6)
    model: RNNLM = build(arch, initial(arch), lr=1)
    model.codec = codec
    return model


def fitted(data: Any) -> RNNLM:
    model = RNNLM(RNN(len(data.vocab), 6), len(data.vocab), lr=1)
    Trainer(1, gradient_clip_val=1).fit(model, data)
    return model


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    """A text whose symbols are some of the story's."""
    path = tmp_path / "lower.txt"
    path.write_text("once upon a time. said he\n" * 120, encoding="utf-8")
    return path


@pytest.fixture
def codec(story: Path) -> Codec:
    return TextFile(str(story), 8, 16).codec


class Numbered(DataModule):
    """Data of the user's own that may have a vocabulary."""

    batch_size = 4

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        vars(self).update(attributes)

    def get_dataloader(self, train: bool) -> Any:
        ids = np.ones((8, 5), int)
        return self.get_tensorloader([ids[:, :-1], ids[:, 1:]], train)


class Careless(Trainer):
    def fit(self, model: Any, data: Any) -> None:  # type: ignore[override]
        self.prepare_data(data)
        self.prepare_model(model)


class Words(TimeMachine):
    def _tokenize(self, text: str) -> list[str]:
        return text.split()


class Cased(TimeMachine):
    def _preprocess(self, text: str) -> str:
        return re.sub("[^A-Za-z]+", " ", text)


def test_a_model_is_trained_further_on_a_text_in_its_tokens(
    codec: Codec, lower: Path, tmp_path: Path
) -> None:
    model, data = model_of(codec), TextFile(str(lower), 8, 16, codec=codec)
    Trainer(20, gradient_clip_val=1).fit(model, data)
    elman.save(tmp_path / "again", model)
    again = elman.load(tmp_path / "again")
    found = evaluate(again, data.codec.text(data.val), again.codec)
    assert found.perplexity == pytest.approx(model.trainer.history[-1].val_ppl, rel=0.2)


def test_data_of_ones_own_with_the_models_tokens_or_none_leave_its_codec(codec: Codec) -> None:
    model, same = model_of(codec), Vocab(codec.vocab.idx_to_token)
    for own in (Numbered(vocab=same), Numbered(), Numbered(vocab=same, codec="utf-8")):
        Trainer(1).fit(model, own)
        assert model.codec is codec


def other(folder: Path, change: Callable[[str], str]) -> TextFile:
    """The story with other symbols."""
    (folder / "other").write_text(change(STORY))
    return TextFile(str(folder / "other"), 8, 16)


def careless(folder: Path, model: RNNLM) -> None:
    Careless(1).fit(model, other(folder, str.lower))
    elman.save(folder / "run", model)


def larger(folder: Path) -> None:
    model = RNNLM(RNN(64, 6), 64)
    Trainer(1).fit(model, other(folder, str))
    elman.save(folder / "run", model)


def foreign(model: RNNLM, token: str = "ÿ") -> Vocab:
    """As many tokens as the model's, one of which is another."""
    return Vocab([*model.codec.vocab.idx_to_token[:-1], token])


def new(model: RNNLM) -> RNNLM:
    return RNNLM(RNN(len(model.codec.vocab), 4), len(model.codec.vocab))


CURE = re.escape("read the text with the model's codec, as in TextFile(..., codec=model.codec)")
SIZE = "the vocab must have 1. tokens, like the model, got 3"
REFUSED: list[tuple[Callable[[Path, RNNLM], object], str]] = [
    (lambda folder, model: Trainer(1).fit(model, other(folder, str.lower)), CURE),
    (lambda folder, model: Trainer(1).fit(model, other(folder, lambda s: "Q" + s[1:] + "Q")), CURE),
    (lambda folder, model: Trainer(1).fit(model, Numbered(vocab=foreign(model))), CURE),
    (careless, CURE),
    (
        lambda folder, model: Trainer(1).fit(
            RNNLM(RNN(5, 6), 5), Numbered(vocab=Vocab("abcdefgh"))
        ),
        "a model must have as many tokens as its data, got 5 and 9: give it vocab_size",
    ),
    (lambda folder, model: larger(folder), "as its text, got 64 and 1.: give it"),
    (
        lambda folder, model: elman.save(folder, fitted(Words(64, 4, num_train=64, num_val=64))),
        "a model must be trained on a text or loaded",
    ),
    (lambda folder, model: new(model).predict("once", 1), "requires a vocab: give one"),
    (lambda folder, model: new(model).predict("once", 1, Vocab("ab")), SIZE),
    (lambda folder, model: model.predict("once", 1, Vocab("ab")), SIZE),
    (
        lambda folder, model: model.predict("once", 1, foreign(model)),
        "the vocab must be the one of the model's training: leave it",
    ),
    (
        lambda folder, model: new(model).predict("once", 1, foreign(model, "word")),
        "requires a vocab of characters, got 'word': train",
    ),
    (lambda folder, model: model.predict("ß", 1), "the model does not know 'ß' in the prefix"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[row[1] for row in REFUSED])
def test_a_model_is_trained_saved_and_asked_with_no_other_tokens(
    codec: Codec, tmp_path: Path, call: Callable[[Path, RNNLM], object], message: str
) -> None:
    model = model_of(codec)
    before = {name: value.copy() for name, value in model.parameters.items()}
    with pytest.raises(ElmanError, match=message):
        call(tmp_path, model)
    assert all(np.array_equal(value, before[name]) for name, value in model.parameters.items())
    assert not (tmp_path / "run").exists()


def test_a_model_without_a_codec_predicts_in_a_vocabulary_of_characters(codec: Codec) -> None:
    model = model_of(codec)
    for token in ("ÿ", "<pad>"):
        assert new(model).predict("once", 1, foreign(model, token)).startswith("once")


def test_the_book_that_is_not_cleaned_is_no_cleaned_text() -> None:
    assert not fitted(Cased(64, 4, num_train=64, num_val=64)).codec.clean


@pytest.mark.parametrize("tokenizer", ["char", "byte", "word"])
def test_a_text_or_a_store_read_with_a_models_codec_is_split_as_always(
    lower: Path, story: Path, tokenizer: str
) -> None:
    codec = TextFile(str(story), 8, 16, tokenizer).codec
    data = TextFile(str(lower), 8, 16, split=(0.5, 0.25, 0.25), codec=codec)
    ids = np.concatenate([data.train, data.val, data.test])
    np.testing.assert_array_equal(ids, codec.vocab[codec.tokenizer.split(lower.read_text())])
    assert abs(len(data.train) - 2 * len(data.val)) <= 2
    assert (data.codec, data.vocab, data.tokenizer) == (codec, codec.vocab, tokenizer)
    prepare([str(story)], story.with_name("store"), tokenizer)
    assert TextFile(str(story.with_name("store")), 8, 16, codec=codec).codec == codec


def test_a_text_is_cleaned_as_the_books_was_for_its_model(story: Path) -> None:
    codec = TimeMachine(64, 8, num_train=64, num_val=64).codec
    assert codec is not None
    data = TextFile(str(story), 8, 16, codec=codec)
    assert codec.text(np.concatenate([data.train, data.val, data.test])) == clean(STORY)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_a_model_writes_on_in_its_own_tokens(tmp_path: Path, tokenizer: str) -> None:
    (tmp_path / "zoe.txt").write_text("Zoë said, oh, no. " * 200)
    model = model_of(TextFile(str(tmp_path / "zoe.txt"), 4, 8, tokenizer).codec)
    elman.save(tmp_path / "run", model)
    for known in (model, elman.load(tmp_path / "run")):
        text = known.predict(" Zoë said", 20)
        assert text.startswith(" Zoë said")
        assert text == known.predict(" Zoë said", 20, model.codec.vocab)
    if tokenizer == "char":  # as in the book
        assert known.predict("ß said", 1, model.codec.vocab).startswith("<unk> said")


@pytest.mark.parametrize(
    ("tokenizer", "batching"), [("char", "random"), ("word", "contiguous"), ("bpe", "random")]
)
def test_data_and_trainers_come_back_from_a_pickle_as_they_were(
    story: Path, tmp_path: Path, tokenizer: str, batching: str
) -> None:
    data = TextFile(str(story), 8, 16, tokenizer, batching=batching)
    model = fitted(data)
    model.board.figure()
    trainer = pickle.loads(pickle.dumps(model.trainer))
    assert trainer.model.trainer is trainer
    assert trainer.history == model.trainer.history
    assert trainer.model.board.data == model.board.data
    elman.save(tmp_path / "run", trainer.model)
    again, loader = pickle.loads(pickle.dumps((data, data.train_dataloader())))
    if tokenizer == "char":  # each id once, and not once for each window
        assert len(pickle.dumps(loader)) < 5 * story.stat().st_size
    assert loader.state == data.train_dataloader().state
    values, same = (fitted(each).parameters for each in (data, again))
    assert all(np.array_equal(values[name], same[name]) for name in values)
    codec = copy.deepcopy(again.codec)
    assert codec == data.codec
    assert codec.tokenizer.split("Once upon") == data.codec.tokenizer.split("Once upon")
