"""Texts of the comparison of models, made from installed packages, without a network.

On Debian `apt-get install bible-kjv dict-gcide wamerican fortunes-de` installs them (bible-kjv has
the program that reads bible-kjv-text). The Time Machine is a part of elman, and the standard
library that of the interpreter. `HELD_OUT` needs dict-foldoc, dict-jargon and wngerman, and
`OTHER_ALPHABETS` fortunes-zh and manpages-ja.

The validation part is a file of its own, so that it has the same characters for every contender:
the last tenth of the characters, or of the lines where each is a sequence of its own.
"""

import gzip
import random
import subprocess
import sysconfig
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path

from elman.data.parts import part_ends
from elman.text.time_machine import time_machine

SHARES = (0.9, 0.1, 0.0)
LONGEST = 10_000_000  # characters; reading the rest of the dictionary would take minutes


def king_james() -> str:
    """The King James Bible, as the program `bible` prints it."""
    command = ["bible", "-l79", "Genesis1:1-Revelation22:21"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    return done.stdout.lstrip("\n")


def standard_library() -> str:
    """Sources of Python's standard library without its tests, sorted by path."""
    root = Path(sysconfig.get_paths()["stdlib"])
    sources = []
    for path in sorted(root.rglob("*.py")):
        if not {"test", "tests", "site-packages", "dist-packages"} & {
            *path.relative_to(root).parts
        }:
            with tokenize.open(path) as file:
                sources.append(file.read())
    return "".join(sources)


def of_dictionary(name: str) -> str:
    """The first characters of a dictionary in the format of dictd."""
    path = f"/usr/share/dictd/{name}.dict.dz"
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
        return file.read(LONGEST)


def german() -> str:
    """German quotations, by author."""
    return Path("/usr/share/games/fortunes/de/zitate").read_text(encoding="utf-8")


def chinese() -> str:
    """Chinese quotations and poems."""
    return Path("/usr/share/games/fortunes/chinese").read_text(encoding="utf-8")


def japanese() -> str:
    """Manual pages in Japanese, sorted by path."""
    pages = sorted(Path("/usr/share/man/ja").rglob("*.gz"))
    return "".join(
        gzip.open(page, "rt", encoding="utf-8", errors="replace").read() for page in pages
    )


def words(name: str) -> str:
    """Words of a list of /usr/share/dict in random order, one a line."""
    text = Path("/usr/share/dict", name).read_text(encoding="utf-8")
    shuffled = sorted(set(text.splitlines()))
    random.Random(0).shuffle(shuffled)
    return "".join(f"{word}\n" for word in shuffled)


@dataclass(frozen=True)
class Text:
    """A text of the comparison.

    - `kind`: short, long or lines; settings are searched for once for each.
    """

    kind: str
    make: Callable[[], str]


TEXTS = {
    "time-machine": Text("short", time_machine),
    "king-james": Text("long", king_james),
    "standard-library": Text("long", standard_library),
    # GNU Collaborative International Dictionary of English
    "dictionary": Text("long", partial(of_dictionary, "gcide")),
    "german": Text("long", german),
    "words": Text("lines", partial(words, "american-english")),
}

# Texts that no setting of the recipe was chosen with.
HELD_OUT = {
    "foldoc": Text("long", partial(of_dictionary, "foldoc")),  # of computing
    "jargon": Text("long", partial(of_dictionary, "jargon")),  # the Jargon File
    "german-words": Text("lines", partial(words, "ngerman")),
}

# Texts with thousands of distinct characters, on which the choice of tokens was measured.
OTHER_ALPHABETS = {
    "chinese": Text("long", chinese),
    "japanese": Text("long", japanese),
}


def split(text: str, by_line: bool) -> tuple[str, str]:
    """The training and the validation part of a text.

    That of lines begins with a line end, from which a stream predicts the first line as the others;
    those who read lines leave empty ones out. So all predict the same characters.
    """
    pieces = list(StringIO(text)) if by_line else text
    end, _ = part_ends(len(pieces), SHARES)
    return "".join(pieces[:end]), "\n" * by_line + "".join(pieces[end:])


def parts(name: str, folder: Path) -> tuple[Path, Path]:
    """Files of a text's training and validation part, made in `folder` unless they are there."""
    paths = folder / f"{name}.train.txt", folder / f"{name}.val.txt"
    if not all(path.exists() for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
        text = (TEXTS | HELD_OUT | OTHER_ALPHABETS)[name]
        made = split(text.make(), text.kind == "lines")
        for path, part in zip(paths, made, strict=True):
            path.write_text(part, encoding="utf-8", newline="")
    return paths
