"""Safetensors files: what they hold is known, and can be refused, before it is loaded.

A file is the length of its header in 8 bytes, the header in JSON, and the tensors one after the
other (https://github.com/huggingface/safetensors#format). Both are read from a file that is opened
once, each tensor straight into its array.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as serialize

from elman.core.errors import ElmanError, printable
from elman.core.files import atomic, json_files, regular

MOST_HEADER = 10**8  # bytes: that of safetensors itself
TEXTS = "__metadata__"  # the name in a header under which it has no tensor
MOST_DIMENSIONS = 32  # as in NumPy 1
CHECKED = 1 << 20  # values at a time
DTYPES = {
    **{"F16": np.float16, "F32": np.float32, "F64": np.float64, "BOOL": np.bool_},
    **{"I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64},
    **{"U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64},
}
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Tensor:
    """Shape and type of a tensor, from the header of a file."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Entry:
    """A tensor in the JSON of a header; its bytes are counted from the header's end."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


@dataclass(frozen=True)
class Opened:
    """A file whose header is good: its tensors, in the order of their bytes, and its texts."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    file: BufferedReader  # where the first tensor begins

    def load(self) -> dict[str, NDArray[Any]]:
        """Read all tensors, once."""
        return {name: self._array(tensor) for name, tensor in self.tensors.items()}

    def _array(self, tensor: Tensor) -> NDArray[Any]:
        try:
            array = np.empty(tensor.shape, tensor.dtype.newbyteorder("<"))
        except ValueError as error:  # of no items, and yet too large
            raise _broken(self.path, error) from error
        raw = array.reshape(-1).view(np.uint8)
        if self.file.readinto(raw.data) != len(raw):
            raise _broken(self.path, "it was cut off while it was read")
        return array.astype(tensor.dtype, copy=False)


def write(path: Path, arrays: Arrays, metadata: dict[str, str] | None = None) -> None:
    """Write arrays and texts, each by name."""
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    atomic.write(path, serialize(contiguous, metadata))


@contextmanager
def opened(path: Path, most: int | None, most_header: int) -> Iterator[Opened]:
    """A file to load tensors from.

    An ElmanError tells where the file is not as long as its header says, has more than `most`
    bytes, if there is such a bound, or a header of more than `most_header`, which is not parsed.
    """
    with regular.open_regular(path) as file:
        size, length = regular.size(file), int.from_bytes(file.read(8), "little")
        if length > min(most_header, size - 8):
            raise _broken(path, f"its header has {length} bytes")
        if most is not None and size > most:
            raise ElmanError(f"cannot read {path}: it has more than {most} bytes")
        entries, metadata = _header(path, file.read(length))
        yield Opened(path, _tensors(path, entries, size - 8 - length), metadata, file)


def _header(path: Path, raw: bytes) -> tuple[dict[str, Entry], dict[str, str]]:
    try:
        value = json_files.parse(raw, "its header")
        if not isinstance(value, dict) or not _are_texts(metadata := value.pop(TEXTS, {})):
            raise ElmanError("its header must be an object, and its metadata one of texts")
        "".join([*value, *metadata, *metadata.values()]).encode()
        entries = {name: json_files.record(Entry, value[name], printable(name)) for name in value}
    except UnicodeEncodeError as error:
        raise _broken(path, "its header has half a surrogate pair") from error
    except ElmanError as error:
        raise _broken(path, error) from error
    return entries, metadata


def _are_texts(metadata: Any) -> bool:
    return isinstance(metadata, dict) and all(isinstance(text, str) for text in metadata.values())


def _tensors(path: Path, entries: Mapping[str, Entry], size: int) -> dict[str, Tensor]:
    """The tensors of a header, which must fill the bytes after it without gaps."""
    end, found = 0, {}
    for name in sorted(entries, key=lambda name: entries[name].data_offsets):
        entry = entries[name]
        if entry.dtype not in DTYPES:
            kind = printable(entry.dtype[:40])
            raise ElmanError(
                f"cannot read {path}: {printable(name)} is in {kind}, no type of NumPy"
            )
        tensor = Tensor(tuple(entry.shape), np.dtype(DTYPES[entry.dtype]))
        if len(tensor.shape) > MOST_DIMENSIONS or min(tensor.shape, default=0) < 0:
            raise _broken(path, f"{printable(name)} has a shape that no tensor has")
        begin, end = end, end + math.prod(tensor.shape) * tensor.dtype.itemsize
        if entry.data_offsets != (begin, end) or end > size:
            raise _broken(path, f"the bytes of {printable(name)} are not where they should be")
        found[name] = tensor
    if end != size:
        raise _broken(path, f"{size} bytes follow the header, and its tensors have {end}")
    return found


def is_finite(array: NDArray[Any]) -> bool:
    """True if an array has no infinity and no NaN; a part is looked through at a time."""
    flat = array.reshape(-1)
    return array.dtype.kind != "f" or all(
        np.isfinite(flat[start : start + CHECKED]).all() for start in range(0, len(flat), CHECKED)
    )


def _broken(path: Path, reason: object) -> ElmanError:
    return ElmanError(
        f"cannot read {path}: it is no safetensors file, or not all of one ({reason})"
    )
