"""The examples of README and docs, as a reader would copy them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXPORTS = "export.md"  # whose examples need onnxruntime, and have a test beside those of exports
SERVING = "serving.md"  # whose examples need a server
CELL = "OptimizedLSTMCell"  # in the one example that is for Flax


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in a language."""
    found = re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    return [str(block) for block in found]


def needs_torch(page: Path) -> bool:
    """True if the examples of a page are for PyTorch."""
    return any("torch" in block for block in blocks(page, "python"))


def commands(page: Path) -> list[str]:
    """The lines of the command line, in blocks and in running text."""
    lines = "\n".join(blocks(page, "bash")).splitlines()
    fenced = [part.strip() for line in lines for part in line.split("&&")]
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    inline = [" ".join(words.split()) for words in re.findall(r"`([^`]+)`", text)]
    return [line for line in (*fenced, *inline) if line.startswith("elman ")]
