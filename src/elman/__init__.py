"""Recurrent language models with one API; `from elman import torch` picks the framework."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from elman.core.errors import ElmanError, is_one_of

if TYPE_CHECKING:
    from pathlib import Path

__version__ = "0.1.0"
__all__ = ["ElmanError", "__version__", "framework_module", "load", "save"]

FRAMEWORKS = ("numba", "numpy", "torch", "tensorflow", "jax", "mxnet")


def check_framework(name: str) -> None:
    """Raise an ElmanError unless there is such a framework."""
    if not is_one_of(name, FRAMEWORKS):
        raise ElmanError(f"the framework is one of {', '.join(FRAMEWORKS)}, got {name!r}")


def framework_module(name: str) -> Any:
    """The module `elman.NAME`; an ElmanError tells how to install what it needs."""
    check_framework(name)
    try:
        return import_module(f"elman.{name}")
    except ElmanError:
        raise
    except Exception as error:  # what does not fit together raises anything
        raise ElmanError(f"{name} is installed, but does not load: {error}") from error


def save(folder: "str | Path", model: Any) -> None:
    """Write a trained or loaded model, of any framework, into a new run directory.

    The vocabulary is that of the data the model was trained on, or of the run it was loaded from.
    """
    from elman.core.experiments import run
    from elman.core.files import disk
    from elman.core.text import codec

    path = disk.path(folder, "a run directory")
    own = _framework_of(model)
    fit = getattr(model, "trainer", None)
    if fit is not None and fit.model is not model:
        raise ElmanError("its trainer has trained another model since: save each after its fit")
    used = codec.shared(model, getattr(fit, "data", None))  # a fit of the user's own may not ask
    if used is None:
        raise ElmanError("this model was neither trained on text nor loaded: fit it first")
    of = own.architecture(model)
    if of.vocab != len(used.vocab):
        raise ElmanError(
            f"the model has {of.vocab} tokens, and its text {len(used.vocab)}: give it vocab_size="
            "len(data.vocab)"
        )
    history: Sequence[Any] = getattr(fit, "history", ())
    with run.new_folder(path) as part:
        run.write(part, of, own.export_weights(model), used, {}, history)
        run.draw(part, history)


def load(folder: "str | Path", framework: str = "numpy") -> Any:
    """The model of a run directory, in a framework; `model.codec.vocab` is its vocabulary."""
    from elman.core.experiments import run
    from elman.core.files import disk

    check_framework(framework)
    of, weights, codec = run.read(disk.path(folder, "a run directory"))
    model = framework_module(framework).build(of, weights)
    model.codec = codec
    return model


def _framework_of(model: Any) -> Any:
    for name in FRAMEWORKS:
        own = sys.modules.get(f"elman.{name}")
        if own and isinstance(model, own.Module):
            return own
    raise ElmanError(f"save takes a model of one of {', '.join(FRAMEWORKS)}, got {type(model)}")
