"""Safetensors files. Their headers are checked before any tensor is loaded.

A file consists of the length of its header in 8 bytes, the header in JSON, and the concatenated
tensors (https://github.com/huggingface/safetensors#format). The file is opened once. Each tensor is
read directly into its array and written from it: the library would make two copies of all tensors.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.errors import ElmanError, printable
from elman.files import atomic, json_files, regular

MAX_HEADER_BYTES = 10**8  # as in safetensors
METADATA = "__metadata__"  # the key of a header that is not a tensor
MAX_DIMENSIONS = 32  # as in NumPy 1
ALIGNMENT = 8  # bytes of the first tensor, as in safetensors
CHUNK_VALUES = 1 << 20
DTYPES = {
    **{"F16": np.float16, "F32": np.float32, "F64": np.float64, "BOOL": np.bool_},
    **{"I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64},
    **{"U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64},
}
DTYPE_NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Tensor:
    """Shape and dtype of a tensor, from the header of a file."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Entry:
    """A tensor in the JSON of a header; offsets are in bytes from the end of the header."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


@dataclass(frozen=True)
class TensorFile:
    """An open file with a valid header; `tensors` are in the order of their bytes."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    file: BufferedReader  # positioned at the first tensor

    def load(self) -> dict[str, NDArray[Any]]:
        """Read all tensors; can be called once."""
        return {name: self._array(tensor) for name, tensor in self.tensors.items()}

    def _array(self, tensor: Tensor) -> NDArray[Any]:
        try:
            array = np.empty(tensor.shape, tensor.dtype.newbyteorder("<"))
        except ValueError as error:  # no elements, and dimensions that are too large
            raise _broken(self.path, error) from error
        raw = array.reshape(-1).view(np.uint8)
        if self.file.readinto(raw.data) != len(raw):
            raise _broken(self.path, "it was truncated while it was read")
        return array.astype(tensor.dtype, copy=False)


def write(path: Path, arrays: Arrays, metadata: dict[str, str] | None = None) -> None:
    """Write named arrays and metadata atomically."""
    # The largest numbers come first, so that all are aligned, as in the library's files.
    ordered = dict(sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])))
    header: dict[str, Any] = {METADATA: metadata} if metadata else {}
    end = 0
    for name, array in ordered.items():
        begin, end = end, end + array.nbytes
        header[name] = asdict(
            Entry(DTYPE_NAMES[array.dtype.newbyteorder("=")], [*array.shape], (begin, end))
        )
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % ALIGNMENT)
    parts = map(_bytes, ordered.values())
    atomic.write(path, chain((len(raw).to_bytes(8, "little"), raw), parts))


def _bytes(array: NDArray[Any]) -> memoryview:
    contiguous = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    return contiguous.reshape(-1).view(np.uint8).data


@contextmanager
def open_tensors(path: Path, max_bytes: int | None, max_header_bytes: int) -> Iterator[TensorFile]:
    """Open a safetensors file and check its header.

    Raises an ElmanError if the file has more than `max_bytes` (None for no limit), if its header
    has more than `max_header_bytes`, or if the header is invalid or does not match the file's size.
    A header that is too long is not parsed.
    """
    with regular.open_regular(path) as file:
        size, length = regular.size(file), int.from_bytes(file.read(8), "little")
        if length > min(max_header_bytes, size - 8):
            raise _broken(path, f"its header has {length} bytes")
        if max_bytes is not None and size > max_bytes:
            raise ElmanError(f"cannot read {path}: it has more than {max_bytes} bytes")
        entries, metadata = _header(path, file.read(length))
        yield TensorFile(path, _tensors(path, entries, size - 8 - length), metadata, file)


def _header(path: Path, raw: bytes) -> tuple[dict[str, Entry], dict[str, str]]:
    try:
        value = json_files.parse(raw, "its header")
        if not isinstance(value, dict) or not _are_strings(metadata := value.pop(METADATA, {})):
            raise ElmanError("its header must be an object, and its metadata an object of strings")
        "".join([*value, *metadata, *metadata.values()]).encode()
        entries = {name: json_files.record(Entry, value[name], printable(name)) for name in value}
    except UnicodeEncodeError as error:
        raise _broken(path, "its header has half a surrogate pair") from error
    except ElmanError as error:
        raise _broken(path, error) from error
    return entries, metadata


def _are_strings(metadata: Any) -> bool:
    return isinstance(metadata, dict) and all(isinstance(text, str) for text in metadata.values())


def _tensors(path: Path, entries: Mapping[str, Entry], size: int) -> dict[str, Tensor]:
    """Tensors of a header; they must fill the `size` bytes after it without gaps."""
    end, found = 0, {}
    for name in sorted(entries, key=lambda name: entries[name].data_offsets):
        entry = entries[name]
        if entry.dtype not in DTYPES:
            kind = printable(entry.dtype[:40])
            raise ElmanError(
                f"cannot read {path}: {printable(name)} has the dtype {kind}, unsupported by NumPy"
            )
        tensor = Tensor(tuple(entry.shape), np.dtype(DTYPES[entry.dtype]))
        if len(tensor.shape) > MAX_DIMENSIONS or min(tensor.shape, default=0) < 0:
            raise _broken(path, f"{printable(name)} has an invalid shape")
        begin, end = end, end + math.prod(tensor.shape) * tensor.dtype.itemsize
        if entry.data_offsets != (begin, end) or end > size:
            raise _broken(path, f"the bytes of {printable(name)} are not at the expected offsets")
        found[name] = tensor
    if end != size:
        raise _broken(path, f"its tensors have {end} bytes, but {size} follow the header")
    return found


def all_finite(array: NDArray[Any]) -> bool:
    """True if an array contains neither NaN nor infinity; checked in chunks to save memory."""
    flat = array.reshape(-1)
    starts = range(0, len(flat), CHUNK_VALUES)
    return array.dtype.kind != "f" or all(
        np.isfinite(flat[start : start + CHUNK_VALUES]).all() for start in starts
    )


def _broken(path: Path, reason: object) -> ElmanError:
    return ElmanError(f"cannot read {path}: it is not a complete safetensors file ({reason})")
