"""What compressors make of the texts of the comparison of models.

    pip install pyppmd
    python benchmarks/quality_compressors.py [TEXT ...]

Prints nats per character of the validation part after the training part: the bytes that it adds to
a compressed file of both. xz is at its highest level, with a dictionary that holds the whole text.
PPMd, variant H, has the order of 3 to 12 that is best on the validation part, and as much memory
as it uses. Both read bytes, and a compressed file is an upper bound of the text's cost.
"""

import lzma
import math
import sys
from collections.abc import Callable

import pyppmd
from measuring import print_header, print_row
from quality import FOLDER
from quality_texts import TEXTS, parts

ORDERS = range(3, 13)
MEMORY = 1 << 30
FILTER = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 27}


def by_xz(data: bytes) -> int:
    """Size of some bytes after xz."""
    return len(lzma.compress(data, filters=[FILTER]))


def by_ppmd(data: bytes, order: int) -> int:
    """Size of some bytes after PPMd."""
    encoder = pyppmd.Ppmd7Encoder(order, MEMORY)
    return len(encoder.encode(data) + encoder.flush())


def added(training: str, validation: str, size: Callable[[bytes], int]) -> float:
    """Nats per character that the validation part adds to the compressed training part."""
    one, both = training.encode(), (training + validation).encode()
    return (size(both) - size(one)) * 8 * math.log(2) / len(validation)


def main() -> None:
    """Print a row for each text."""
    print_header(["text", "xz", "PPMd", "order"])
    for name in sys.argv[1:] or TEXTS:
        training, validation = (path.read_text(encoding="utf-8") for path in parts(name, FOLDER))
        found = {
            order: added(training, validation, lambda data, order=order: by_ppmd(data, order))
            for order in ORDERS
        }
        best = min(found, key=lambda order: found[order])
        xz = added(training, validation, by_xz)
        print_row([name, f"{xz:.3f}", f"{found[best]:.3f}", best])


if __name__ == "__main__":
    main()
