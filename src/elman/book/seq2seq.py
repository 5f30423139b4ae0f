"""The part of encoder-decoders that is the same in every framework, `build_seq2seq`, and BLEU."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, NamedTuple

from elman.errors import ElmanError, require_at_least, require_at_most, require_number
from elman.inference.beams import beam_search
from elman.inference.language_model import generate
from elman.inference.translation import GREEDY, Reader
from elman.inference.writing_options import MAX_BEAMS
from elman.model import weights
from elman.model.optimizers import Optimizer
from elman.model.weights import Architecture, Weights
from elman.text.codec import BEGIN, END
from elman.user_classes import PairAttributes

MASKED = 1e6  # taken from the scores of padding, as in the book: their weights are 0


def check_sentences(sentences: Any) -> None:
    """Raise an ElmanError unless sentences are a list of str without tabs and line breaks."""
    if isinstance(sentences, str) or not isinstance(sentences, Sequence):
        raise ElmanError(f"sentences must be a list of str, got {sentences!r}")
    for sentence in sentences:
        if not isinstance(sentence, str) or {"\t", "\n"} & {*sentence}:
            raise ElmanError(
                f"a sentence must be a str without tabs and line breaks, got {sentence!r}"
            )


def bleu(pred_seq: str, label_seq: str, k: int) -> float:
    """BLEU of a predicted sequence of words for a true one, by the book's definition.

    The precisions of n-grams of up to `k` words are each raised to 0.5**n and multiplied, and the
    product is reduced for a prediction that is too short. A space separates words.
    """
    require_at_least(1, k=k)
    check_sentences([pred_seq, label_seq])
    predicted, true = pred_seq.split(" "), label_seq.split(" ")
    score = math.exp(min(0, 1 - len(true) / len(predicted)))
    for n in range(1, min(k, len(predicted)) + 1):
        matches = (_grams(predicted, n) & _grams(true, n)).total()
        score *= (matches / (len(predicted) - n + 1)) ** 0.5**n
    return score


def _grams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    """Numbers of the n-grams of a sequence."""
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


class Predicting:
    """Prediction of every encoder-decoder.

    A framework has `encoded(src, src_valid_len)`, the decoder's first state for a batch of sources,
    and `decoded(tokens, state)`, logits and the next state, both without dropout and gradients.
    """

    xp: Any

    def predict(
        self: Any,
        sentences: Sequence[str],
        data: Any,
        beams: int = 1,
        length_penalty: float = 1.0,
    ) -> list[str]:
        """Targets of some sources, without their end; where tokens are words, with spaces between.

        - `data`: the data set that the model was trained on, such as an MTFraEng. Its vocabularies,
          its method `build` and its `num_steps` are read.
        - `beams`: number of targets that beam search keeps; with 1 each token is the likeliest.
        - `length_penalty`: targets are compared by their log-probability over their length to this
          power, from 0 to 10.
        """
        require_at_least(1, beams=beams)
        require_at_most(MAX_BEAMS, beams=beams)
        require_number(
            "a number from 0 to 10", lambda power: 0 <= power <= 10, length_penalty=length_penalty
        )
        check_sentences(sentences)
        found = []
        for sentence in sentences:
            src, _, src_valid_len, _ = data.build([sentence], [""])
            reader = Reader(self, self.encoded(src, src_valid_len), data.to_tensor)
            ids = likeliest(reader, data, beams, length_penalty)
            found.append(PairAttributes.of(data).separator.join(data.tgt_vocab.to_tokens(ids)))
        return found


def likeliest(reader: Reader, data: Any, beams: int, length_penalty: float) -> list[int]:
    """The likeliest ids of a target of some data, without its end."""
    begin, end = (data.tgt_vocab[symbol] for symbol in (BEGIN, END))
    if beams == 1:
        ids = generate(reader, [begin], data.num_steps, GREEDY)
        return list(takewhile(lambda token: token != end, ids))
    best, *_ = beam_search(
        *(reader, [begin], data.num_steps, beams, GREEDY),
        *(lambda ids: ids[-1] == end, length_penalty),
    )
    return [token for token in best.ids if token != end]


class Encoder:
    """Base class of encoders. A framework has its own name for `forward`."""

    def forward(self: Any, X: Any, *args: Any) -> Any:
        """Outputs for a batch of sources; `args` are more of their arrays, such as lengths."""
        raise NotImplementedError("define what an encoder returns for (X, *args)")


class Decoder:
    """Base class of decoders. A framework has its own name for `forward`."""

    def init_state(self: Any, enc_all_outputs: Any, *args: Any) -> Any:
        """State to begin with after what an encoder returned for a batch of sources."""
        raise NotImplementedError("define init_state(enc_all_outputs, *args)")

    def forward(self: Any, X: Any, state: Any) -> tuple[Any, Any]:
        """Outputs for a batch of tokens after a state, and the state after them."""
        raise NotImplementedError("define what a decoder returns for (X, state)")


@dataclass(eq=False, repr=False)
class Part:
    """Arguments and layers that the encoder and the decoder of a Seq2Seq share.

    - `vocab_size`: number of tokens.
    - `embed_size`: size of their embedding.
    - `num_hiddens`, `num_layers`: hidden units of a layer of the GRU, and number of its layers.
    - `dropout`: share of a layer's outputs that is dropped before the next layer.

    A framework makes the layers of given sizes: `make_embedding`, `make_gru` and `make_linear`.
    """

    vocab_size: int
    embed_size: int
    num_hiddens: int
    num_layers: int
    dropout: float = 0

    def __post_init__(self: Any) -> None:
        super().__init__()
        self.setup()

    def setup(self: Any) -> None:
        """Create the layers."""
        self.embedding = self.make_embedding(self.vocab_size, self.embed_size)
        sizes = self.num_hiddens, self.num_layers, self.dropout
        self.rnn = self.make_gru(self.input_size, *sizes)

    @property
    def input_size(self) -> int:
        """Number of features that the GRU reads at each step."""
        return self.embed_size

    @property
    def linear_layers(self) -> dict[str, Any]:
        """Linear layers by canonical name."""
        return {}

    def embedded(self: Any, X: Any) -> Any:
        """Embeddings, (steps, batch, embed_size), of ids (batch, steps)."""
        return self.embedding(self.xp.astype(self.xp.transpose(X), self.id_type))


class Seq2SeqEncoder(Part):
    """The part of a Seq2SeqEncoder that is the same in every framework."""

    def forward(self: Any, X: Any, *args: Any) -> Any:
        """Outputs of all steps, and the state after the last."""
        return self.rnn(self.embedded(X))


class Seq2SeqDecoder(Part):
    """The part of a Seq2SeqDecoder that is the same in every framework.

    The GRU begins with the encoder's state, and reads the encoder's last output at each step.
    """

    def setup(self: Any) -> None:
        """Create the layers."""
        super().setup()
        self.dense = self.make_linear(self.num_hiddens, self.vocab_size)

    @property
    def linear_layers(self: Any) -> dict[str, Any]:
        """The output layer by its canonical name."""
        return {"dense": self.dense}

    @property
    def input_size(self) -> int:
        """Number of features of an embedding and of an output of the encoder."""
        return self.embed_size + self.num_hiddens

    def init_state(self, enc_all_outputs: Any, *args: Any) -> Any:
        """Outputs and state of the encoder."""
        return enc_all_outputs

    def forward(self: Any, X: Any, state: Any) -> Any:
        """Logits, and the state after the last token."""
        return self.decode(X, state)

    def decode(self: Any, X: Any, state: Any, **mode: bool) -> tuple[Any, Any]:
        """Logits and the next state; `mode` is passed to the GRU, as Flax does."""
        enc_outputs, hidden = state
        embedded = self.embedded(X)
        shape = embedded.shape[0], *enc_outputs.shape[1:]
        context = self.broadcast_to(enc_outputs[-1], shape)
        outputs, hidden = self.rnn(self.xp.concat((embedded, context), -1), hidden, **mode)
        return self.xp.swapaxes(self.dense(outputs), 0, 1), (enc_outputs, hidden)


class Memory(NamedTuple):
    """Inputs of attention, the same at all steps; the first axis has the steps of the source."""

    values: Any  # outputs of the encoder, (steps, batch, hidden)
    keys: Any  # their products with W_k
    valid: Any  # 1 for tokens, 0 for padding, (steps, batch, 1)


class Seq2SeqAttentionDecoder(Seq2SeqDecoder):
    """Decoder with additive attention (Bahdanau et al. 2015).

    At each step the GRU reads a sum of the encoder's outputs, weighted by a softmax over the tokens
    of the source. Scores are w_v of tanh(W_q query + W_k output), and the query is the output of
    the step before. All layers of the GRU begin with the encoder's output after the last token, so
    that the padding of a source does not count. A framework has `softmax` over the first axis,
    `positions(steps, lengths)`, a column of the numbers of steps on the device of the lengths, and
    `make_state`, a state of the GRU from the state of each layer.
    """

    attention_weights: Any = None  # of the last call, (steps, batch, 1, steps of the source)

    def setup(self: Any) -> None:
        """Create the layers."""
        super().setup()
        hidden = self.num_hiddens
        self.attention_W_q = self.make_linear(hidden, hidden, False)
        self.attention_W_k = self.make_linear(hidden, hidden, False)
        self.attention_w_v = self.make_linear(hidden, 1, False)

    @property
    def linear_layers(self: Any) -> dict[str, Any]:
        """Linear layers by canonical name."""
        return super().linear_layers | {
            "attention.W_q": self.attention_W_q,
            "attention.W_k": self.attention_W_k,
            "attention.w_v": self.attention_w_v,
        }

    def init_state(self: Any, enc_all_outputs: Any, enc_valid_lens: Any) -> Any:
        """Outputs of the encoder, state of the GRU and lengths of the sources, (batch,)."""
        enc_outputs, _ = enc_all_outputs
        is_last = self._where(
            self.positions(enc_outputs.shape[0], enc_valid_lens) == enc_valid_lens - 1
        )
        last = self.xp.reduce_sum(enc_outputs * is_last, 0)
        return enc_outputs, self.make_state([last] * self.num_layers), enc_valid_lens

    def _where(self: Any, condition: Any) -> Any:
        """1 where a condition, (steps, batch), is true; an axis for features is added."""
        return self.xp.expand_dims(self.xp.astype(condition, self.xp.float32), -1)

    def decode(self: Any, X: Any, state: Any, **mode: bool) -> tuple[Any, Any]:
        """Logits, and the state after the last token; keeps the weights of attention."""
        enc_outputs, hidden, lengths = state
        valid = self._where(self.positions(enc_outputs.shape[0], lengths) < lengths)
        memory = Memory(enc_outputs, self.attention_W_k(enc_outputs), valid)
        inputs = self.embedded(X)
        hidden, (outputs, weights) = self.over_steps(memory, hidden, inputs, mode)
        # (target steps, source steps, batch, 1) -> (target steps, batch, 1, source steps)
        self.keep_weights(self.xp.swapaxes(self.xp.swapaxes(weights, 1, 2), 2, 3))
        return self.xp.swapaxes(self.dense(outputs), 0, 1), (enc_outputs, hidden, lengths)

    def step(
        self: Any, memory: Memory, mode: dict[str, bool], hidden: Any, embedded: Any
    ) -> tuple[Any, tuple[Any, Any]]:
        """State after a token, its output, (batch, hidden), and the weights, (steps, batch, 1)."""
        context, weights = self.attend(memory, hidden[-1])
        inputs = self.xp.concat((embedded, context), -1)
        outputs, hidden = self.rnn(self.xp.expand_dims(inputs, 0), hidden, **mode)
        return hidden, (outputs[0], weights)

    def attend(self: Any, memory: Memory, query: Any) -> tuple[Any, Any]:
        """Context of a query, (batch, hidden), and the weights of the source's steps."""
        features = self.xp.tanh(memory.keys + self.attention_W_q(query))  # (steps, batch, hidden)
        scores = self.attention_w_v(features) + (memory.valid - 1) * MASKED
        weights = self.softmax(scores, axis=0)
        return self.xp.reduce_sum(weights * memory.values, 0), weights

    def over_steps(
        self: Any, memory: Memory, hidden: Any, inputs: Any, mode: dict[str, bool]
    ) -> tuple[Any, tuple[Any, Any]]:
        """Take `step` for each of the inputs: the last state; outputs and weights of all steps."""
        found = []
        for embedded in inputs:
            hidden, results = self.step(memory, mode, hidden, embedded)
            found.append(results)
        outputs, weights = (self.xp.stack(parts) for parts in zip(*found, strict=True))
        return hidden, (outputs, weights)

    def keep_weights(self: Any, weights: Any) -> None:
        """Keep the weights of attention of this call."""
        self.attention_weights = self.xp.stop_gradient(weights)


class EncoderDecoder(Predicting):
    """The part of an encoder-decoder that is the same where a model holds its parameters.

    `without_gradients` makes the framework's context for that.
    """

    without_gradients: Callable[[], AbstractContextManager[Any]] = nullcontext

    def __init__(self: Any, encoder: Any, decoder: Any) -> None:
        """Make the model.

        - `encoder`: layers called with (sources, *args).
        - `decoder`: layers that return outputs and the next state for (tokens, state). Its
          `init_state(outputs, *args)` is the first state after the outputs of the encoder.
        """
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self: Any, enc_X: Any, dec_X: Any, *args: Any) -> Any:
        """Outputs of the decoder for sources and the tokens that it reads."""
        state = self.decoder.init_state(self.encoder(enc_X, *args), *args)
        outputs, _ = self.decoder(dec_X, state)
        return outputs

    def encoded(self: Any, src: Any, src_valid_len: Any) -> Any:
        """State of the decoder after a batch of sources, without dropout."""
        with self.evaluating(), self.without_gradients():
            return self.decoder.init_state(self.encoder(src, src_valid_len), src_valid_len)

    def decoded(self: Any, tokens: Any, state: Any) -> Any:
        """Logits for a batch of tokens after a state, and the state after them."""
        with self.evaluating(), self.without_gradients():
            return self.decoder(tokens, state)

    def predict_step(
        self: Any,
        batch: Sequence[Any],
        device: Any,
        num_steps: int,
        save_attention_weights: bool = False,
    ) -> tuple[Any, list[Any]]:
        """Likeliest targets of a batch, (batch, num_steps), token by token.

        Also returns the decoder's `attention_weights` after each step, if they are to be saved.
        """
        src, tgt, src_valid_len, _ = (self.xp.to(array, device) for array in batch)
        tokens, attention_weights = [tgt[:, :1]], []
        state = self.encoded(src, src_valid_len)
        for _ in range(num_steps):
            logits, state = self.decoded(tokens[-1], state)
            tokens.append(self.xp.argmax(logits, 2))
            if save_attention_weights:
                attention_weights.append(self.decoder.attention_weights)
        return self.xp.concat(tokens[1:], 1), attention_weights


class Seq2Seq(EncoderDecoder):
    """The part of a Seq2Seq that is the same where a model holds its parameters."""

    def __init__(self: Any, encoder: Any, decoder: Any, tgt_pad: int, lr: float) -> None:
        """Make the model.

        - `encoder`, `decoder`: as of an EncoderDecoder.
        - `tgt_pad`: id of the padding, which counts in no loss.
        - `lr`: learning rate of Adam.
        """
        optimizer_of(lr)  # raises for a rate that is not valid
        super().__init__(encoder, decoder)
        self.save_hyperparameters()

    def loss(self: Any, Y_hat: Any, Y: Any, averaged: bool = True) -> Any:
        """Mean cross-entropy in nats of the targets that count; unless `averaged`, one for each.

        The batch's mask marks them; without a mask all but the padding count.
        """
        if not averaged or self.target_mask is not None:
            return super().loss(Y_hat, Y, averaged)  # type: ignore[misc]
        xp = self.xp
        losses = super().loss(Y_hat, Y, averaged=False)  # type: ignore[misc]
        counts = xp.astype(xp.reshape(Y, (-1,)) != self.tgt_pad, xp.float32)
        return xp.reduce_sum(losses * counts) / xp.reduce_sum(counts)

    def validation_step(self: Any, batch: Sequence[Any]) -> Any:
        """Loss of a validation batch, (source, decoder's input, lengths, targets), plotted."""
        loss = self.loss(self(*batch[:-1]), batch[-1])
        self.plot("loss", loss, train=False)
        return loss


def optimizer_of(lr: float) -> Optimizer:
    """Adam with this learning rate."""
    return Optimizer.given("adam", lr)


def builder(
    make_model: Callable[..., Any], set_weights: Callable[[Any, Architecture, Weights], None]
) -> Callable[..., Any]:
    """The function `build_seq2seq` of a framework.

    - `make_model(arch, dropout, seed, tgt_pad=..., lr=...)`: a Seq2Seq.
    - `set_weights(model, arch, values)`: set its weights by canonical name.
    """

    def build_seq2seq(
        arch: Architecture,
        values: Weights,
        *,
        tgt_pad: int,
        lr: float = 0.005,
        dropout: float = 0,
        seed: int = 0,
    ) -> Any:
        """Encoder-decoder of an architecture with a source, with these weights.

        - `tgt_pad`: id of the padding in targets.
        - `lr`: learning rate of Adam.
        - `dropout`: share of a layer's outputs that is dropped, drawn with `seed`.
        """
        weights.check(values, arch)
        model = make_model(arch, dropout, seed, tgt_pad=tgt_pad, lr=lr)
        set_weights(model, arch, values)
        return model

    return build_seq2seq
