"""Recurrent language models with one API; `from elman import torch` picks the framework."""

# ruff: noqa: F405 (names for editors come from elman.api)

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from elman.errors import ElmanError
from elman.runs.frameworks import framework_module, module_of
from elman.valid_values import FRAMEWORKS, VERSION

if TYPE_CHECKING:
    import os

    from elman.api import *  # noqa: F403
    from elman.model.cells import Cell
    from elman.model.registry import register

__version__ = VERSION
__all__ = [  # except elman.open: it would hide Python's open
    "Cell",
    "ElmanError",
    "Run",
    "__version__",
    "compare",
    "evaluate",
    "export",
    "framework_module",
    "info",
    "load",
    "load_pairs",
    "plan",
    "prepare",
    "register",
    "resume",
    "save",
    "score",
    "serve",
    "sweep",
    "train",
    "translate",
]
# Modules of names that not every program needs; the others are in elman.api.
MODULES = {"Cell": "elman.model.cells", "register": "elman.model.registry"}


def __getattr__(name: str) -> Any:
    """Import a name that not every program needs."""
    if name in (*__all__, "open"):
        from importlib import import_module

        return getattr(import_module(MODULES.get(name, "elman.api")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Names of the module, including lazy ones, for tab completion."""
    own = {name for name in globals() if name.startswith("__")}
    return sorted({*own, *__all__, "open", *FRAMEWORKS})


def save(folder: "str | os.PathLike[str]", model: Any) -> None:
    """Write a trained or loaded model of any framework into a new run directory.

    An encoder-decoder must have been trained on a PairsFile or loaded; its run has no settings.

    The vocabulary comes from the training data, or from the run that the model was loaded from. The
    run keeps the settings of the training and the digest of its text.
    """
    from elman.book.seq2seq import Predicting
    from elman.files import atomic
    from elman.files.paths import as_path
    from elman.runs import run
    from elman.runs.saved import record_of, save_pairs
    from elman.text import codec

    path = as_path(folder, "a run directory")
    module = module_of(model)
    trainer = model.trainer
    if trainer is not None and trainer.model is not model:
        raise ElmanError("a model must be saved before its trainer trains another: do so after fit")
    is_fitted = trainer is not None and trainer.data is not None
    history: Sequence[Any] = trainer.history if is_fitted else ()
    if isinstance(model, Predicting):
        save_pairs(path, model, module, history)
        return
    # A user's own `fit` may not set the codec.
    used = codec.shared(model, trainer.data if is_fitted else None)
    if used is None:
        raise ElmanError("a model must be trained on a text or loaded to be saved: fit it first")
    architecture = module.architecture(model)
    if architecture.vocab != len(used.vocab):
        raise ElmanError(
            f"a model must have as many tokens as its text, got {architecture.vocab} and "
            f"{len(used.vocab)}: give it vocab_size=len(data.vocab)"
        )
    with atomic.new_folder(path) as part:
        values = module.export_weights(model)
        record = record_of(model, architecture, module)
        run.write(part, architecture, values, used, model.options.precision, record, history)
        run.draw(part, history)


def load(
    folder: "str | os.PathLike[str]", framework: str | None = None, precision: str | None = None
) -> Any:
    """Load the model of a run directory into a framework.

    `model.codec` converts between text and ids; `model.codec.vocab` is the vocabulary. The model of
    a run of pairs is a Seq2Seq: its codec is that of targets, and `codec.source` that of sources.

    - `framework`: numba, numpy, torch, tensorflow, jax or mxnet. None is numba, the fastest engine
      on a CPU. None is numpy for weights in double precision, for a registered cell, and if Numba
      does not compile (NUMBA_DISABLE_JIT). For a run of pairs it is the first of torch, jax,
      tensorflow and mxnet that is installed.
    - `precision`: of products, single or bf16. None is the run's precision. A framework without a
      choice computes in single precision and logs a notice.

    Raises an ElmanError for a folder that is not a run, and for a framework that is not installed.
    """
    from elman.files.paths import as_path
    from elman.runs import loading

    return loading.load(as_path(folder, "a run directory"), framework, precision)
