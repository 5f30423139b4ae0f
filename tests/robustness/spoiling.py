"""Random damage to files of any format, for `tests/robustness/hostile.py`."""

import json
import os
import random
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from elman.training import checkpoint

STORY = "Once upon a time, said he. \n" * 30
NUMBERS = [0, -1, 1, 2, 3, 7, 255, 1 << 16, 1 << 20, 1 << 31, 1 << 63, 10**30, -(10**40)]
FLOATS = [0.0, -0.0, 0.5, 1.0, 1.5, -2.5, 1e-320, 1e38, 1e308, float("nan"), float("inf")]
WORDS = ["", "x", "rnn", "lstm", "<unk>", "../..", "/etc/passwd", "\0", "\ud800", "\x1b[2J", "é"]
# What a large file repeats.
UNITS = [b"[[]],", b'{"a":{}},', b'{"":[', b'"",', b"1,", b"[", b"\n", b'"\n', b"\\", b" "]


class Chance(random.Random):
    """Random choices by which something is spoilt."""

    def spoil(self, path: Path) -> None:
        """Spoil a file as its format can be, or as any file can."""
        raw, name = path.read_bytes(), path.suffix
        if b'"trainer_state"' in raw and self.random() < 0.7:
            name = "a checkpoint"
        ways = {".json": self.json, ".csv": self.table, ".safetensors": self.header}
        ways |= {"a checkpoint": self.state, ".txt": self.text}
        others = [self.raw] * 2 + [self.text if name == ".txt" else self.large, None]
        way = self.choice([ways.get(name, self.raw)] * 7 + others)
        if way is None:  # a text may be as large as it likes
            self.replace(path, () if name == ".txt" else (1 << 33, 1 << 40))
        else:
            path.write_bytes(way(raw))

    def replace(self, path: Path, sizes: Sequence[int]) -> None:
        """Remove a file, or put there no regular file, or one of these sizes."""
        path.unlink()
        self.choice(
            [
                lambda: None,
                path.mkdir,
                lambda: os.mkfifo(path),
                *(lambda to=to: path.symlink_to(to) for to in ("/dev/zero", path, "/etc/passwd")),
                *(lambda size=size: sparse(path, size) for size in sizes),
            ]
        )()

    def value(self) -> Any:
        """Some value of JSON, of any type, often one at a border."""
        nested: list[Any] = [[1, [2]], {"a": {"b": []}}, ["a"] * 3, {"cell": "rnn"}]
        return self.choice([*NUMBERS, *FLOATS, *WORDS, None, True, False, [], {}, *nested])

    def spoilt(self, value: Any) -> Any:
        """A value of JSON with one place changed."""
        if isinstance(value, dict) and value and self.random() < 0.85:
            name = self.choice(list(value))
            what = self.choice([*["inside"] * 7, "remove", "add", "rename"])
            kept = {key: item for key, item in value.items() if what == "add" or key != name}
            if what == "inside":
                kept[name] = self.spoilt(value[name])
            elif what == "add":
                kept[self.choice([*WORDS, "extra"])] = self.value()
            elif what == "rename":
                kept[self.choice([name.upper(), name + " ", *WORDS])] = value[name]
            return kept
        if isinstance(value, list) and value and self.random() < 0.85:
            place = self.randrange(len(value))
            inside = [self.spoilt(value[place])] if self.random() < 0.7 else []
            more = self.choice([[], [], [], [value[place]], [self.value()]])
            return [*value[:place], *inside, *more, *value[place + 1 :]]
        alike = [other for other in (*NUMBERS, *FLOATS, *WORDS) if type(other) is type(value)]
        return self.choice(alike) if alike and self.random() < 0.5 else self.value()

    def json(self, raw: bytes) -> bytes:
        """JSON with a place changed, or as no writer makes it."""
        text = json.dumps(self.spoilt(json.loads(raw))).encode()
        depth = self.choice([98, 99, 100, self.randrange(800, 1000)])
        broken = [
            *[b"", b"\xef\xbb\xbf" + text, text.decode().encode("utf-16"), b"\xff" + text],
            *[b"[" * 500_000, b'{"a":' * 50_000, b"9" * 5000, b" " * (1 << 21), b"1e999"],
            *[text[:-1] + b',"clean":true,"clean":true}', text + text, text + b"\0"],
            *[b'"\\ud800"', b'"\\udfff\\ud800"', text.replace(b'"', b"'")],
            f'{{"clean": {"[" * depth}{"]" * depth}}}'.encode(),
        ]
        return self.choice([text] * 2 * len(broken) + broken)

    def large(self, raw: bytes) -> bytes:
        """Bytes that take much more memory as values, alone or after those of the file."""
        unit = self.choice(UNITS)
        some = unit * (self.choice([1 << 18, 1 << 20, 1 << 22, 1 << 25]) // len(unit))
        return self.choice([some, b"[" + some, raw + some, struct.pack("<Q", len(some)) + some])

    def raw(self, raw: bytes) -> bytes:
        """Bytes flipped, cut off, put in, or appended."""
        place = self.randrange(len(raw) + 1)
        some = self.randbytes(self.choice([1, 2, 8, 1000]))
        flipped = raw[:place] + bytes([self.randrange(256)]) + raw[place + 1 :]
        cut = [raw[:place], raw[place:], raw[:place] + some + raw[place:], raw + some]
        return self.choice([*cut, *[flipped] * 4, some, b"", raw + raw])

    def header(self, raw: bytes) -> bytes:
        """A safetensors file whose header says something else, or whose length of it does."""
        length = struct.unpack("<Q", raw[:8])[0]
        header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
        if self.random() < 0.2:
            claimed = self.choice([0, 1, length - 1, length + 1, 1 << 24, 1 << 40, (1 << 64) - 1])
            return struct.pack("<Q", claimed) + raw[8:]
        if self.random() < 0.2:
            number = self.choice([np.nan, np.inf, 1e38, -3e38, 1e-40, 1e20])
            data = np.full(len(data) // 4 + 1, number, np.float32).tobytes()[: len(data)]
        else:
            header = self.spoilt(header)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data

    def state(self, raw: bytes) -> bytes:
        """A checkpoint that says, or has, something else, signed as its writer would."""
        arrays, length = load(raw), struct.unpack("<Q", raw[:8])[0]
        text = json.loads(raw[8 : 8 + length])["__metadata__"]["trainer_state"].encode()
        if self.random() < 0.6:
            text = self.choice([self.json] * 9 + [self.large])(text)
        else:
            array = arrays.pop(name := self.choice(list(arrays)))
            other = [array[..., None], array.astype(np.float64), array.astype(np.int8), array * 0]
            other += [np.frombuffer(b'{"state": 1}', np.uint8), array.astype(np.float32) - 9]
            if self.random() < 0.8:
                arrays[self.choice([name, name, name, "x", "generator"])] = self.choice(other)
        arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        state = text.decode(errors="replace")
        return save(arrays, {"trainer_state": state, "digest": checkpoint._digest(arrays, state)})

    def table(self, raw: bytes) -> bytes:
        """A history with a cell changed, removed or added, or with other lines."""
        lines = raw.decode().splitlines()
        line = self.randrange(len(lines))
        cells = lines[line].split(",")
        place = self.randrange(len(cells))
        cell = str(self.choice([*NUMBERS, *FLOATS, "", "x", "1_0", '"', "9" * 400, "y" * 200_000]))
        more = self.choice([[cell], [cell], [cell], [], [cells[place], cell]])
        lines[line] = ",".join([*cells[:place], *more, *cells[place + 1 :]])
        kept = self.choice([lines, lines, lines, lines[:line], lines[line:], lines + lines])
        return ("\n".join(kept) + self.choice(["\n", "", "\n\n"])).encode()

    def text(self, raw: bytes) -> bytes:
        """Bytes that are hardly a text."""
        return self.choice(
            [
                *[self.raw(raw), raw, raw[:9], b"\xef\xbb\xbf" + raw, raw.replace(b" ", b"\0")],
                *[raw.decode().encode("utf-16"), b"a\xed\xa0\x80b" * 300, b" \n\t\r" * 300],
                *["é\u2028\u0085😀".encode() * 300, b"a" * 20_000, self.randbytes(2000)],
            ]
        )


def sparse(path: Path, size: int) -> None:
    """A file of zeros that takes no place on the disk."""
    with path.open("wb") as file:
        file.truncate(size)
