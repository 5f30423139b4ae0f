"""A training on pairs of texts."""

import logging
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from elman.data.pair_texts import Pair, PairTexts
from elman.experiments.choice import Choice
from elman.experiments.train import SAMPLE_LINES, SAMPLE_TEMPERATURE, SAMPLE_TOKENS, Training
from elman.inference.translation import PairModel, warn_of_unknown
from elman.model import weights
from elman.model.metrics import Evaluation, bits_per_character
from elman.model.options import SINGLE
from elman.model.weights import PAIR_CELL, Architecture, Weights
from elman.runs import run
from elman.runs.settings import Settings
from elman.text.codec import PADDING, Codec
from elman.training.callback import Callback
from elman.training.checkpoint import Checkpoint
from elman.training.schedule import Learned
from elman.valid_values import ADDITIVE

log = logging.getLogger("elman")
# Sources whose targets are measured after a training, and the edits that are computed for them.
MAX_MEASURED, MAX_EDITS = 1000, 3e7


class PairTraining(Training):
    """A training of an encoder-decoder. It validates on pairs, and has no test part."""

    def _read(self, choice: Choice) -> Any:
        """Data set of the framework."""
        assert choice.pairs is not None
        settings, texts = choice.settings, choice.pairs
        _tell_cut(texts, settings.seq_len)
        codec = texts.codec(settings.seq_len)
        self.held = _held_out(texts)
        sources, targets = zip(*self.held, strict=True)
        warn_of_unknown("validation sources", codec.source, sources)
        warn_of_unknown("validation targets", codec, targets)
        of = choice.framework.PairsFile.of
        whole_sources = settings.attention != ADDITIVE
        return of(texts, codec, settings.batch_size, settings.seed, whole_sources)

    def fit(self, *callbacks: Callback, resume: Checkpoint | None = None) -> None:
        """Train as a language model, until nothing is left to learn."""
        super().fit(Learned(), *callbacks, resume=resume)

    def _model(self, values: Weights | None) -> Any:
        """The model with initial weights."""
        settings = self.settings
        arch = architecture(settings, self.codec)
        weights.require_memory(arch, 2 * (2 + settings.numbers))
        initial = weights.initial(arch, settings.seed)
        return self.framework.build_seq2seq(
            arch,
            initial,
            tgt_pad=self.codec.vocab[PADDING],
            lr=settings.lr,
            dropout=settings.dropout,
            seed=settings.seed,
        )

    def examples(self) -> list[str]:
        """A few different sources of the validation part."""
        return self._drawn()[:SAMPLE_LINES]

    def _drawn(self) -> list[str]:
        """The sources of the validation part, each once, in an order that the seed draws."""
        sources = [*dict.fromkeys(source for source, _ in self.held)]
        order = np.random.default_rng(self.settings.seed).permutation(len(sources))
        return [sources[n] for n in order.tolist()]

    def quality(self) -> dict[str, str]:
        """Exact matches, error rates and BLEU on the validation part, or on sources drawn of it."""
        targets: dict[str, list[str]] = {}
        for source, target in self.held:
            targets.setdefault(source, []).append(target)
        drawn = self._drawn()
        edits = accumulate(max(map(len, targets[source])) ** 2 for source in drawn)
        number = max(1, sum(total <= MAX_EDITS for total in edits))
        measured = drawn[: min(number, MAX_MEASURED)]
        model = PairModel(self.model, self.codec, self.data.to_tensor)
        found = model.measured([(source, each) for source in measured for each in targets[source]])
        if len(measured) == len(drawn):
            return found.quality()
        return found.quality() | {"measured": f"{len(measured):,} of {len(drawn):,} sources"}

    def written(self, tokens: int = SAMPLE_TOKENS, temperature: float = SAMPLE_TEMPERATURE) -> str:
        """A few sources of the validation part, with the model's likeliest targets."""
        sources = self.examples()
        targets = self.model.predict(sources, self.data)
        pairs = zip(sources, targets, strict=True)
        return "\n".join(f"{source} -> {target}" for source, target in pairs)

    def sample(self, tokens: int = 20, temperature: float = 0.0, seed: int = 0) -> str:
        """The likeliest target of a source of the validation part."""
        (target,) = self.model.predict(self.examples()[:1], self.data)
        return str(target)

    def training_bits(self, loss: float) -> float:
        """Bits per character of the targets for training, for a loss in nats per token."""
        return bits_per_character(loss, self.data.trained())

    @property
    def unknown_share(self) -> float:
        """Share of unknown tokens in the training part: none, since it is in the vocabulary."""
        return 0.0

    def test(self) -> tuple[Evaluation, float] | None:
        """None: there is no test part."""
        return None

    def write(self, folder: Path) -> None:
        """Fill `folder` with the run, except for the curves."""
        values = self.framework.seq2seq_weights(self.model)
        arch = architecture(self.settings, self.codec)
        history = self.trainer.history
        run.write(folder, arch, values, self.codec, SINGLE, self._record(), history)


def architecture(settings: Settings, codec: Codec) -> Architecture:
    """Architecture of a model with these settings."""
    attention = settings.attention == ADDITIVE
    sizes = len(codec.vocab), settings.hidden, settings.layers, settings.embedding
    source = len(codec.source.vocab)
    return Architecture(PAIR_CELL, *sizes, source_vocab=source, attention=attention)


def _held_out(texts: PairTexts) -> list[Pair]:
    """The pairs of the validation part as texts."""
    sources, targets = (
        [used.join(tokens[:-1]) for tokens in side[texts.num_train :]]  # without their ends
        for used, side in zip(texts.tokenizers, (texts.sources, texts.targets), strict=True)
    )
    return [*zip(sources, targets, strict=True)]


def _tell_cut(texts: PairTexts, steps: int) -> None:
    """Warn if texts are longer than training and validation read."""
    if number := int((texts.lengths > steps).any(0).sum()):
        log.warning(
            "%s of %s pairs are cut after %d tokens: use a sequence length of %d to read all",
            *(f"{number:,}", f"{len(texts.sources):,}", steps, texts.longest),
        )
