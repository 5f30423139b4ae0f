"""A value of a wrong kind, in Python, is told of in one line by an ElmanError, and by no other."""

import inspect
import itertools
import math
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import elman
from elman.data import store
from elman.errors import ElmanError
from elman.inference import evaluation, language_model
from elman.inference.sampling import Sampler
from elman.numpy import (
    GRU,
    LSTM,
    RNN,
    RNNLM,
    SGD,
    Adam,
    AdamW,
    Architecture,
    Module,
    TextFile,
    TimeMachine,
    Trainer,
    Vocab,
    download,
)
from elman.text import time_machine
from elman.text.codec import Codec
from elman.training.checkpoint import Checkpoints, read_newest
from elman.training.schedule import Best, Schedule

WRONG: list[Any] = [
    *(None, -1, 0, 1.5, math.nan, math.inf, True, "x", "", "\ud800", "a\0b", b"x", (), [], {}),
    *([1, "a"], [[1], [1, 2]], np.array([1, 2]), np.array(["a", "b"]), object(), Path("x"), len),
]
IDS = np.array([[0, 1, 2]])


def text(name: str = "text.txt") -> str:
    """A text in a folder of its own, which is there until the tests end."""
    return str(Path(folder().name, name))


@lru_cache
def folder() -> "tempfile.TemporaryDirectory[str]":
    made = tempfile.TemporaryDirectory(prefix="elman-test-")
    Path(made.name, "text.txt").write_text("Once upon a time, said he. \n" * 40, encoding="utf-8")
    return made


def model() -> RNNLM:
    made = RNNLM(RNN(5, 3), 5)
    made.codec = Codec(Vocab(list("abcd")), "char", clean=False)
    return made


@lru_cache
def saved() -> str:
    elman.save(text("saved"), model())
    return text("saved")


Calls = dict[str, tuple[Callable[..., Any], dict[str, Any]]]


@lru_cache
def calls() -> Calls:
    """The calls that a user may make, with arguments that are right; others have defaults."""
    return models() | trainings() | texts_and_runs() | uses(model()) | batches(model())


def models() -> Calls:
    """Layers, models and optimizers."""
    sizes = {"num_inputs": 5, "num_hiddens": 3}
    architecture = {"cell": "rnn", "vocab": 5, "hidden": 3}
    return {
        "RNN": (RNN, sizes),
        "GRU": (GRU, sizes),
        "LSTM": (LSTM, sizes),
        "RNNLM": (RNNLM, {"rnn": RNN(5, 3), "vocab_size": 5}),
        "Architecture": (Architecture, architecture),
        "Module": (Module, {}),
        "SGD": (partial(SGD, model()), {"lr": 0.1}),
        "Adam": (partial(Adam, model()), {"lr": 0.1}),
        "AdamW": (partial(AdamW, model()), {"lr": 0.1}),
    }


def trainings() -> Calls:
    """Trainers, and what they call along the way."""
    data = TextFile(text(), 8, 4)
    return {
        "Trainer": (Trainer, {"max_epochs": 1}),
        "fit": (
            Trainer(1, show_progress=False).fit,
            {"model": RNNLM(RNN(19, 3), 19), "data": data},
        ),
        "Schedule": (Schedule, {"kind": "cosine"}),
        "Best": (Best, {"patience": 1}),
        "Checkpoints": (Checkpoints, {"folder": "checkpoints"}),
        "read_newest": (read_newest, {"folder": text("none")}),
    }


def texts_and_runs() -> Calls:
    """Texts, vocabularies and run directories."""
    sizes = {"batch_size": 8, "num_steps": 4}
    return {
        "TextFile": (TextFile, {"path": text(), **sizes}),
        "TimeMachine": (TimeMachine, sizes),
        "time_machine": (time_machine.time_machine, {}),
        "Vocab": (Vocab, {"tokens": ["a", "b"]}),
        "save": (elman.save, {"folder": text("run"), "model": model()}),
        "load": (elman.load, {"folder": saved()}),
        "framework_module": (elman.framework_module, {"name": "numpy"}),
        "prepare": (partial(store.prepare, [text()], Path("store")), {}),
        "download": (download, {"url": "http://example.org/a", "folder": text("none")}),
    }


def uses(known: RNNLM) -> Calls:
    """Uses of a model and of its codec."""
    sampler = Sampler()
    return {
        "Vocab[]": (known.codec.vocab.__getitem__, {"tokens": "a"}),
        "to_tokens": (known.codec.vocab.to_tokens, {"indices": 1}),
        "prefix_ids": (known.codec.prefix_ids, {"prefix": "a"}),
        "Sampler": (Sampler, {}),
        "Sampler, excluded": (
            lambda excluded: Sampler(excluded=excluded)(np.zeros(3), np.random.default_rng(0)),
            {"excluded": (1,)},
        ),
        "predict": (known.predict, {"prefix": "a", "num_preds": 2, "vocab": known.codec.vocab}),
        "generate, ids": (
            language_model.generate,
            {"model": known, "prefix": [0, 1], "tokens": 2, "sampler": sampler},
        ),
        "generate_all": (
            language_model.generate_all,
            {"model": known, "prefixes": [[0], [1, 2]], "tokens": 2, "sampler": sampler},
        ),
        "score": (language_model.score, {"model": known, "ids": np.array([0, 1, 2])}),
        "score of lines": (known.score, {"texts": ["ab", "c"]}),
        "next": (known.next, {"prefix": "a"}),
        "hidden_states": (known.hidden_states, {"text": "ab"}),
        "generate": (known.generate, {"prefix": "a", "tokens": 3}),
        "evaluate": (evaluation.evaluate, {"model": known, "text": "abc", "codec": known.codec}),
    }


def batches(known: RNNLM) -> Calls:
    """Ids and states given to a model and to its layers."""
    state = np.zeros((1, 1, 3))
    return {
        "step": (known.step, {"ids": IDS, "state": state}),
        "model": (known.forward, {"X": IDS, "state": state}),
        "loss": (known.loss, {"y_hat": known(IDS), "y": IDS}),
        "layers": (known.rnn.forward, {"inputs": IDS.T, "state": state}),
    }


# Flags, whose truth is taken, and what other functions of the package give.
NOT_CHECKED = {
    "lines",
    "allow_unknown",
    "attention",
    "source_vocab",
    "resume",
    "val",
    "test",
    "report",
}


def arguments(call: Callable[..., Any], right: dict[str, Any]) -> dict[str, Any]:
    """The arguments that are right, and the defaults of the others."""
    parameters = inspect.signature(call).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    return {name: defaults[name] for name in defaults if name not in NOT_CHECKED} | right


def tried(call: Callable[..., Any], given: dict[str, Any]) -> Exception | None:
    """What a call raises."""
    try:
        found = call(**given)
        if isinstance(found, Iterator):
            list(found)
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("name", calls())
def test_a_wrong_kind_of_value_is_refused_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    call, right = calls()[name]
    given = arguments(call, right)
    if name not in ("download", "save", "prepare"):  # which can be called once, or not here
        assert tried(call, given) is None
    for argument, wrong in itertools.product(given, WRONG):
        raised = tried(call, given | {argument: wrong})
        told = f"{argument}={wrong!r} ends in {raised!r}"
        assert raised is None or isinstance(raised, ElmanError), told
        assert len(str(raised).splitlines()) == 1, told


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: TextFile(text(), 1.5, 4), "batch size must be a whole number, got 1.5"),  # type: ignore[arg-type]
    (lambda: elman.load("a\0b"), "a run directory must be a path, got 'a\\x00b'"),
    (lambda: elman.save(3, model()), "a run directory must be a path, got 3"),  # type: ignore[arg-type]
    (lambda: Trainer(-1), "max epochs must be 0 or more, got -1"),
    (lambda: Checkpoints("a", "x"), "seconds between checkpoints must be 0 or more, got 'x'"),  # type: ignore[arg-type]
    (lambda: Best(patience=0), "patience must be 1 or more, got 0"),
    (lambda: RNN(5, 0), "num hiddens must be 1 or more, got 0"),
    (lambda: RNNLM(RNN(5, 3), 6), "the rnn must read 6 inputs, got 5: give it num_inputs"),
    (lambda: Vocab(3), "a vocabulary must be made from a list of str"),  # type: ignore[arg-type]
    (lambda: Vocab(["a"]).to_tokens(-1), "ids must be from 0 to 1, got -1"),
    *(
        (call, f"ids must be from 0 to 4, got {wrong}")
        for ids, wrong in (([[1, -1]], "-1 to 1"), ([[1, 999]], "1 to 999"))
        for call in (
            lambda ids=ids: model().step(np.array(ids)),
            lambda ids=ids: model()(np.array(ids)),
            lambda ids=ids: model().chunked_loss(np.array(ids), np.array([[0, 1]])),
            lambda ids=ids: model().loss(np.zeros((1, 2, 5)), np.array(ids)),
            lambda ids=ids: RNN(5, 3)(np.array(ids)),
        )
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_the_message_has_the_rule_and_what_was_received(
    call: Callable[[], Any], message: str
) -> None:
    with pytest.raises(ElmanError) as error:
        call()
    assert message in str(error.value)
