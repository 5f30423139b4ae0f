"""The examples of README and docs, as a reader would copy them."""

import re
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXPORTS = "export.md"  # whose examples need onnxruntime, and have a test beside those of exports
SERVING = "serving.md"  # whose examples need a server
OVERVIEW = "commands.md"  # whose commands have a test beside those of README
BOOK = "from-d2l.md"  # whose examples are for a framework each, and have a test beside theirs
# References of modules, whose examples need the module's framework and have a test beside theirs.
MODULES = {
    name: ROOT / "docs" / "reference" / f"{name}.md"
    for name in ("torch", "tensorflow", "jax", "mxnet")
}
CELL = "OptimizedLSTMCell"  # in the one example that is for Flax
NOT_RUN = "<!-- not run: "  # on the line before a block, with the reason; readers do not see it
BLOCK = re.compile(
    r"(?:^ *(?P<mark><!-- [^\n]*)\n)?^ *```(?P<language>\w+)\n(?P<code>.*?)^ *```$", re.M | re.S
)


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in a language that can be run."""
    return [
        dedent(found["code"])
        for found in BLOCK.finditer(page.read_text("utf-8"))
        if found["language"] == language and not (found["mark"] or "").startswith(NOT_RUN)
    ]


def smaller(train: Callable[..., Any]) -> Callable[..., Any]:
    """`elman.train` as it trains small models for an epoch."""

    def call(*texts: Any, minutes: float | None = None, **options: Any) -> Any:
        sizes = {} if "init" in options else {"hidden": 8}
        small = {**options, **sizes, "epochs": 1, "framework": "numpy"}
        return train(*texts, **small)

    return call


def needs_torch(page: Path) -> bool:
    """True if the examples of a page are for PyTorch."""
    if page.name == BOOK or page in MODULES.values():
        return False
    return any("torch" in block for block in blocks(page, "python"))


def commands(page: Path) -> list[str]:
    """The lines of the command line, in blocks and in running text."""
    found = [(each["language"], each["code"]) for each in BLOCK.finditer(page.read_text("utf-8"))]
    bash = "".join(code for language, code in found if language == "bash")
    typed = bash.replace("\\\n", " ").splitlines()  # a backslash continues a line
    shown = "".join(code for language, code in found if language == "console").splitlines()
    typed += [line.removeprefix("$ ") for line in shown if line.startswith("$ ")]
    fenced = [part.strip() for line in typed for part in re.split(r"&&|\| ", line)]
    text = BLOCK.sub("", page.read_text("utf-8"))
    inline = [" ".join(words.split()) for words in re.findall(r"`([^`]+)`", text)]
    return [line for line in (*fenced, *inline) if line.startswith("elman ")]
