"""The seed document, and what a text written by a trained model must be."""

import re
from pathlib import Path

from elman.core import corpus
from elman.core.text import clean

SHARED = Path(__file__).parents[1].parent / "shared"
SEED = SHARED / "seed" / "rnn-concise.md"


def d2l_edition() -> str:
    """D2L's text, from beside the checkout."""
    return corpus.time_machine("d2l", root=str(SHARED / "data"))


def assert_grammatical_fragments(text: str) -> None:
    """Most words are the book's, and some stand together as they do in the book."""
    book = clean(corpus.time_machine())
    words = text.removeprefix("it has").split()[:-1]  # the last is cut
    known = [word for word in words if f" {word} " in book]
    assert len(known) >= 0.75 * len(words), text
    assert any(f" {' '.join(words[i : i + 3])} " in book for i in range(len(words) - 2)), text


def _python(section: str) -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))


def seed_steps() -> str:
    """The code of the seed's steps 3 to 6, which is the same for all frameworks."""
    page = SEED.read_text(encoding="utf-8")
    return _python(page[page.index("## Step 3") :])


def seed_program(title: str, framework: str, layer: str, model: str) -> str:
    """The seed's code for a framework, with only the import line changed.

    `title` heads its imports, `layer` and `model` the sections of steps 1 and 2.
    """
    page = SEED.read_text(encoding="utf-8")
    (imports,) = re.findall(rf"(# For {title}\n.*?)(?:\n\n|\n```)", page, re.DOTALL)
    sections = (
        _python(re.search(rf"### {heading}\n(.*?)(?=\n##)", page, re.DOTALL)[1])  # type: ignore[index]
        for heading in (layer, model)
    )
    program = "\n".join([imports, *sections, f"framework = '{framework}'", seed_steps()])
    assert program.count("from d2l import") == 1
    return program.replace("from d2l import", "from elman import")
