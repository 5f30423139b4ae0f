"""The seed document, and what a text written by a trained model must be."""

import re
from pathlib import Path
from typing import Any

from elman.core.data import corpus
from elman.core.model.language_model import generate
from elman.core.model.sampling import Sampler
from elman.core.text.tokenizers import clean
from elman.core.text.vocab import Vocab

SHARED = Path(__file__).parents[1].parent / "shared"
SEED = SHARED / "seed" / "rnn-concise.md"


def d2l_edition() -> str:
    """D2L's text, from beside the checkout."""
    return corpus.time_machine("d2l", root=str(SHARED / "data"))


def assert_writes_like_the_book(model: Any, vocab: Vocab) -> None:
    """Most words that a model draws are the book's, and some stand together as they do there.

    The likeliest text of a trained model may be a circle of two words, with one key and not with
    another; drawn at a low temperature it is long enough, and various enough, to tell. Of 16
    trainings in JAX 73 to 93 % of the words were the book's and 2 to 27 % of the threes in a row,
    and after two epochs 17 to 67 % and none.
    """
    book, prefix = clean(corpus.time_machine()), vocab[list("it has")]
    ids = generate(model, prefix, 1000, Sampler(temperature=0.3))
    words = "".join(vocab.to_tokens([*prefix, *ids])).split()[2:-1]  # the last is cut
    threes = [" ".join(words[i : i + 3]) for i in range(len(words) - 2)]
    assert _share_in(book, words) >= 2 / 3, words
    assert _share_in(book, threes) >= 0.01, words


def _share_in(book: str, parts: list[str]) -> float:
    return sum(f" {part} " in book for part in parts) / len(parts)


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
