"""Random damage to JSON, safetensors, texts and tables, for `tests/robustness/hostile.py`."""

import json
import random
import struct
from typing import Any

import numpy as np

STORY = "Once upon a time, said he. \n" * 30
NUMBERS = [0, -1, 1, 2, 3, 7, 255, 1 << 16, 1 << 20, 1 << 31, 1 << 63, 10**30, -(10**40)]
FLOATS = [0.0, -0.0, 0.5, 1.0, 1.5, -2.5, 1e-320, 1e38, 1e308, float("nan"), float("inf")]
WORDS = ["", "x", "rnn", "lstm", "<unk>", "../..", "/etc/passwd", "\0", "\ud800", "\x1b[2J", "é"]
# What a large file repeats.
UNITS = [
    *[b"[[]],", b"[],", b'{"a":{}},', b'{"":[', b'"",', b'"abcdefgh",', b"1,", b",", b"["],
    *[b"\n", b"1,1,1,1,1\n", b'"\n', b"\\", b'\\"', b" ", "\U0001f600".encode()],
]
MANY_NAMES = ("{" + "".join(f'"{name}":1,' for name in range(70_000)) + '"69999":1}').encode()


class Chance(random.Random):
    """Random choices by which something is spoilt."""

    def value(self) -> Any:
        """Some value of JSON, of any type, often one at a border."""
        plain = [*NUMBERS, *FLOATS, *WORDS, None, True, False, [], {}]
        nested: list[Any] = [[1, [2]], {"a": {"b": []}}, ["a"] * 3, {"cell": "rnn"}]
        return self.choice(plain + nested)

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

    def json(self, value: Any) -> bytes:
        """A spoilt value as JSON, which may be spoilt too."""
        text = json.dumps(self.spoilt(value)).encode()
        return self.choice([text] * 8 + [self.broken_json(text)])

    def broken_json(self, text: bytes) -> bytes:
        """JSON as no writer makes it."""
        return self.choice(
            [
                *[b"", b"\xef\xbb\xbf" + text, text.decode().encode("utf-16"), b"\xff" + text],
                *[b"[" * 500_000, b"[" * 500 + b"]" * 500, b'{"a":' * 50_000, b"9" * 5000],
                *[text[:-1] + b',"clean":true,"clean":true}', text + text, text + b"\0"],
                *[b"1e999", b'"\\ud800"', b'"\\udfff\\ud800"', text.replace(b'"', b"'")],
                *[b" " * (1 << 21), b"[" + b"1," * (1 << 20) + b"1]", MANY_NAMES],
                self.nested(),
            ]
        )

    def large(self) -> bytes:
        """Bytes that take much more memory as values."""
        size = self.choice([1 << 18, 1 << 20, 1 << 20, 1 << 22, 1 << 25])
        unit = self.choice(UNITS)
        return self.choice([b"", b"[", b'{"a":[']) + unit * (size // len(unit))

    def nested(self) -> bytes:
        """A field with so many lists in each other as can hardly be, or just not."""
        name = self.choice(["clean", "format", "job", "architecture"])
        depth = self.choice([98, 99, 100, self.randrange(800, 1000)])
        return f'{{"{name}": {"[" * depth}{"]" * depth}}}'.encode()

    def raw(self, raw: bytes) -> bytes:
        """Bytes flipped, cut off, put in, or appended."""
        place = self.randrange(len(raw) + 1)
        some = self.randbytes(self.choice([1, 2, 8, 1000]))
        return self.choice(
            [
                *[raw[:place], raw[place:], raw[:place] + some + raw[place:], raw + some],
                *[raw[:place] + bytes([self.randrange(256)]) + raw[place + 1 :]] * 4,
                *[some, b"", raw + raw],
            ]
        )

    def safetensors(self, raw: bytes) -> bytes:
        """A safetensors file whose header says something else, or whose length of it does."""
        length = struct.unpack("<Q", raw[:8])[0]
        header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
        if self.random() < 0.2:
            claimed = self.choice([0, 1, length - 1, length + 1, 1 << 24, 1 << 40, (1 << 64) - 1])
            return struct.pack("<Q", claimed) + raw[8:]
        name = self.choice([name for name in header if name != "__metadata__"])
        tensor = header[name]
        what = self.choice(["shape", "dtype", "data_offsets", "json", "name", "numbers"])
        if what == "shape":
            tensor["shape"] = self.choice(
                [tensor["shape"][::-1], [*tensor["shape"], 1], [], [1 << 40, 1 << 40], self.value()]
            )
        elif what == "dtype":
            tensor["dtype"] = self.choice(["F64", "F16", "BF16", "I32", "F8_E4M3", "X", None])
        elif what == "data_offsets":
            begin, end = tensor["data_offsets"]
            tensor["data_offsets"] = self.choice(
                [[begin + 4, end], [end, begin], [begin, end + 4], [0, 1 << 62], [begin], []]
            )
        elif what == "name":
            header[self.choice([*WORDS, name.upper()])] = header.pop(name)
        elif what == "numbers":
            number = self.choice([np.nan, np.inf, 1e38, -3e38, 1e-40, 1e20])
            data = np.full(len(data) // 4 + 1, number, np.float32).tobytes()[: len(data)]
        else:
            header = self.spoilt(header)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data

    def text(self) -> bytes:
        """Bytes that are hardly a text."""
        good = STORY.encode()
        return self.choice(
            [
                *[self.raw(good), self.raw(good), good, b"", b"\xef\xbb\xbf" + good],
                *[b"\xef\xbb\xbf", good.replace(b" ", b"\0"), b"\0" * 999, b" \n\t\r" * 300],
                *[b"x" * 20_000, b"\xff" * 999, "é\u2028\u0085".encode() * 300, good[:9]],
                *[good.decode().encode("utf-16"), b"a\xed\xa0\x80b" * 300, b"\r\n" * 999],
                *[b"a" * 20_000, b" " * 20_000, " ".join(map(str, range(5000))).encode()],
                *["😀".encode() * 300, self.randbytes(2000), b"ab " * self.randrange(1, 300)],
            ]
        )

    def row(self, line: str) -> str:
        """A line of a history with a cell changed, removed or added."""
        cells = line.split(",")
        place = self.randrange(len(cells))
        cell = str(self.choice([*NUMBERS, *FLOATS, "", "x", "1_0", '"', "9" * 400, "y" * 200_000]))
        more = [[cell], [cell], [cell], [], [cells[place], cell]]
        return ",".join([*cells[:place], *self.choice(more), *cells[place + 1 :]])
