"""The two graphs that speech recognizers read, in the form of icefall's RNN language models.

sherpa-onnx identifies inputs and outputs by position, and metadata by the names used here. One
graph scores whole sentences; the other is called token by token. Token 0 never occurs in the
recognizer's hypotheses, and the recognizer adds no border to them.
"""

from typing import Any

import numpy as np

from elman.formats.onnx.graph import FLOATS, IDS, Graph
from elman.formats.onnx.layers import LanguageModel
from elman.text.codec import Codec
from elman.text.tokenizers import Units
from elman.text.vocab import UNKNOWN

SENTENCES, STREAMING, TOKENS = "no-state.onnx", "with-state.onnx", "tokens.txt"
MAX_STATES = 2  # arrays of a state that a recognizer keeps
BORDER = 1  # number of the symbol before and after a sentence
SPACE = "\u2581"  # represents a space in a file with columns separated by spaces


class Symbols:
    """Symbols of a recognizer, numbered as in icefall, and the model's token for each.

    0 is the blank, 1 the border of a sentence, 2 the unknown symbol. The model's tokens follow, so
    that byte tokens have the numbers that sherpa-onnx expects.
    """

    def __init__(self, used: Codec, border: int) -> None:
        unknown = used.vocab.unk
        tokens = [token for token in range(len(used.vocab)) if token != unknown]
        self.tokens = np.array([unknown, border, unknown, *tokens])
        self.spellings = ["<blk>", "<sos/eos>", UNKNOWN, *(_spelling(used, n) for n in tokens)]

    def __len__(self) -> int:
        return len(self.tokens)

    def table(self) -> str:
        """Content of tokens.txt: a symbol and its number in each line."""
        return "".join(f"{spelling} {n}\n" for n, spelling in enumerate(self.spellings))


def _spelling(used: Codec, token: int) -> str:
    if used.tokenizer.units is Units.BYTES:
        return f"<0x{ord(used.vocab.idx_to_token[token]):02X}>"
    return used.spelling(token).replace(" ", SPACE)


def metadata(model: LanguageModel, symbols: Symbols) -> dict[str, object]:
    """Numbers that a recognizer reads."""
    return {
        "model_type": "rnnlm",
        "sos_id": BORDER,
        "eos_id": BORDER,
        "vocab_size": len(symbols),
        "num_layers": model.arch.layers,
        "hidden_size": model.arch.hidden,
    }


def sentences(model: LanguageModel, symbols: Symbols) -> Any:
    """`x`, (N, L), and `x_lens`, (N,), to `nll`, (N,): the loss of each sentence with its end.

    Sentences are given without borders, and padded at their ends with anything.
    """
    graph = Graph()
    x, lengths = graph.input("x", IDS, ("N", "L")), graph.input("x_lens", IDS, ("N",))
    tokens = _tokens(graph, symbols, x)
    number = graph.add("Shape", x, start=0, end=1)  # (1,)
    border = graph.integers(int(symbols.tokens[BORDER]))
    one_each = graph.add("Concat", number, graph.integers(1), axis=0)
    column = graph.add("Expand", border, one_each)  # (N, 1)
    inputs = graph.add("Concat", column, tokens, axis=1)  # (N, L + 1)
    sizes = [graph.integers(model.arch.layers), number, graph.integers(model.arch.hidden)]
    zeros = graph.add("ConstantOfShape", graph.add("Concat", *sizes, axis=0))
    logits, _ = model.add_to(graph, inputs, [zeros] * len(model.states))
    positions, ends = _positions(graph, inputs), graph.add("Unsqueeze", lengths, graph.integers(1))
    padded = graph.add("Concat", tokens, column, axis=1)
    targets = graph.add("Where", graph.add("Equal", positions, ends), border, padded)
    losses = _log_probabilities(graph, logits, targets)  # (N, L + 1)
    counted = graph.add("LessOrEqual", positions, ends)
    zero = graph.constant("zero", np.array(0, np.float32))
    total = graph.add("ReduceSum", graph.add("Where", counted, losses, zero), graph.integers(1))
    nll = graph.add("Neg", graph.add("Squeeze", total, graph.integers(1)))
    graph.output(nll, "nll", FLOATS, ("N",))
    return graph.model("sentences", metadata(model, symbols))


def streaming(model: LanguageModel, symbols: Symbols) -> Any:
    """`x`, (N, L), `h0` and `c0` to `log_softmax`, (N, symbols), `next_h0` and `next_c0`.

    The log-probabilities are for the symbol after the last of x. Parts of a state are
    (layers, N, hidden). A cell without c returns it unchanged.
    """
    graph, shape = Graph(), model.state_shape("N")
    x = graph.input("x", IDS, ("N", "L"))
    state = [graph.input(name, FLOATS, shape) for name in ("h0", "c0")]
    parts = len(model.states)
    logits, next_state = model.add_to(graph, _tokens(graph, symbols, x), state[:parts])
    last = graph.add("Gather", logits, graph.constant("last", np.array(-1)), axis=1)
    values = graph.add("LogSoftmax", last, axis=1)  # (N, vocab)
    found = graph.add("Gather", values, _table(graph, symbols), axis=1)
    graph.output(found, "log_softmax", FLOATS, ("N", len(symbols)))
    for name, value in zip(("next_h0", "next_c0"), [*next_state, *state[parts:]], strict=True):
        graph.output(value, name, FLOATS, shape)
    return graph.model("streaming", metadata(model, symbols))


def _table(graph: Graph, symbols: Symbols) -> str:
    return graph.constant("tokens", symbols.tokens)


def _tokens(graph: Graph, symbols: Symbols, x: str) -> str:
    """The model's tokens for symbols, in the same shape."""
    return graph.add("Gather", _table(graph, symbols), x)


def _positions(graph: Graph, inputs: str) -> str:
    """0, 1, 2, ..., one for each column of the inputs."""
    columns = graph.add("Shape", inputs, start=1, end=2)
    zero, one = (graph.constant(f"scalar_{n}", np.array(n)) for n in (0, 1))
    return graph.add("Range", zero, graph.add("Squeeze", columns), one)


def _log_probabilities(graph: Graph, logits: str, targets: str) -> str:
    """Log-probability of each target, (N, steps), under logits (N, steps, vocab)."""
    values = graph.add("LogSoftmax", logits, axis=2)
    indices = graph.add("Unsqueeze", targets, graph.integers(2))
    picked = graph.add("GatherElements", values, indices, axis=2)
    return graph.add("Squeeze", picked, graph.integers(2))
