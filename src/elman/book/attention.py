"""The part of decoders with attention that is the same in every framework."""

from typing import Any, NamedTuple

from elman.book.seq2seq import Seq2SeqDecoder

MASKED = 1e6  # taken from the scores of padding, as in the book: their weights are 0


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
