"""A page that runs a trained model in the browser: one HTML file without requests."""

import base64
import html
import json
import logging
import math
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from elman import numpy as specification
from elman.errors import ElmanError, printable
from elman.files import atomic
from elman.inference.language_model import check_finite
from elman.inference.sampling import Sampler, softmax
from elman.model.cells import CELLS
from elman.model.options import precision_in
from elman.model.weights import Architecture, Weights, checked, count
from elman.runs import records
from elman.runs import run as runs
from elman.text.codec import Codec
from elman.text.tokenizers import Units
from elman.text.vocab import UNKNOWN

SOURCES = Path(__file__).with_name("page")
UNITS = (Units.CHARACTERS, Units.BYTES, Units.MATCHES, Units.BYTE_PAIRS)  # in tokens.js
# Python's letters, digits and white space, for JavaScript.
CHARACTERS = {
    r"\w": r"\p{L}\p{N}_",
    r"\s": r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
}
SCRIPTS = ("model.js", "tokens.js", "reading.js", "view.js", "main.js")
MAX_BYTES = 64 << 20  # of all weights
TEXTS, TOKENS = 16, 64  # generated to compare probabilities
TOLERANCE = 1e-3  # of a probability
MAX_HALF = 65504.0  # the largest number of half precision

log = logging.getLogger("elman")


def write(run: Path, out: Path) -> None:
    """Write the page of a run's model."""
    with atomic.make_parents(out):
        atomic.write(out, page(run).encode())


def page(run: Path) -> str:
    """The page of a run's model; an ElmanError if the model is too large for one.

    Its weights are in half precision if that hardly changes the probabilities.
    """
    _check(runs.read_config(run).architecture)
    arch, values, codec, recorded = runs.read(run)
    precision_in("a page", recorded)
    stored = smallest(arch, checked(values, arch), codec)
    script = "\n".join(map(_source, SCRIPTS))
    parts = _style("style.css") | {
        "name": _shown(run.resolve().name),
        "facts": html.escape(_facts(arch, codec.tokenizer.name)),
        "script": script,
        "script_digest": _digest(script),
        "model": _embedded(_architecture(arch) | {"half": stored.half, "shapes": stored.shapes}),
        "codec": _embedded(_codec(codec)),
        "weights": base64.b64encode(stored.content).decode(),
    }
    return _filled("index.html", parts)


def _check(arch: Architecture) -> None:
    """Raise an ElmanError for a model that a page cannot run."""
    if arch.cell not in CELLS:
        raise ElmanError(
            f"a page requires a built-in cell, got {arch.cell}: export to onnx or torch"
        )
    check_size(arch)


def listing(models: Mapping[str, Path]) -> str:
    """A page with a link to `pages/NAME` for each model; `models` are runs by name."""
    links = [_link(name, runs.read_config(run)) for name, run in models.items()]
    return _filled("models.html", _style("style.css", "models.css") | {"models": "\n".join(links)})


def _link(name: str, config: records.Config) -> str:
    facts = html.escape(_facts(config.architecture, config.tokenizer))
    target = quote(name, safe="")
    return f'  <li><a href="pages/{target}"><b>{_shown(name)}</b><span>{facts}</span></a></li>'


def _shown(name: str) -> str:
    """A name as HTML. What cannot be displayed, such as bytes that are not UTF-8, is replaced."""
    return html.escape(printable(name))


def _filled(template: str, parts: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _source(template))


def _style(*names: str) -> dict[str, str]:
    style = "".join(map(_source, names))
    return {"style": style, "style_digest": _digest(style)}


def _source(name: str) -> str:
    return (SOURCES / name).read_text("utf-8")


def _digest(source: str) -> str:
    """Digest of a script or a style, in the form of a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(sha256(source.encode()).digest()).decode()}'"


def _embedded(value: Any) -> str:
    """JSON for a script element: it cannot end the element or begin a comment."""
    return json.dumps(value, separators=(",", ":")).replace("<", r"\u003c")


def _facts(arch: Architecture, tokenizer: str) -> str:
    layers = f"{arch.layers} layer{'s' * (arch.layers > 1)} of {arch.hidden:,} units"
    inputs = f"embedding of {arch.embedding:,}" if arch.embedding else "one-hot input"
    return f"{arch.cell} · {layers} · {inputs} · {arch.vocab:,} symbols ({tokenizer})"


def _architecture(arch: Architecture) -> dict[str, Any]:
    return {"cell": arch.cell, "hidden": arch.hidden, "layers": arch.layers, "vocab": arch.vocab}


def _codec(codec: Codec) -> dict[str, Any]:
    """Tokens, and how to split a text into them. Byte tokens have one character for each byte."""
    tokenizer, tokens, unknown = codec.tokenizer, codec.vocab.idx_to_token, codec.vocab.unk
    tokenizer.require_units(UNITS, "a page")
    of_bytes = tokenizer.has_byte_tokens
    start = codec.border
    return {
        "units": tokenizer.units,
        "pattern": _in_javascript(tokenizer.pattern),
        "clean": codec.clean,
        "lines": codec.lines,
        "start": start[0] if start else int(unknown == 0),
        "unknown": unknown,
        "tokens": [tokenizer.raw(each).decode("latin-1") for each in tokens]
        if of_bytes
        else tokens,
        "spellings": list(map(codec.spelling, range(len(tokens)))),
        "byteIds": _byte_ids(codec) if of_bytes else [],
        "merges": _merges(codec) if tokenizer.model else [],
    }


def _in_javascript(pattern: str) -> str:
    """A Python regular expression in JavaScript, with the same words and white space."""
    parts = re.split(r"(\[[^]]*\])", pattern)
    for place, part in enumerate(parts):
        for sign, characters in CHARACTERS.items():
            if not part.startswith("["):
                part = part.replace(sign.upper(), f"[^{characters}]")
                characters = f"[{characters}]"
            part = part.replace(sign, characters)
        parts[place] = part
    return "".join(parts)


def _byte_ids(codec: Codec) -> list[int]:
    """Id of the token of each byte."""
    known = (
        (token, index) for token, index in codec.vocab.token_to_idx.items() if token != UNKNOWN
    )
    ids = {codec.tokenizer.raw(token): index for token, index in known}
    return [ids.get(bytes([byte]), codec.vocab.unk) for byte in range(256)]


def _merges(codec: Codec) -> list[int]:
    """Ids of the two tokens of each merge, and of the merged token, in order of the merges."""
    pairs = json.loads(codec.tokenizer.model)["model"]["merges"]
    return [codec.vocab[token] for one, two in pairs for token in (one, two, one + two)]


class Stored(NamedTuple):
    """Weights as concatenated bytes, little-endian, in half or single precision."""

    half: bool
    shapes: dict[str, tuple[int, ...]]
    content: bytes


def check_size(arch: Architecture, bytes_per_weight: int = 2) -> None:
    """Raise an ElmanError if the weights take more than MAX_BYTES."""
    size = bytes_per_weight * count(arch)
    if size > MAX_BYTES:
        precision, got = "half" if bytes_per_weight == 2 else "single", math.ceil(size / 2**20)
        raise ElmanError(
            f"a page must have {MAX_BYTES >> 20} MiB of weights or fewer, got {got} in {precision} "
            "precision: train a model with fewer hidden units or symbols"
        )


def smallest(arch: Architecture, values: Weights, codec: Codec) -> Stored:
    """Weights in half precision, or in single if probabilities change by more than TOLERANCE."""
    single = {name: value.astype("<f4") for name, value in values.items()}
    half = {name: value.clip(-MAX_HALF, MAX_HALF).astype("<f2") for name, value in values.items()}
    change = _change(arch, single, half, codec)
    fits = change <= TOLERANCE
    if not fits:
        check_size(arch, 4)
        log.info("weights in single precision: half precision changes odds by up to %.2g", change)
    stored = half if fits else single
    content = b"".join(value.tobytes() for value in stored.values())
    return Stored(fits, {name: value.shape for name, value in stored.items()}, content)


def _change(arch: Architecture, single: Weights, half: Weights, codec: Codec) -> float:
    """Largest difference in probability, in texts written by the model itself."""
    exact, rounded = specification.build(arch, single), specification.build(arch, half)
    sampler, rng = Sampler(excluded=(codec.vocab.unk,)), np.random.default_rng(0)
    ids = np.arange(TEXTS)[:, None] * arch.vocab // TEXTS  # (texts, 1)
    state = rounded_state = None
    changes = []
    for _ in range(TOKENS):
        logits, state = exact.step(ids, state)  # (texts, 1, vocab)
        rounded_logits, rounded_state = rounded.step(ids, rounded_state)
        check_finite(logits)
        changes.append(np.abs(softmax(logits) - softmax(rounded_logits)).max())
        ids = np.array([[sampler(row, rng)] for row in logits[:, -1]])
    return float(np.max(changes))  # NaN if there is one
