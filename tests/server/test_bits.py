"""A character costs the same in every command, and as many bits as a sum of its parts says."""

import json
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tokenizers

import elman
from elman.inference.language_model import log_probabilities
from tests.server.conftest import serving

BOOK = "the time traveller for so it will be convenient to speak of him was expounding"
WORDS = BOOK.split()
TEXT = " ".join(WORDS[n * n % 14] + "s" * (n % 3 > 1) for n in range(1500))
HELD_OUT = " ".join(WORDS[n * n % 13] for n in range(60)) + " naïve 時間 zebra was it"


def tokens_of(run: Path, tokenizer: str, text: str) -> list[str]:
    """Tokens of a text: the library's for byte pairs; words have the space before them."""
    if tokenizer == "bpe":
        made = tokenizers.Tokenizer.from_file(str(run / "tokenizer.json"))
        return list(made.encode(text).tokens)
    return re.findall(r" ?\w+", text)


def spelling_of(vocab: list[str], token: str) -> float:
    """Nats to spell a word: its characters by their counts in the vocabulary, and its end."""
    known = [each for each in vocab if each != "<unk>"]
    counts = Counter("".join(known))
    total = sum(counts.values()) + len(known) + 2  # an end of each word and of this one, an escape
    costs = [
        math.log(total / counts[each]) if each in counts else math.log(total * 0x110000)
        for each in token
    ]
    return sum(costs) + math.log(total / (len(known) + 1))


@pytest.mark.parametrize(
    ("tokenizer", "options"), [("bpe", {"vocab_size": 290}), ("word", {"vocab_size": 20})]
)
def test_a_character_costs_the_same_in_every_command(
    tokenizer: str, options: dict[str, int], tmp_path: Path
) -> None:
    (tmp_path / "held-out.txt").write_text(HELD_OUT, encoding="utf-8", newline="")
    run = elman.train(
        [TEXT], val=str(tmp_path / "held-out.txt"), out=tmp_path / "run", recipe="book", epochs=1,
        tokenizer=tokenizer, batching="contiguous", batch_size=1, hidden=8, quiet=True,
        **options,  # type: ignore[arg-type]
    )  # fmt: skip
    folder = Path(run)
    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    tokens = tokens_of(folder, tokenizer, HELD_OUT)
    ids = [vocab.index(token) if token in vocab else vocab.index("<unk>") for token in tokens]
    unknown = [token for token in tokens[1:] if token not in vocab]
    assert bool(unknown) == (tokenizer == "word")
    logits, _ = elman.load(folder, framework="numpy").step(np.array([ids[:-1]]))
    nats = -log_probabilities(logits[0])[range(len(ids) - 1), ids[1:]].sum()
    spelled = sum(spelling_of(vocab, token) for token in unknown)
    first = len(tokens[0])  # no character that takes two bytes
    bits = (nats + spelled) / math.log(2) / (len(HELD_OUT) - first)

    compared = elman.compare(run, on=tmp_path / "held-out.txt").to_dict()
    found = {
        "train": run.results["val_bits_per_character"],
        "evaluate": elman.evaluate(run, tmp_path / "held-out.txt").bits_per_character,
        "compare": compared["on_bits_per_character"][0],
    }
    if tokenizer == "word":  # byte pairs of a line begin with the end of the one before
        found["score"] = elman.score(run, [HELD_OUT])[0].bits_per_character
    assert found == pytest.approx(dict.fromkeys(found, bits), rel=1e-5)
    with serving([folder]) as server, server.client() as client:
        (choice,) = client.completions.create(
            model="run", prompt=HELD_OUT, max_tokens=0, echo=True, logprobs=0
        ).choices
    assert choice.logprobs
    given = [each for each in choice.logprobs.token_logprobs or () if each is not None]
    assert (-sum(given), len(given)) == (pytest.approx(nats, rel=1e-5), len(ids) - 1)
