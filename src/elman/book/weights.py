"""Conversion between canonical weights and models: what the frameworks with D2L's classes share."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from elman.book import rnnlm, seq2seq
from elman.model import weights
from elman.model.options import ModelOptions
from elman.model.weights import DECODER, ENCODER, Architecture, Weights, of_part
from elman.user_classes import ModelAttributes


def parts_of(model: Any) -> dict[str, Any]:
    """The framework's embeddings, recurrent and linear layers of a model.

    Their keys are the first parts of their weights' canonical names. A tied model has its
    embedding in the linear layer.
    """
    if isinstance(model, seq2seq.Predicting):
        pair: Any = model
        return {
            prefix + name: layers
            for prefix, part in ((ENCODER, pair.encoder), (DECODER, pair.decoder))
            for name, layers in {
                "embedding": part.embedding,
                "rnn": part.rnn.rnn,
                **part.linear_layers,
            }.items()
        }
    own = ModelAttributes.of(model)
    found = {"rnn": own.own_layers, "linear": own.linear}
    if own.embedding_size and not own.tied:
        found["embedding"] = model.embedding
    return found


class Conversion(ABC):
    """The functions that every framework's `weights.py` exports, over what this class lacks."""

    framework: ClassVar[str]
    layers: ClassVar[Any]  # module of its recurrent layers
    model: ClassVar[Any]  # its RNNLM
    pairs: ClassVar[Any]  # module of its encoder-decoders
    infers_inputs: ClassVar[bool] = True  # its recurrent layers find the size of their inputs

    @abstractmethod
    def seed(self, seed: int) -> None:
        """Seed the generator of dropout."""

    @abstractmethod
    def architecture(self, model: Any) -> Architecture:
        """Architecture of a language model whose layers are the framework's own."""

    @abstractmethod
    def set_weights(self, model: Any, arch: Architecture, values: Weights) -> None:
        """Set the weights of a model by canonical name."""

    @abstractmethod
    def weights_of(self, model: Any, arch: Architecture) -> Weights:
        """Copies of the weights of a model of this architecture by canonical name."""

    @abstractmethod
    def seq2seq_weights(self, model: Any) -> Weights:
        """Copies of the weights of an encoder-decoder by canonical name."""

    def __init__(self) -> None:
        self.build = rnnlm.builder(self.framework, self.make_model, self.set_weights)
        self.build_seq2seq = seq2seq.builder(self.make_seq2seq, self.set_weights)

    def make_model(
        self, arch: Architecture, options: ModelOptions, seed: int, **arguments: Any
    ) -> Any:
        """An RNNLM of this architecture; `seed` is for dropout."""
        if any(options.dropped.values()):
            self.seed(seed)
        inputs = {} if self.infers_inputs else {"num_inputs": arch.embedding or arch.vocab}
        rnn = rnnlm.layers_of(self.layers, arch, **inputs, **options.dropped)
        return self.model(rnn, **arguments)

    def make_seq2seq(self, arch: Architecture, dropout: float, seed: int, **arguments: Any) -> Any:
        """A Seq2Seq of this architecture; `seed` is for dropout."""
        if dropout:
            self.seed(seed)
        sizes = arch.embedding, arch.hidden, arch.layers, dropout
        pairs = self.pairs
        decoder = pairs.Seq2SeqAttentionDecoder if arch.attention else pairs.Seq2SeqDecoder
        parts = pairs.Seq2SeqEncoder(arch.source_vocab, *sizes), decoder(arch.vocab, *sizes)
        return pairs.Seq2Seq(*parts, **arguments)

    def export_weights(self, model: Any) -> Weights:
        """Copies of the weights of a language model by canonical name."""
        arch = self.architecture(model)
        values = self.weights_of(model, arch)
        weights.check(values, arch)  # a bidirectional layer has more
        return values


class ConversionByParts(Conversion):
    """Conversion in a framework whose layers hold their weights."""

    @abstractmethod
    def prepare(self, model: Any, dtype: Any) -> None:
        """Make lazy layers infer their shapes; weights will have this type."""

    @abstractmethod
    def read(self, part: Any) -> Weights:
        """Copies of the weights of an embedding, or of recurrent or linear layers, by name."""

    @abstractmethod
    def write(self, part: Any, values: Weights) -> None:
        """Set the weights of an embedding, or of recurrent or linear layers, by name."""

    def set_weights(self, model: Any, arch: Architecture, values: Weights) -> None:
        """Set the weights of a model by canonical name."""
        if arch.tied:
            values = values | {"linear.weight": values["embedding.weight"]}
        self.prepare(model, next(iter(values.values())).dtype)
        for prefix, part in parts_of(model).items():
            self.write(part, of_part(f"{prefix}.", values))

    def weights_of(self, model: Any, arch: Architecture) -> Weights:
        """Copies of the weights of a model of this architecture by canonical name."""
        values = self.seq2seq_weights(model)
        if arch.tied:
            values["embedding.weight"] = values.pop("linear.weight")
        return values

    def seq2seq_weights(self, model: Any) -> Weights:
        """Copies of the weights of an encoder-decoder by canonical name."""
        return {
            f"{prefix}.{name}": value
            for prefix, part in parts_of(model).items()
            for name, value in self.read(part).items()
        }
