"""Safetensors files: what they hold is known, and can be refused, before it is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

from elman.core import disk
from elman.core.errors import ElmanError

MOST_HEADER = 10**8  # bytes: that of safetensors itself
DTYPES = {
    **{"F16": np.float16, "F32": np.float32, "F64": np.float64, "BOOL": np.bool_},
    **{"I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64},
    **{"U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64},
}
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Tensor:
    """What the header of a file says of a tensor."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def write(path: Path, arrays: Arrays, metadata: dict[str, str] | None = None) -> None:
    """Write arrays and texts, each by name."""
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    disk.write(path, serialize(contiguous, metadata))


def header(
    path: Path, most: int | None, most_header: int
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, none loaded, and the texts beside them.

    An ElmanError tells where the file is not as long as its header says, has more than `most`
    bytes, if there is such a bound, or a header of more than `most_header`, which is not parsed.
    """
    with disk.opened(path) as file:
        size, length = disk.size(file), int.from_bytes(file.read(8), "little")
    if length > min(most_header, size):
        raise _broken(path, f"its header has {length} bytes")
    if most is not None and size > most:
        raise ElmanError(f"cannot read {path}: it has more than {most} bytes")
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {
                name: Tensor(tuple(part.get_shape()), _dtype(path, name, part.get_dtype()))
                for name, part in slices.items()
            }
            return found, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _broken(path, error) from error


def _dtype(path: Path, name: str, kind: str) -> np.dtype[Any]:
    if kind not in DTYPES:
        raise ElmanError(f"cannot read {path}: {name!r} is in {kind}, which NumPy has not")
    return np.dtype(DTYPES[kind])


def load(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a file whose header is good."""
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _broken(path, error) from error


def _broken(path: Path, reason: object) -> ElmanError:
    why = str(reason).removeprefix("Error while deserializing header: ")
    return ElmanError(f"cannot read {path}: it is no safetensors file, or not all of one ({why})")
