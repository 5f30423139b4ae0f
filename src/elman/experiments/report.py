"""What a training shows: texts, lines or targets that its model writes, and results in words."""

import shlex
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from elman.book.data_sets import TimeMachine
from elman.data.sizes import shares_in_words
from elman.inference.language_model import generate
from elman.inference.sampling import Sampler
from elman.inference.translation import PairModel, warn_of_unknown
from elman.model.metrics import Evaluation, in_digits, perplexity
from elman.runs.results import place_in_words
from elman.text.codec import Codec
from elman.text.tokenizers import Ids
from elman.training.history import best_epoch

if TYPE_CHECKING:
    from elman.experiments.train import Training

SAMPLE_TOKENS, SAMPLE_LINES = 100, 5  # shown during training
SAMPLE_TEMPERATURE = 0.8  # as in elman generate
LAST_TOKENS, LAST_TEMPERATURE = 200, 0.5  # of the text that a report ends with
LEAST_SHARE = 0.00005  # of unknown tokens that is shown: 0.01%
LINES = 20  # that the next command writes
BOOKS_PREFIX = "it has"
PREFIX_SEARCH, PREFIX_TOKENS = 1 << 20, 64  # ids to search for a prefix; its maximum length
# Sources whose targets are measured after a training, and the edits that are computed for them.
MAX_MEASURED, MAX_EDITS = 1000, 3e7


class TextSamples:
    """Texts or lines by a model that is trained on some data of its framework."""

    def __init__(self, model: Any, data: Any, seed: int) -> None:
        self.model, self.data, self.codec = model, data, data.codec

    @property
    def prefix(self) -> list[int]:
        """Ids that samples begin with: of lines none, for the book "it has"."""
        if start := self.codec.start:
            return start  # type: ignore[no-any-return]
        if isinstance(self.data, TimeMachine):
            return self.codec.prefix_ids(BOOKS_PREFIX)  # type: ignore[no-any-return]
        return _first_words(self.data.train, self.codec)

    def one(self, tokens: int = 20, temperature: float = 0.0, seed: int = 0) -> str:
        """A text that begins with the first words of the training part, or one line.

        At temperature 0, each token is the most likely one.
        """
        return continued(self.model, self.codec, self.prefix, tokens, temperature, seed)

    def written(self, tokens: int = SAMPLE_TOKENS, temperature: float = SAMPLE_TEMPERATURE) -> str:
        """A text, or a few lines of a model of lines."""
        number = SAMPLE_LINES if self.codec.lines else 1
        return "\n".join(self.one(tokens, temperature, seed) for seed in range(number))

    def quality(self) -> dict[str, str]:
        """Measures besides the loss: none."""
        return {}

    def command(self, run: str) -> str:
        """Command that writes a text or new lines with the model of a run."""
        if self.codec.lines:
            return f"elman generate {run} --lines {LINES} --unique --new"
        prefix = self.codec.text(self.prefix).strip().split("\n")[-1].strip()
        words = f"{run} {shlex.quote(prefix if prefix.isprintable() and prefix else ' ')}"
        if run.startswith("-") or prefix.startswith("-"):  # which would be read as an option
            return f"elman generate --temperature {LAST_TEMPERATURE} -- {words}"
        return f"elman generate {words} --temperature {LAST_TEMPERATURE}"


class PairSamples:
    """Likeliest targets, by a model of pairs, of the sources that are held out for validation.

    - `held`: the held out pairs.
    - `drawn`: their sources, each once, in an order that the seed draws.
    """

    def __init__(self, model: Any, data: Any, seed: int) -> None:
        self.model, self.data = model, data
        self.held = data.texts.held_out
        sources, targets = zip(*self.held, strict=True)
        data.texts.tell_cut(data.num_steps)
        warn_of_unknown("validation sources", data.codec.source, sources)
        warn_of_unknown("validation targets", data.codec, targets)
        distinct = [*dict.fromkeys(sources)]
        order = np.random.default_rng(seed).permutation(len(distinct))
        self.drawn: list[str] = [distinct[n] for n in order.tolist()]

    def one(self, tokens: int = 20, temperature: float = 0.0, seed: int = 0) -> str:
        """The target of a source."""
        (target,) = self.model.predict(self.drawn[:1], self.data)
        return str(target)

    def written(self, tokens: int = SAMPLE_TOKENS, temperature: float = SAMPLE_TEMPERATURE) -> str:
        """A few sources with their targets."""
        sources = self.drawn[:SAMPLE_LINES]
        pairs = zip(sources, self.model.predict(sources, self.data), strict=True)
        return "\n".join(f"{source} -> {target}" for source, target in pairs)

    def quality(self) -> dict[str, str]:
        """Exact matches, error rates and BLEU on the held out pairs, or on some of them."""
        targets: dict[str, list[str]] = {}
        for source, target in self.held:
            targets.setdefault(source, []).append(target)
        edits = accumulate(max(map(len, targets[source])) ** 2 for source in self.drawn)
        number = max(1, sum(total <= MAX_EDITS for total in edits))
        measured = self.drawn[: min(number, MAX_MEASURED)]
        model = PairModel(self.model, self.data.codec, self.data.to_tensor)
        found = model.measured([(source, each) for source in measured for each in targets[source]])
        if len(measured) == len(self.drawn):
            return found.quality()
        return found.quality() | {"measured": f"{len(measured):,} of {len(self.drawn):,} sources"}

    def command(self, run: str) -> str:
        """Command that translates a source with the model of a run."""
        return f"elman translate {run} {shlex.quote(self.drawn[0])}"


def continued(
    model: Any, codec: Codec, prefix: list[int], tokens: int, temperature: float, seed: int
) -> str:
    """A text that begins with the ids of a prefix; a single line for a model of lines."""
    sampler = Sampler(temperature, excluded=(codec.vocab.unk,))
    ids = [*prefix, *generate(model, prefix, tokens, sampler, seed)]
    return codec.written(ids)


def _first_words(training: Ids, codec: Codec) -> list[int]:
    """First ids of a training part, up to the end of a word, without unknown symbols."""
    ids = training[:PREFIX_SEARCH]
    unk = codec.vocab.unk
    found: list[int] = ids[ids != unk][:PREFIX_TOKENS].tolist()
    texts = [codec.text(found[:number]) for number in range(1, len(found) + 1)]
    for number, (text, longer) in enumerate(pairwise(texts), 1):
        if (
            len(text) >= len(BOOKS_PREFIX)
            and not text[-1].isspace()
            and longer[len(text) :][:1].isspace()
        ):
            return found[:number]
    return found[: len(BOOKS_PREFIX)] or [int(unk == 0)]  # any id except the unknown symbol


def results_in_words(training: "Training", test: Evaluation | None) -> list[str]:
    """Lines with the results of a training and of its evaluation on the test part."""
    history = training.trainer.history
    validation = training.validation()
    best, last = best_epoch(history), history[-1]
    speeds = sorted(epoch.tokens_per_second for epoch in history)
    parts = {"validation": validation} if test is None else {"validation": validation, "test": test}
    shares = {"training": training.unknown_share}
    shares |= {part: found.unknown_share for part, found in parts.items()}
    unknown = []
    if max(shares.values()) >= LEAST_SHARE:
        unknown = [_line("unknown tokens", shares_in_words(shares))]
    quality = training.samples.quality()
    name, place = place_in_words(best, last.epoch, training.settings.by_time)
    return [
        f"{'':12}{'bits/char':>12}{'perplexity':>12}{'nats/token':>12}",
        _losses("training", training.training_bits(best.train_loss), best.train_loss),
        *(_losses(part, found.bits_per_character, found.loss) for part, found in parts.items()),
        "",
        *unknown,
        *map(_line, quality, quality.values()),
        _line(f"best {name}", place),
        _line("seconds", f"{last.seconds:.1f}"),
        _line("tokens per second", f"{speeds[len(speeds) // 2]:,.0f}"),
    ]


def _line(name: str, value: str) -> str:
    return f"{name:23}{value}"


def _losses(part: str, bits: float, loss: float) -> str:
    return f"{part:12}{bits:12.3f}{in_digits(perplexity(loss)):>12}{loss:12.4f}"
