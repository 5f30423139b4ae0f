"""A value of a wrong kind, in Python, is told of in one line by an ElmanError, and by no other."""

import math
import tempfile
from collections.abc import Callable
from functools import lru_cache
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
    """The calls that a user may make, with arguments that are right."""
    return models() | trainings() | texts_and_runs() | uses(model()) | batches(model())


def models() -> Calls:
    """Layers, models and optimizers."""
    stack = {"num_inputs": 5, "num_hiddens": 3, "num_layers": 1, "dropout": 0.0, "seed": 0}
    stack |= {"input_dropout": 0.0, "output_dropout": 0.0}
    bidirectional = {"bidirectional": False, "precision": "single"}
    return {
        "RNN": (RNN, {**stack, **bidirectional, "nonlinearity": "tanh"}),
        "GRU": (GRU, stack | bidirectional),
        "LSTM": (LSTM, stack | bidirectional),
        "RNNLM": (
            RNNLM,
            {
                **{"rnn": RNN(5, 3), "vocab_size": 5, "lr": 0.1, "embedding_size": 0},
                **{"optimizer": "adamw", "momentum": 0.0, "tied": False, "seed": 0},
                **{"weight_decay": 0.0, "recurrent_lr": 0.1},
                "precision": "single",
            },
        ),
        "Architecture": (
            Architecture,
            {
                **{"cell": "rnn", "vocab": 5, "hidden": 3, "layers": 1, "embedding": 0},
                "tied": False,
            },
        ),
        "Module": (Module, {"plot_train_per_epoch": 2, "plot_valid_per_epoch": 1}),
        "SGD": (lambda **given: SGD(model(), **given), {"lr": 0.1, "momentum": 0.0}),
        "Adam": (lambda **given: Adam(model(), **given), {"lr": 0.1}),
        "AdamW": (
            lambda **given: AdamW(model(), **given),
            {"lr": 0.1, "weight_decay": 0.1, "recurrent_lr": 0.1},
        ),
    }


def trainings() -> Calls:
    """Trainers, and what they call along the way."""
    return {
        "Trainer": (Trainer, {"max_epochs": 1, "num_gpus": 0, "gradient_clip_val": 0}),
        "fit": (
            lambda **given: Trainer(1, show_progress=False).fit(**given),
            {"model": RNNLM(RNN(19, 3), 19), "data": TextFile(text(), 8, 4)},
        ),
        "Schedule": (Schedule, {"kind": "cosine", "warmup": 0.1}),
        "Best": (Best, {"patience": 1}),
        "Checkpoints": (Checkpoints, {"folder": "checkpoints", "seconds": 60}),
        "read_newest": (read_newest, {"folder": text("none")}),
    }


def texts_and_runs() -> Calls:
    """Texts, vocabularies and run directories."""
    sizes = {"batch_size": 8, "num_steps": 4, "seed": 0}
    return {
        "TextFile": (
            TextFile,
            {
                **{"path": text(), **sizes, "split": (0.8, 0.1, 0.1), "batching": "random"},
                **{"vocab_size": 9, "min_freq": 1, "newlines": "keep", "tokenizer": "char"},
            },
        ),
        "TextFile, codec": (TextFile, {"path": text(), **sizes, "codec": model().codec}),
        "TimeMachine": (
            TimeMachine,
            {**sizes, "num_train": 10, "num_val": 5, "edition": "gutenberg"},
        ),
        "time_machine": (time_machine.time_machine, {"edition": "gutenberg"}),
        "Vocab": (Vocab, {"tokens": ["a", "b"], "min_freq": 0, "reserved_tokens": ["c"]}),
        "save": (elman.save, {"folder": text("run"), "model": model()}),
        "load": (elman.load, {"folder": text("none"), "framework": "numpy"}),
        "load, precision": (elman.load, {"folder": saved(), "precision": "single"}),
        "framework_module": (elman.framework_module, {"name": "numpy"}),
        "prepare": (
            lambda **given: store.prepare([text()], Path("store"), **given),
            {"tokenizer": "char", "vocab_size": 9, "min_freq": 1, "newlines": "keep"},
        ),
        "download": (download, {"url": "http://example.org/a", "folder": text("none")}),
    }


def uses(known: RNNLM) -> Calls:
    """Uses of a model and of its codec."""
    request = {"tokens": 2, "sampler": Sampler(), "seed": 0}
    return {
        "Vocab[]": (known.codec.vocab.__getitem__, {"tokens": "a"}),
        "to_tokens": (known.codec.vocab.to_tokens, {"indices": 1}),
        "prefix_ids": (known.codec.prefix_ids, {"prefix": "a"}),
        "prefix_ids, byte": (Codec(Vocab(["a"]), "byte", clean=False).prefix_ids, {"prefix": "a"}),
        "Sampler": (Sampler, {"temperature": 1.0, "top_k": 1, "top_p": 0.5, "min_p": 0.5}),
        "Sampler, penalty": (Sampler, {"repetition_penalty": 1.5}),
        "Sampler, excluded": (
            lambda **given: Sampler(**given)(np.zeros(3), np.random.default_rng(0)),
            {"excluded": (1,)},
        ),
        "predict": (known.predict, {"prefix": "a", "num_preds": 2, "vocab": known.codec.vocab}),
        "generate": (
            lambda **given: list(language_model.generate(**given)),
            {"model": known, "prefix": [0, 1], **request},
        ),
        "generate_all": (
            language_model.generate_all,
            {"model": known, "prefixes": [[0], [1, 2]], **request},
        ),
        "score": (
            lambda **given: list(language_model.score(**given)),
            {"model": known, "ids": np.array([0, 1, 2])},
        ),
        "score of lines": (known.score, {"texts": ["ab", "c"]}),
        "next": (known.next, {"prefix": "a", "top": 2}),
        "hidden_states": (known.hidden_states, {"text": "ab"}),
        "generate, text": (
            known.generate,
            {
                **{"prefix": "a", "tokens": 3, "n": 1, "stop": ("b",), "beams": None, "seed": 0},
                **{"temperature": 1.0, "top_k": 2, "top_p": 0.5, "min_p": 0.1},
                **{"repetition_penalty": 1.5, "allow_unknown": False},
            },
        ),
        "generate, beams": (known.generate, {"prefix": "a", "n": 1, "beams": 2, "tokens": 3}),
        "evaluate": (
            evaluation.evaluate,
            {"model": known, "text": "abc", "codec": known.codec},
        ),
    }


def batches(known: RNNLM) -> Calls:
    """Ids and states given to a model and to its layers."""
    return {
        "step": (known.step, {"ids": IDS, "state": np.zeros((1, 1, 3))}),
        "model": (known.forward, {"X": IDS, "state": np.zeros((1, 1, 3))}),
        "loss": (known.loss, {"y_hat": known(IDS), "y": IDS}),
        "layers": (known.rnn.forward, {"inputs": IDS.T, "state": np.zeros((1, 1, 3))}),
        "layers, floats": (known.rnn.forward, {"inputs": np.zeros((2, 1, 5)), "state": None}),
        "layers, pair": (
            LSTM(5, 3).forward,
            {"inputs": IDS.T, "state": (np.zeros((1, 1, 3)),) * 2},
        ),
    }


@pytest.mark.parametrize("name", calls())
def test_a_wrong_kind_of_value_is_refused_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    call, right = calls()[name]
    for argument in right:
        for wrong in WRONG:
            raised: Exception | None = None
            try:
                call(**right | {argument: wrong})
            except Exception as error:
                raised = error
            told = f"{argument}={wrong!r} ends in {raised!r}"
            assert raised is None or isinstance(raised, ElmanError), told
            assert len(str(raised).splitlines()) == 1, told


def test_values_of_the_right_kind_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in calls().keys() - {"load", "download", "save", "prepare"}:
        call, right = calls()[name]
        call(**right)


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: Sampler(temperature="x"), "temperature must be 0 or a finite number above, got 'x'"),  # type: ignore[arg-type]
    (lambda: TextFile(text(), 8, 4, seed=-1), "seed must be 0 or more, got -1"),
    (lambda: TextFile(text(), 1.5, 4), "batch size must be a whole number, got 1.5"),  # type: ignore[arg-type]
    (lambda: TextFile(text(), 8, 4, split="abc"), "split must be two or three shares above 0"),  # type: ignore[arg-type]
    (lambda: Codec(Vocab([]), "byte", False).prefix_ids("\ud800"), "half a surrogate pair"),
    (lambda: elman.load("a\0b"), "a run directory must be a path, got 'a\\x00b'"),
    (lambda: elman.load(None), "a run directory must be a path, got None"),  # type: ignore[arg-type]
    (lambda: elman.save(3, model()), "a run directory must be a path, got 3"),  # type: ignore[arg-type]
    (lambda: Trainer(-1), "max epochs must be 0 or more, got -1"),
    (lambda: Trainer("x"), "max epochs must be a whole number, got 'x'"),  # type: ignore[arg-type]
    (lambda: Checkpoints("a", "x"), "seconds between checkpoints must be 0 or more, got 'x'"),  # type: ignore[arg-type]
    (lambda: Best(patience=0), "patience must be 1 or more, got 0"),
    (lambda: Schedule(1), "schedule must be constant, cosine or plateau, got 1"),  # type: ignore[arg-type]
    (lambda: RNN(5, 0), "num hiddens must be 1 or more, got 0"),
    (lambda: RNNLM(RNN(5, 3), 6), "the rnn must read 6 inputs, got 5: give it num_inputs"),
    (lambda: list(language_model.generate(model(), [0], -1, Sampler())), "tokens must be 0 or m"),
    (lambda: Vocab(3), "a vocabulary must be made from a list of str"),  # type: ignore[arg-type]
    (lambda: Vocab(["a"]).to_tokens(-1), "ids must be from 0 to 1, got -1"),
    *(
        (call, f"ids must be from 0 to 4, got {wrong}")
        for ids, wrong in (([[1, -1]], "-1 to 1"), ([[1, 999]], "1 to 999"))
        for call in (
            lambda ids=ids: model().step(np.array(ids)),
            lambda ids=ids: model()(np.array(ids)),
            lambda ids=ids: model().chunked_loss(np.array(ids), np.array([[0, 1]])),
            lambda ids=ids: model().chunked_loss(np.array([[0, 1]]), np.array(ids)),
            lambda ids=ids: model().loss(np.zeros((1, 2, 5)), np.array(ids)),
            lambda ids=ids: RNNLM(RNN(2, 3), 5, embedding_size=2).step(np.array(ids)),
            lambda ids=ids: RNN(5, 3)(np.array(ids)),
            lambda ids=ids: list(language_model.score(model(), np.array(ids[0]))),
            lambda ids=ids: language_model.generate_all(model(), ids, 3, Sampler()),
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
