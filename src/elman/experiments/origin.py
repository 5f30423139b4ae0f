"""The model of a finished run that a training starts from."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
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
    def again(cls, folder: str, sha256: str | None) -> "Origin":
        """Read the run that a training started from; an ElmanError if it has changed."""
        if not exists(Path(folder)):
            raise ElmanError(f"{folder} no longer exists: restore it to resume the training")
        origin = cls.read(folder)
        if origin.sha256 != sha256:
            raise ElmanError(f"{folder} has changed since the training began: restore it")
        return origin

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that the run determines: its architecture, and whether it reads lines."""
        fixed = {name: value for name, value in self.arch.fields().items() if name != "vocab"}
        return fixed | {"lines": self.codec.lines}

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


def with_origin(given: Mapping[str, Any]) -> tuple[dict[str, Any], Origin | None]:
    """The given settings with those of the run to start from, and its model, if there is one.

    Raises an ElmanError for a setting that differs from the run's.
    """
    init = given.get("init")
    if not init or given.get("pairs"):  # for pairs, init is refused with a message
        return {**given}, None
    origin = Origin.read(init)
    fixed = origin.settings
    if given.get("text", TIME_MACHINE) == TIME_MACHINE:  # it has no lines, and another message
        del fixed["lines"]
    for name, value in fixed.items():
        if given.get(name, value) != value:
            raise ElmanError(
                f"{name} must be {value}, as in {init}, got {given[name]}: leave it out"
            )
    return {**fixed, **given}, origin
