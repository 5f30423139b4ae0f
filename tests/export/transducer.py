"""A speech recognizer with random weights: a transducer in the files that sherpa-onnx reads."""

from pathlib import Path
from typing import Any

import numpy as np
import sherpa_onnx
from numpy.typing import NDArray

from elman.formats.onnx.graph import FLOATS, IDS, Graph

FEATURES, UNITS, RATE = 80, 16, 16_000
NEVER = [1, 2, 3]  # symbols that it never hears: the border, the unknown symbol, the line end
SECONDS = np.arange(2 * RATE) / RATE
SOUND = (0.3 * np.sin(2 * np.pi * (200 + 300 * SECONDS) * SECONDS)).astype(np.float32)  # it rises


class Transducer:
    """Hears SOUND as symbols of a table, one at a time or all at the end."""

    def __init__(self, folder: Path, tokens: Path) -> None:
        self.folder, symbols = folder, len(tokens.read_text(encoding="utf-8").splitlines())
        rng = np.random.default_rng(3)
        weights = [
            rng.standard_normal(shape).astype(np.float32)
            for shape in ((FEATURES, UNITS), (symbols, UNITS), (UNITS, symbols))
        ]
        self._write("streaming", streaming_encoder(weights[0] / 3))
        self._write("encoder", encoder(weights[0] / 3))
        self._write("decoder", decoder(weights[1]))
        self._write("joiner", joiner(weights[2]))
        self._options = {
            "tokens": str(tokens),
            "decoder": self._path("decoder"),
            "joiner": self._path("joiner"),
            "decoding_method": "modified_beam_search",
        }

    def _path(self, name: str) -> str:
        return str(self.folder / f"{name}.onnx")

    def _write(self, name: str, model: Any) -> None:
        Path(self._path(name)).write_bytes(model.SerializeToString())

    def stream(self, lm: Path, scale: float) -> tuple[str, list[float]]:
        """What it hears symbol by symbol, and what the language model says of each symbol."""
        made = sherpa_onnx.OnlineRecognizer.from_transducer(
            encoder=self._path("streaming"), lm=str(lm), lm_scale=scale, **self._options
        )
        stream = made.create_stream()
        stream.accept_waveform(RATE, SOUND)
        stream.input_finished()
        while made.is_ready(stream):
            made.decode_stream(stream)
        return "".join(made.tokens(stream)), made.lm_probs(stream)

    def sentence(self, **options: Any) -> str:
        """What it hears when all hypotheses are scored at the end."""
        made = sherpa_onnx.OfflineRecognizer.from_transducer(
            encoder=self._path("encoder"), **options, **self._options
        )
        stream = made.create_stream()
        stream.accept_waveform(RATE, SOUND)
        made.decode_stream(stream)
        return "".join(stream.result.tokens)


def encoder(weight: NDArray[np.float32]) -> Any:
    """Features, (N, T, features), and their lengths to outputs, (N, T, units), and lengths."""
    graph = Graph()
    x, lengths = graph.input("x", FLOATS, ("N", "T", FEATURES)), graph.input("n", IDS, ("N",))
    graph.output(heard(graph, x, weight), "encoder_out", FLOATS, ("N", "T", UNITS))
    graph.output(lengths, "encoder_out_lens", IDS, ("N",))
    return graph.model("encoder", {"model_type": "zipformer2"})


def streaming_encoder(weight: NDArray[np.float32]) -> Any:
    """The same for 9 steps, of which the first 2 count; its states do nothing."""
    graph = Graph()
    x = graph.input("x", FLOATS, ("N", "T", FEATURES))
    states = [graph.input(name, FLOATS, (1, "N", 1)) for name in "hc"]
    x = graph.add("Slice", x, *(graph.integers(n) for n in (0, 2, 1)))
    graph.output(heard(graph, x, weight), "encoder_out", FLOATS, ("N", 2, UNITS))
    for state in states:
        graph.output(state, f"next_{state}", FLOATS, (1, "N", 1))
    sizes = {"num_encoder_layers": 1, "rnn_hidden_size": 1, "d_model": 1}
    steps = {"T": 9, "decode_chunk_len": 4}
    return graph.model("encoder", {"model_type": "lstm"} | sizes | steps)


def heard(graph: Graph, x: str, weight: NDArray[np.float32]) -> str:
    return graph.add("Tanh", graph.add("MatMul", x, graph.constant("weight", weight)))


def decoder(embedding: NDArray[np.float32]) -> Any:
    """The last 2 symbols, (N, 2), to outputs, (N, units)."""
    graph = Graph()
    y = graph.input("y", IDS, ("N", 2))
    vectors = graph.add("Gather", graph.constant("embedding", embedding), y)
    mean = graph.add("ReduceMean", vectors, axes=[1], keepdims=0)
    graph.output(mean, "decoder_out", FLOATS, ("N", UNITS))
    return graph.model("decoder", {"context_size": 2, "vocab_size": len(embedding)})


def joiner(weight: NDArray[np.float32]) -> Any:
    """Outputs of both, (N, units) each, to logits, (N, symbols)."""
    graph = Graph()
    parts = [graph.input(name, FLOATS, ("N", UNITS)) for name in ("encoder_out", "decoder_out")]
    hidden = graph.add("Tanh", graph.add("Add", *parts))
    bias = np.zeros(weight.shape[1], np.float32)
    bias[0], bias[NEVER] = 3, -20  # blanks are frequent
    products = graph.add("MatMul", hidden, graph.constant("weight", weight))
    logits = graph.add("Add", products, graph.constant("bias", bias))
    graph.output(logits, "logit", FLOATS, ("N", len(bias)))
    return graph.model("joiner", {"joiner_dim": UNITS})
