"""The text of The Time Machine by H. G. Wells, in two editions."""

import hashlib
from importlib import resources
from pathlib import Path

from elman.errors import ElmanError, require_one_of
from elman.files.download import DATA_URL, download, sha1
from elman.files.paths import as_path, user_cache
from elman.valid_values import EDITIONS

D2L_SHA1 = "090b5e7e70c295757f55df93cb0a180b9691891a"
GUTENBERG_SHA256 = "531e11d1185ca4a86cb7acf60fd45943c1591945aea40f4f1c1ea577dfd6e2d9"


def time_machine(edition: str = "gutenberg", root: str = "../data") -> str:
    """Text of The Time Machine by H. G. Wells, as edited by Project Gutenberg (35) or by D2L.

    Gutenberg's edition is part of an installed package. D2L's edition is read from the folder
    `root` or the user's cache, or downloaded into the cache. The digest of either is verified.
    """
    require_one_of(EDITIONS, edition=edition)
    if edition == "gutenberg":
        return _gutenberg()
    found = as_path(root, "the folder of texts") / "timemachine.txt"
    if sha1(found) != D2L_SHA1:
        url = DATA_URL + "timemachine.txt"
        cache = str(user_cache())
        found = Path(download(url, cache, D2L_SHA1))
    return found.read_text(encoding="utf-8")


def _gutenberg() -> str:
    """Text of Project Gutenberg without license, title page and table of contents."""
    raw = (resources.files("word_text_counter") / "data" / "time_machine.txt").read_bytes()
    if hashlib.sha256(raw).hexdigest() != GUTENBERG_SHA256:
        raise ElmanError(
            "the installed word-text-counter must contain the expected bytes: reinstall it with "
            "pip install --force-reinstall 'word-text-counter==0.3.0'"
        )
    book = raw.decode("utf-8-sig").replace("\r\n", "\n")
    body = book[book.index("\n I.\n") : book.index("*** END OF THE PROJECT GUTENBERG EBOOK")]
    return body.strip() + "\n"
