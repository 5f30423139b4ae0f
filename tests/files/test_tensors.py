"""Safetensors are read as the library reads them, from one open file, or refused in one line."""

import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import load, save

from elman.errors import ElmanError
from elman.files import tensors

names = st.text(st.characters(codec="utf-8"), max_size=9).filter(
    lambda name: name != "__metadata__"
)
values = st.sampled_from(list(tensors.DTYPES.values())).flatmap(
    lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0))
)


def read(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    with tensors.open_tensors(path, None, tensors.MAX_HEADER_BYTES) as file:
        return file.load(), file.metadata


def assert_equal(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Arrays are equal to the bit."""
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


@given(
    st.dictionaries(names, values, max_size=4), st.dictionaries(names, names, max_size=2), st.data()
)
def test_the_safetensors_library_reads_what_is_written_and_its_files_are_read(
    tmp_path_factory: pytest.TempPathFactory,
    arrays: dict[str, Any],
    texts: dict[str, str],
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.mktemp("it") / "file"
    turned = {
        name: array.T if data.draw(st.booleans()) else array for name, array in arrays.items()
    }
    tensors.write(path, turned, texts)
    assert_equal(load(path.read_bytes()), turned)
    assert read(path)[1] == texts
    if arrays:  # else the library writes no valid header
        path.write_bytes(save(arrays, texts))
        assert_equal(read(path)[0], load(path.read_bytes()))
        assert read(path)[1] == texts


def of(header: Any, data: bytes = bytes(8)) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(shape: Any = (2,), dtype: Any = "F32", begin: Any = 0, end: Any = 8) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "its header has 0 bytes"),
        (bytes(8), "cannot read its header as JSON"),
        (of({"a": entry()})[:-1], "the bytes of a are not at the expected offsets"),
        (of({"a": entry()}) + b"x", "its tensors have 8 bytes, but 9 follow the header"),
        (of([]), "its header must be an object"),
        (of({"a": 1}), "a: it must be an object with the fields dtype, shape, data_offsets"),
        (of({"a": entry(begin=4, end=12)}), "the bytes of a are not at the expected offsets"),
        (of({"a": entry(), "b": entry()}), "the bytes of b are not at the expected offsets"),
        (of({"a": entry([-2])}), "a has an invalid shape"),
        (of({"a": entry([1] * 100_000)}), "a has an invalid shape"),
        (of({"a": entry([1 << 62, 1 << 62])}), "the bytes of a are not at the expected offsets"),
        (of({"a": entry([0, 1 << 62], end=0)}, b""), "not a complete safetensors file"),
        (of({"a": entry(dtype="BF16")}), "a has the dtype BF16, unsupported by NumPy"),
        (of({"a": entry(dtype=None)}), "a: dtype must be a text"),
        (of({"__metadata__": {"a": 1}}), "its metadata an object of strings"),
        (of({"__metadata__": {"a": "\ud800"}}), "its header has half a surrogate pair"),
        (of(b'{"a": 1, "a": 1}'), 'the name "a" is duplicated'),
        (struct.pack("<Q", 1 << 40) + b"{}", "its header has 1099511627776 bytes"),
    ],
)
def test_an_invalid_header_is_refused(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(raw)
    with pytest.raises(ElmanError, match=message) as error:
        read(path)
    assert str(error.value).startswith(f"cannot read {path}: ")


def test_a_file_that_is_cut_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(save({"a": np.zeros(1 << 16)}))
    with tensors.open_tensors(path, None, tensors.MAX_HEADER_BYTES) as file:
        with path.open("r+b") as same:
            same.truncate(1 << 15)
        with pytest.raises(ElmanError, match="it was truncated while it was read"):
            file.load()


def test_arrays_are_written_without_a_copy_and_read_once(tmp_path: Path) -> None:
    arrays = {"a": np.zeros(1 << 23, np.uint8), "b": np.zeros(1 << 21, np.float32)}
    tracemalloc.start()
    tensors.write(tmp_path / "file", arrays, {"a": "b"})
    _, written = tracemalloc.get_traced_memory()
    found, _ = read(tmp_path / "file")
    assert all(map(tensors.all_finite, found.values()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert written < 1 << 20
    assert peak < 1.2 * (1 << 24)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_nan_and_infinity_are_found_anywhere(
    monkeypatch: pytest.MonkeyPatch, broken: float
) -> None:
    monkeypatch.setattr(tensors, "CHUNK_VALUES", 3)
    for place in range(8):
        array = np.zeros((2, 4))
        assert tensors.all_finite(array)
        array.flat[place] = broken
        assert not tensors.all_finite(array.T)
    assert tensors.all_finite(np.zeros((0, 3)))
