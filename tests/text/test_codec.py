"""A model keeps the tokens that it was trained with, and is trained and asked with no others."""

import copy
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elman
from elman.data import store
from elman.errors import ElmanError
from elman.inference.evaluation import evaluate
from elman.inference.language_model import generate
from elman.inference.sampling import Sampler
from elman.numpy import RNN, RNNLM, DataModule, TextFile, TimeMachine, Trainer
from elman.text.codec import Codec
from elman.text.tokenizers import clean
from elman.text.vocab import Vocab

CURE = re.escape("read the text with the model's codec, as in TextFile(..., codec=model.codec)")


def fitted(data: Any, **settings: Any) -> RNNLM:
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
def run(story: Path, tmp_path: Path) -> Path:
    elman.save(tmp_path / "run", fitted(TextFile(str(story), 8, 16)))
    return tmp_path / "run"


def test_a_loaded_model_is_trained_on_no_text_that_numbers_tokens_otherwise(
    run: Path, lower: Path, tmp_path: Path
) -> None:
    model, other = elman.load(run), TextFile(str(lower), 8, 16)
    before, trainer = {name: value.copy() for name, value in model.parameters.items()}, Trainer(1)
    with pytest.raises(ElmanError, match=CURE):
        trainer.fit(model, other)
    assert all(np.array_equal(value, before[name]) for name, value in model.parameters.items())
    assert trainer.data is None
    data = TextFile(str(lower), 8, 16, codec=model.codec)
    Trainer(20, gradient_clip_val=1).fit(model, data)
    elman.save(tmp_path / "again", model)
    again = elman.load(tmp_path / "again")
    text = data.codec.text(data.val)
    seen = model.trainer.history[-1].val_ppl
    assert evaluate(again, text, again.codec).perplexity == pytest.approx(seen, rel=0.2)


def test_a_trained_model_goes_on_with_no_text_of_another_vocabulary_of_its_size(
    lower: Path, tmp_path: Path
) -> None:
    (tmp_path / "upper.txt").write_text(lower.read_text().upper())
    data, other = (TextFile(str(tmp_path / f"{name}.txt"), 8, 16) for name in ("lower", "upper"))
    assert len(data.vocab) == len(other.vocab)
    model = fitted(data)
    with pytest.raises(ElmanError, match=CURE):
        Trainer(1).fit(model, other)
    Trainer(1).fit(model, TextFile(str(lower), 4, 8))  # the same tokens


class Numbered(DataModule):
    """Data of the user's own that have a vocabulary."""

    batch_size = 4

    def __init__(self, vocab: Vocab | None) -> None:
        super().__init__()
        if vocab is not None:
            self.vocab = vocab

    def get_dataloader(self, train: bool) -> Any:
        ids = np.ones((8, 5), int)
        return self.get_tensorloader([ids[:, :-1], ids[:, 1:]], train)


def test_data_of_ones_own_are_known_by_their_vocabulary(run: Path) -> None:
    model = elman.load(run)
    tokens = model.codec.vocab.idx_to_token
    with pytest.raises(ElmanError, match=CURE):
        Trainer(1).fit(model, Numbered(Vocab([*tokens[:-1], "ÿ"])))
    for vocab in (Vocab(tokens), None):  # without one, who can tell
        Trainer(1).fit(model, Numbered(vocab))
        assert model.codec.vocab.idx_to_token == tokens
    with pytest.raises(
        ElmanError,
        match="a model must have as many tokens as its data, got 5 and 9: give it vocab_",
    ):
        Trainer(1).fit(RNNLM(RNN(5, 6), 5), Numbered(Vocab("abcdefgh")))


def test_an_unrelated_attribute_named_codec_is_ignored(run: Path) -> None:
    model = elman.load(run)
    data = Numbered(model.codec.vocab)
    data.codec = "utf-8"
    Trainer(1).fit(model, data)
    assert model.codec.vocab is data.vocab


def test_an_overridden_fit_does_not_save_another_texts_vocabulary(
    run: Path, lower: Path, tmp_path: Path
) -> None:
    class Careless(Trainer):
        def fit(self, model: Any, data: Any) -> None:  # type: ignore[override]
            self.prepare_data(data)
            self.prepare_model(model)

    model = elman.load(run)
    Careless(1).fit(model, TextFile(str(lower), 8, 16))
    with pytest.raises(ElmanError, match=CURE):
        elman.save(tmp_path / "again", model)


def test_a_model_larger_than_its_vocabulary_is_not_saved(lower: Path, tmp_path: Path) -> None:
    data = TextFile(str(lower), 8, 16)
    model = RNNLM(RNN(64, 6), 64)
    Trainer(1).fit(model, data)
    with pytest.raises(ElmanError, match=f"as its text, got 64 and {len(data.vocab)}: give it"):
        elman.save(tmp_path / "run", model)


class Words(TimeMachine):
    def _tokenize(self, text: str) -> list[str]:
        return text.split()


class Cased(TimeMachine):
    def _preprocess(self, text: str) -> str:
        return re.sub("[^A-Za-z]+", " ", text)


def test_the_book_read_in_ones_own_way_is_not_saved_as_the_books_characters(
    tmp_path: Path,
) -> None:
    model = fitted(Words(64, 4, num_train=64, num_val=64))
    assert model.codec is None
    with pytest.raises(ElmanError, match="a model must be trained on a text or loaded"):
        elman.save(tmp_path / "run", model)
    assert not fitted(Cased(64, 4, num_train=64, num_val=64)).codec.clean


@pytest.mark.parametrize("tokenizer", ["char", "byte", "word"])
def test_a_text_read_with_a_models_codec_is_split_as_always(
    lower: Path, story: Path, tokenizer: str
) -> None:
    codec = TextFile(str(story), 8, 16, tokenizer).codec
    split = (0.5, 0.25, 0.25)
    data = TextFile(str(lower), 8, 16, split=split, codec=codec)
    ids = np.concatenate([data.train, data.val, data.test])
    np.testing.assert_array_equal(ids, codec.vocab[codec.tokenizer.split(lower.read_text())])
    assert abs(len(data.train) - 2 * len(data.val)) <= 2
    assert (data.codec, data.vocab, data.tokenizer) == (codec, codec.vocab, tokenizer)


def test_a_text_is_cleaned_as_the_books_was_for_its_model(story: Path) -> None:
    codec = TimeMachine(64, 8, num_train=64, num_val=64).codec
    assert codec is not None
    data = TextFile(str(story), 8, 16, codec=codec)
    assert codec.text(data.train).startswith("once upon a time said he once upon")
    whole = np.concatenate([data.train, data.val, data.test])
    assert codec.text(whole) == clean(story.read_text())


def test_a_codec_and_what_contradicts_it_are_refused(story: Path, tmp_path: Path) -> None:
    codec = TextFile(str(story), 8, 16, "word").codec
    with pytest.raises(
        ElmanError, match="tokenizer must be word, since the codec has it, got 'char': leave it"
    ):
        TextFile(str(story), 8, 16, "char", codec=codec)
    with pytest.raises(ElmanError, match=r"codec must be a Codec, such as model\.codec, got Vocab"):
        TextFile(str(story), 8, 16, codec=codec.vocab)  # type: ignore[arg-type]
    store.prepare([str(story)], tmp_path / "chars", "char", None)
    with pytest.raises(ElmanError, match="chars has other tokens than the model: give the text"):
        TextFile(str(tmp_path / "chars"), 8, 16, codec=codec)
    store.prepare([str(story)], tmp_path / "words", "word", None)
    data = TextFile(str(tmp_path / "words"), 8, 16, "word", codec=codec)
    kept = store.read(tmp_path / "words")
    np.testing.assert_array_equal(data.train, kept.part(0).ids)
    assert isinstance(data.codec, Codec)


def test_a_model_writes_on_in_its_own_tokens(story: Path, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "zoe.txt").write_text("Zoë said, oh, no. " * 200)
    for tokenizer in ("word", "bpe", "byte", "char"):
        data = TextFile(str(tmp_path / "zoe.txt"), 4, 8, tokenizer)
        model = fitted(data)
        elman.save(tmp_path / tokenizer, model)
        for known in (model, elman.load(tmp_path / tokenizer)):
            text = known.predict(" Zoë said", 20)
            assert text.startswith(" Zoë said")
            assert text == known.predict(" Zoë said", 20, data.vocab)
            ids = known.codec.prefix_ids(" Zoë said")
            following = generate(known, ids, 20, Sampler(temperature=0))
            assert text == known.codec.text([*ids, *following])
            if tokenizer in ("word", "char"):
                with pytest.raises(ElmanError, match="the model does not know 'ß' in the prefix"):
                    known.predict("ß", 1)
    assert known.predict("ß said", 1, data.vocab).startswith("<unk> said")  # as in the book


def test_a_vocabulary_that_cannot_be_the_models_is_refused(lower: Path) -> None:
    data = TextFile(str(lower), 8, 16)
    tokens = data.vocab.idx_to_token
    new, model = RNNLM(RNN(len(tokens), 4), len(tokens)), fitted(data)
    with pytest.raises(ElmanError, match="without training or loading requires a vocab: give one"):
        new.predict("once", 1)
    for known in (new, model):
        with pytest.raises(
            ElmanError, match=r"the vocab must have 1.* tokens, like the model, got 3"
        ):
            known.predict("once", 1, Vocab("ab"))
    others = Vocab([*tokens[:-1], "ÿ"])
    with pytest.raises(
        ElmanError, match="the vocab must be the one of the model's training: leave it"
    ):
        model.predict("once", 1, others)
    assert new.predict("once", 1, others).startswith("once")
    with pytest.raises(ElmanError, match="requires a vocab of characters, got 'word': train"):
        new.predict("once", 1, Vocab([*tokens[:-1], "word"]))
    new.predict("once", 1, Vocab([*tokens[:-1], "<pad>"]))


@pytest.mark.parametrize(
    ("tokenizer", "batching"), [("char", "random"), ("word", "contiguous"), ("bpe", "random")]
)
def test_data_and_trainers_come_back_from_a_pickle_as_they_were(
    story: Path, tmp_path: Path, tokenizer: str, batching: str
) -> None:
    if tokenizer == "bpe":
        pytest.importorskip("tokenizers")
    data = TextFile(str(story), 8, 16, tokenizer, batching=batching)
    model = fitted(data)
    trainer = pickle.loads(pickle.dumps(model.trainer))
    assert trainer.model.trainer is trainer
    assert trainer.history == model.trainer.history
    elman.save(tmp_path / "run", trainer.model)
    again = pickle.loads(pickle.dumps(data))
    for part in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(again, part), getattr(data, part))
    values, same = (fitted(each).parameters for each in (data, again))
    assert all(np.array_equal(values[name], same[name]) for name in values)
    codec = copy.deepcopy(again.codec)
    assert codec == data.codec
    assert codec.tokenizer.split("Once upon") == data.codec.tokenizer.split("Once upon")
    evaluate(model, story.read_text(), codec)


def test_a_pickled_batch_has_each_id_once_and_not_once_for_each_window(story: Path) -> None:
    batches = TextFile(str(story), 8, 64).train_dataloader()
    next(iter(batches))
    raw, twin = pickle.dumps(batches), copy.deepcopy(batches)
    assert len(raw) < 5 * story.stat().st_size
    for copied in (pickle.loads(raw), twin):
        assert copied.state == batches.state
    for one, two, three in zip(batches, pickle.loads(raw), twin, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)
    assert batches.state == twin.state  # a copy draws from a generator of its own


def test_the_book_and_a_board_come_back_from_a_pickle(tmp_path: Path) -> None:
    data = TimeMachine(64, 4, num_train=64, num_val=64)
    model = fitted(data)
    model.board.figure()
    again = pickle.loads(pickle.dumps(model))
    assert again.board.data == model.board.data
    twin = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(twin.X, data.X)
