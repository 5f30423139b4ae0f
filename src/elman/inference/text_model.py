"""Methods of every language model for texts: score, predict, write, read."""

import math
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.errors import ElmanError, require_at_least, require_keywords, shortened
from elman.inference import language_model
from elman.inference.evaluation import evaluate_on
from elman.inference.scoring import ScoredLines, score_lines
from elman.inference.writing import write
from elman.inference.writing_options import Writing
from elman.model.metrics import Evaluation, in_digits
from elman.model.options import ModelOptions
from elman.model.registry import cell_named
from elman.model.weights import Architecture, in_words
from elman.text import in_memory
from elman.text.codec import Codec
from elman.text.in_memory import TextLike
from elman.text.lines import LineReader
from elman.text.vocab import Vocab
from elman.user_classes import LayerAttributes, ModelAttributes


class NextToken(NamedTuple):
    """A token that may come next: its id, its text, and its log-probability in nats."""

    id: int
    text: str
    log_probability: float


class Score(NamedTuple):
    """The log-probability of a text under a model.

    - `log_probability`: of the text and its end, in nats; unknown tokens are one symbol.
    - `bits_per_character`: including spelling; NaN if nothing is predicted.
    - `characters`: the number of predicted characters, including the end.
    - `tokens`: the predicted tokens, including the end, each with its log-probability.
    """

    log_probability: float
    bits_per_character: float
    characters: int
    tokens: list[NextToken]

    def __repr__(self) -> str:
        bits = f"{self.bits_per_character:.3f} bits per character"
        return f"Score({self.log_probability:.3f} nats, {bits}, {len(self.tokens)} tokens)"


class TextModel:
    r"""A language model with a `codec`, as returned by `elman.load`: the same in every module.

        model = elman.load("runs/my-text", framework="torch")
        model.score(["a line", "another"])[0].bits_per_character
        model.next("it ha", top=3)
        model.generate("it has", tokens=100, stop=("\n",), n=2)
        model.hidden_states("it has")

    A model that was trained on a text has a codec, too. Invalid arguments raise an ElmanError.
    """

    options = ModelOptions()

    def __repr__(self: Any) -> str:
        """Sizes, tokens and precision on a line, before the framework's own tree of modules.

        Sizes are omitted if the layers are the user's own.
        """
        framework: str = super().__repr__()
        sizes = _summary(self)
        if sizes is None:
            return framework
        line = f"{type(self).__name__}: {sizes}"
        return f"{line}\n{framework}" if "\n" in framework else line

    def score(self: Any, texts: Iterable[str]) -> list[Score]:
        """Score each text as a separate line, as `elman score` does. Many are read together."""
        if isinstance(texts, str):
            raise ElmanError(f"texts to score must be a list of str, got {shortened(texts)}")
        in_memory.check_lines(texts)
        lines, codec = [*in_memory.strings(texts)], codec_of(self)
        return scores(score_lines(self, LineReader(codec).lines(lines)), codec)

    def evaluate(self: Any, text: TextLike, edition: str | None = None) -> Evaluation:
        """Loss, perplexity and bits on a text: a path, a store, `time-machine` or one in memory.

        `edition` selects an edition of The Time Machine: gutenberg (default) or d2l.
        """
        codec_of(self)
        in_memory.check(text)
        return evaluate_on(self, text, edition)

    def next(self: Any, prefix: str, top: int = 10) -> list[NextToken]:
        """The `top` likeliest tokens after a prefix, likeliest first."""
        require_at_least(1, top=top)
        codec = codec_of(self)
        logits, _ = self.step(_ids(codec, prefix)[None], None)
        language_model.check_finite(logits)
        values = language_model.log_probabilities(logits[0, -1])  # (vocab,)
        order = np.argsort(-values, kind="stable")[:top].tolist()
        return [NextToken(token, codec.text([token]), float(values[token])) for token in order]

    def generate(self: Any, prefix: str, **options: Any) -> list[str]:
        """Texts that begin with a prefix, including it; `options` are the fields of Writing.

        They are `tokens`, `n`, `stop`, `temperature`, `top_k`, `top_p`, `min_p`,
        `repetition_penalty`, `beams`, `allow_unknown` and `seed`, as in `elman generate`.
        """
        require_keywords("generate", options, [field.name for field in fields(Writing)])
        codec_of(self)
        return ["".join(pieces) for pieces in write(self, [prefix], Writing(**options))]

    def hidden_states(self: Any, text: str) -> NDArray[Any]:
        """Hidden state of each layer after each token of a text, (layers, tokens, hidden).

        The text is read from the zero state. For an LSTM it is h, not c. A model of lines first
        reads the start of a line, which counts as a token.
        """
        ids, state, rows = _ids(codec_of(self), text), None, []
        cell = LayerAttributes.of(self.rnn).cell
        if cell is None:
            raise ElmanError(
                f"hidden_states requires elman's layers, got {type(self.rnn).__name__}"
            )
        states = cell_named(cell).states
        for start in range(len(ids)):
            logits, state = self.step(ids[None, start : start + 1], state)
            language_model.check_finite(logits)
            parts = [self.xp.numpy(part) for part in _leaves(state)]
            # The state of a framework's layers is one array for all layers, or one for each.
            hidden = parts[0][:, 0] if parts[0].ndim == 3 else np.concatenate(parts[::states])
            rows.append(hidden)  # (layers, hidden)
        return np.stack(rows, axis=1)

    def predict(
        self: Any, prefix: str, num_preds: int, vocab: Vocab | None = None, device: Any = None
    ) -> str:
        """`prefix` followed by the `num_preds` likeliest tokens, one by one.

        A model that was trained on a text, or loaded, contains its vocabulary. It runs where its
        weights are; `device` is accepted for the book's code but unused.
        """
        return language_model.predict(self, prefix, num_preds, vocab)

    def plot_loss(self: Any, loss: Any, train: bool) -> None:
        """Plot the perplexity of a loss; its bits per character if tokens are not characters."""
        in_bits = None if self.trainer is None else self.trainer.in_bits
        if in_bits is None:
            self.plot("ppl", self.xp.exp(loss), train)
        else:
            self.plot("bits/char", in_bits[0 if train else 1](loss), train)

    xp: Any  # array functions of the framework, with the book's names


def _summary(model: Any) -> str | None:
    """Sizes, precision, tokens and last validation result of a language model in words.

    None for a model whose layers are not elman's.
    """
    own = ModelAttributes.of(model)
    cell = LayerAttributes.of(own.rnn).cell
    if not isinstance(cell, str):
        return None
    sizes = model.vocab_size, own.rnn.num_hiddens, own.rnn.num_layers
    arch = Architecture(cell, *sizes, own.embedding_size, own.tied)
    tokens = f"vocabulary of {arch.vocab:,}" if model.codec is None else model.codec.in_words()
    parts = [in_words(arch, model.options.precision), tokens]
    history = [] if model.trainer is None else model.trainer.history
    if history and not math.isnan(history[-1].val_loss):
        in_bits = model.trainer.in_bits
        if in_bits is None:
            parts.append(f"last validation perplexity {in_digits(history[-1].val_ppl)}")
        else:
            bits = in_bits[1](history[-1].val_loss)
            parts.append(f"last validation {bits:.3f} bits per character")
    return ", ".join(parts)


def scores(scored: ScoredLines, codec: Codec) -> list[Score]:
    """Scores of some lines."""
    return [
        Score(
            float(scored.log_probabilities[n]),
            float(scored.bits_per_character[n]),
            int(scored.lines.predicted[n]),
            [NextToken(token, codec.text([token]), -loss) for token, loss in scored.tokens(n)],
        )
        for n in range(len(scored.lines.texts))
    ]


def codec_of(model: Any) -> Codec:
    """Codec of a model; an ElmanError if it has none."""
    used: Codec | None = model.codec
    if used is None:
        raise ElmanError("a model must be trained on a text or loaded to have tokens: do either")
    return used


def _ids(codec: Codec, text: str) -> NDArray[np.int64]:
    ids = codec.prefix_ids(text)
    if not ids:
        raise ElmanError("the prefix is empty: give at least one symbol to begin with")
    return np.array(ids)


def _leaves(state: Any) -> list[Any]:
    """Arrays of a state; they may be in tuples and lists."""
    if isinstance(state, tuple | list):
        return [leaf for part in state for leaf in _leaves(part)]
    return [state]
