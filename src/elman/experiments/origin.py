"""The model of a finished run that a training starts from."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from elman.errors import ElmanError
from elman.files.paths import exists
from elman.model import weights
from elman.runs import run
from elman.text.codec import Codec
from elman.valid_values import TIME_MACHINE


@dataclass(frozen=True)
class Origin:
    """Model of a finished run that a training starts from."""

    arch: weights.Architecture
    values: weights.Weights
    codec: Codec

    @classmethod
    def read(cls, folder: str) -> "Origin":
        """Read a run directory."""
        arch, values, codec, _ = run.read(Path(folder))
        return cls(arch, values, codec)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Origin | None":
        """Read the run named in the settings, if there is one.

        Raises an ElmanError if the settings specify another architecture.
        """
        folder = settings.get("init")
        if folder is None:
            return None
        origin = cls.read(folder)
        _check_same(folder, _architecture(origin.arch), settings)
        return origin

    @classmethod
    def again(cls, folder: str, sha256: str | None) -> "Origin":
        """Read the run that a training started from; an ElmanError if it has changed."""
        if not exists(Path(folder)):
            raise ElmanError(f"{folder} no longer exists: restore it to resume the training")
        origin = cls.read(folder)
        if origin.sha256 != sha256:
            raise ElmanError(f"{folder} has changed since the training began: restore it")
        return origin

    @property
    def sha256(self) -> str:
        """Digest of everything that a training reads from the run."""
        codec = self.codec
        facts = [self.arch.fields(), codec.tokenizer.name, codec.tokenizer.model, codec.clean]
        facts += [codec.newlines, codec.lines, codec.vocab.idx_to_token]
        digest = hashlib.sha256(json.dumps(facts).encode())
        for name in sorted(self.values):
            digest.update(np.ascontiguousarray(self.values[name]).data)
        return digest.hexdigest()


def with_origin(given: Mapping[str, Any]) -> dict[str, Any]:
    """The given settings, with the architecture and the lines of the run to start from.

    Raises an ElmanError for a setting that differs from the run's.
    """
    if not given.get("init") or given.get("pairs"):  # for pairs, init is refused with a message
        return {**given}
    config = run.read_config(Path(given["init"]))
    fixed = _architecture(config.architecture)
    if given.get("text", TIME_MACHINE) != TIME_MACHINE:  # it has no lines, and another message
        fixed["lines"] = config.lines
    _check_same(given["init"], fixed, given)
    return {**fixed, **given}


def named(given: Mapping[str, Any]) -> list[str]:
    """Names of the given settings, without those that the run to start from determines."""
    fixed = {"lines", *(field.name for field in fields(weights.Architecture))}
    return sorted(name for name in given if not (given.get("init") and name in fixed))


def _architecture(arch: weights.Architecture) -> dict[str, Any]:
    """Settings that an architecture determines."""
    return {name: value for name, value in arch.fields().items() if name != "vocab"}


def _check_same(init: str, fixed: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise an ElmanError for the first setting that differs from the run's."""
    for name, value in fixed.items():
        if given.get(name, value) != value:
            raise ElmanError(
                f"{name} must be {value}, as in {init}, got {given[name]}: leave it out"
            )
