"""Checks of the book's code that all frameworks share, and the seed document."""

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elman
from elman.inference.language_model import generate
from elman.inference.sampling import Sampler
from elman.text import time_machine
from elman.text.tokenizers import clean
from elman.text.vocab import Vocab

SHARED = Path(__file__).parents[1].parent / "shared"
SEED = SHARED / "seed" / "rnn-concise.md"


def d2l_edition() -> str:
    """D2L's text, from beside the checkout."""
    return time_machine.time_machine("d2l", root=str(SHARED / "data"))


def assert_writes_like_the_book(model: Any, vocab: Vocab) -> None:
    """Most words that a model draws are the book's, and some stand together as they do there.

    The likeliest text of a trained model may be a circle of two words, with one key and not with
    another; drawn at a temperature of 0.5 it is varied enough to tell. Of 16 trainings of the
    engine 65 to 74 % of the words were the book's and 21 to 29 % of the pairs in a row, and after
    two epochs 5 to 42 % and 0 to 3 %.
    """
    book, prefix = clean(time_machine.time_machine()), vocab[list("it has")]
    ids = generate(model, prefix, 1000, Sampler(temperature=0.5))
    words = "".join(vocab.to_tokens([*prefix, *ids])).split()[2:-1]  # the last is cut
    assert _share_in(book, words) >= 0.5, words
    assert _share_in(book, [" ".join(pair) for pair in pairwise(words)]) >= 0.1, words


def _share_in(book: str, parts: list[str]) -> float:
    return sum(f" {part} " in book for part in parts) / len(parts)


def _python(section: str) -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))


def seed_steps() -> str:
    """The code of the seed's steps 3 to 6, which is the same for all frameworks."""
    page = SEED.read_text(encoding="utf-8")
    return _python(page[page.index("## Step 3") :])


def seed_program(title: str, framework: str, layer: str, model: str) -> str:
    """The seed's code for a framework, with only the import line changed.

    `title` heads its imports, `layer` and `model` the sections of steps 1 and 2.
    """
    page = SEED.read_text(encoding="utf-8")
    (imports,) = re.findall(rf"(# For {title}\n.*?)(?:\n\n|\n```)", page, re.DOTALL)
    sections = (
        _python(re.search(rf"### {heading}\n(.*?)(?=\n##)", page, re.DOTALL)[1])  # type: ignore[index]
        for heading in (layer, model)
    )
    program = "\n".join([imports, *sections, f"framework = '{framework}'", seed_steps()])
    assert program.count("from d2l import") == 1
    return program.replace("from d2l import", "from elman import")


def assert_the_seed_runs(
    d2l: Any, patch: pytest.MonkeyPatch, program: str, known: Mapping[str, Any] | None = None
) -> None:
    """A program of the seed document, with these names `known`, trains a model that writes."""
    patch.setattr(d2l.TimeMachine, "_download", lambda self: d2l_edition())
    names = dict(known or {})
    exec(program, names)
    last = names["trainer"].history[-1]
    assert last.epoch == 100
    assert 6.8 <= last.val_ppl <= 7.8
    assert names["prediction"].startswith("it has")
    assert_writes_like_the_book(names["model"], names["data"].vocab)


def model_with_output_layer(d2l: Any, linear: Callable[[int], Any]) -> Any:
    """The book's concise RNNLM: RNNLMScratch with the output layer `linear(vocab_size)`."""

    class Model(d2l.RNNLMScratch):
        def init_params(self) -> None:
            self.linear = linear(self.vocab_size)

        def output_layer(self, hiddens: Any) -> Any:
            return d2l.swapaxes(self.linear(hiddens), 0, 1)

    return Model


def assert_trains_as_printed(d2l: Any, trainer: Any, model: Any, data: Any) -> None:
    """A model of the book's size learns as in its figure, and predicts before and after."""
    assert model.predict("it has", 20, data.vocab).startswith("it has")
    trainer.fit(model, data)
    assert 6.8 <= trainer.history[-1].val_ppl <= 7.8
    assert model.predict("it has", 20, data.vocab, d2l.try_gpu()).startswith("it has")


def assert_the_books_loop_ran(trainer: Any, updates: int, validations: int) -> None:
    """A patched `fit_epoch` has counted its batches and plotted; it leaves no history."""
    assert (trainer.train_batch_idx, trainer.val_batch_idx) == (updates, validations)
    assert trainer.history == []
    lines = trainer.model.board.data.values()
    assert [len(line) for line in lines] == [updates, trainer.max_epochs]


def assert_is_saved(d2l: Any, model: Any, folder: Path) -> None:
    """A model, trained for an epoch, predicts the same after it is saved and loaded."""
    data = d2l.TimeMachine(64, 8, num_train=64, num_val=64)
    d2l.Trainer(1).fit(model, data)
    elman.save(folder, model)
    expected = model.predict("it has", 50, data.vocab)
    for framework in ("numpy", d2l.__name__.removeprefix("elman.")):
        assert elman.load(folder, framework).predict("it has", 50, data.vocab) == expected


def assert_scratch_has_the_books_shapes(d2l: Any) -> None:
    """RNNScratch and RNNLMScratch have the shapes of section 9.5."""
    rnn = d2l.RNNScratch(16, 32)
    outputs, state = rnn(d2l.ones((100, 2, 16)))
    d2l.check_len(outputs, 100)
    d2l.check_shape(outputs[0], (2, 32))
    d2l.check_shape(state, (2, 32))
    again, _ = rnn(d2l.ones((1, 2, 16)), (state,))
    plain, _ = rnn(d2l.ones((1, 2, 16)), state)
    assert (d2l.numpy(again[0]) == d2l.numpy(plain[0])).all()
    model = d2l.RNNLMScratch(rnn, 16)
    d2l.check_shape(model(d2l.ones((1, 1), dtype=d2l.int64)), (1, 1, 16))
    with pytest.raises(AssertionError):
        d2l.check_len(outputs, 99)
    with pytest.raises(AssertionError):
        d2l.check_shape(state, (2, 33))


def time_machine_built_anew(d2l: Any) -> Any:
    """The book's constructor of TimeMachine, patched into a subclass; checks a validation batch."""

    class TimeMachine(d2l.TimeMachine):
        pass

    @d2l.add_to_class(TimeMachine)
    def __init__(self: Any, batch_size: int, num_steps: int) -> None:  # noqa: N807
        super(d2l.TimeMachine, self).__init__()
        self.save_hyperparameters()
        corpus, self.vocab = self.build(self._download())
        array = d2l.tensor([corpus[i : i + num_steps + 1] for i in range(1000 - num_steps)])
        self.X, self.Y = array[:, :-1], array[:, 1:]
        self.num_train, self.num_val = 600, 100

    data = TimeMachine(2, 10)
    X, Y = next(iter(data.val_dataloader()))
    assert (d2l.numpy(data.X[600:602]) == d2l.numpy(X)).all()
    assert (d2l.numpy(data.Y[600:602]) == d2l.numpy(Y)).all()
    return data


def line(d2l: Any, *shape: Any) -> Any:
    """Data of the line y = 2 x - 3.4 x' + 4.2, of the given arguments of `randn`."""

    class Line(d2l.DataModule):
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.batch_size = 32
            self.X = d2l.randn(*shape)
            self.y = d2l.matmul(self.X, d2l.tensor([[2.0], [-3.4]])) + 4.2

        def get_dataloader(self, train: bool) -> Any:
            part = slice(0, 800) if train else slice(800, None)
            return self.get_tensorloader((self.X, self.y), train, part)

    return Line()


def assert_finds_the_line(d2l: Any, data: Any, epochs: int) -> None:
    """LinearRegression finds the coefficients of `line`."""
    model, trainer = d2l.LinearRegression(lr=0.03), d2l.Trainer(epochs)
    trainer.fit(model, data)
    w, b = (np.ravel(part.tolist()) for part in model.get_w_b())
    assert w.tolist() == pytest.approx([2.0, -3.4], abs=0.01)
    assert b.tolist() == pytest.approx([4.2], abs=0.01)
    assert trainer.history[-1].val_loss < 1e-4


def assert_classifies(d2l: Any, model: Any, X: Any, y: Any) -> None:
    """A classifier learns `y` from `X`, plots loss and accuracy, and tells each prediction's."""

    class Data(d2l.DataModule):
        batch_size = 50

        def get_dataloader(self, train: bool) -> Any:
            return self.get_tensorloader([X, y], train)

    d2l.Trainer(10).fit(model, Data())
    assert set(model.board.data) == {"train_loss", "val_loss", "val_acc"}
    assert model.board.data["val_acc"][-1].y > 0.95
    Y_hat = d2l.tensor([[1.0, 0.0], [0.0, 1.0]])
    correct = model.accuracy(Y_hat, d2l.tensor([0, 0]), averaged=False)
    assert d2l.numpy(correct).tolist() == [1, 0]
    assert model.loss(Y_hat, d2l.tensor([0, 0]), averaged=False).shape == (2,)


def assert_devices_fall_back_to_the_cpu(d2l: Any) -> None:
    """A device beyond those there are is the CPU."""
    assert d2l.try_gpu(d2l.num_gpus()) == d2l.cpu()
    assert len(d2l.try_all_gpus()) == d2l.num_gpus()
    assert d2l.devices()[0] == str(d2l.cpu())
    assert d2l.Trainer(1, num_gpus=1).gpus == d2l.try_all_gpus()[:1]


def assert_learns_words(d2l: Any, rnn: Any, story: Path) -> None:
    """A model with an embedding of 12 learns a short text by words."""
    data = d2l.TextFile(str(story), batch_size=8, num_steps=4, tokenizer="word")
    model = d2l.RNNLM(rnn, len(data.vocab), 0.01, embedding_size=12, optimizer="adam")
    trainer = d2l.Trainer(20)
    trainer.fit(model, data)
    assert trainer.history[-1].val_ppl < 1.2
