"""The part of RNNLMScratch and RNNLM that is the same in every framework, and `build`."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from elman.core.errors import ElmanError
from elman.core.model import weights
from elman.core.model.cells import make_layers
from elman.core.model.precision import SINGLE, check_precision
from elman.core.model.text_model import TextModel
from elman.core.model.weights import Architecture, Weights, check_tied
from elman.core.training.trainer import check_optimizer

MAX_LOGITS = 1 << 24  # of a batch; beyond it the loss is computed chunk by chunk
CHUNK_LOGITS = 1 << 22  # of a chunk
# Methods that define a model's logits and its loss; a framework has some of them.
OVERRIDABLE = ("setup", "init_params", "forward", "read", "output_layer", "loss")


def check_language_model(rnn: Any, tied: bool, embedding: int) -> None:
    """Raise an ElmanError unless these layers can be a language model's."""
    if getattr(rnn, "bidirectional", False):
        raise ElmanError(
            "a bidirectional layer reads the tokens that a language model is to predict: "
            "use layers with bidirectional=False"
        )
    input_dropout = getattr(rnn, "input_dropout", 0)
    if input_dropout and not embedding:
        weights.check_one_hot(input_dropout)
    if tied is not False:
        check_tied(tied, embedding, rnn.num_hiddens)


def detached(state: Any) -> Any:
    """A state, an array or tuples or lists of such, through which no gradient flows."""
    if isinstance(state, tuple | list):
        return tuple(map(detached, state))
    return state.detach() if hasattr(state, "detach") else state


def chunk_rows(vocab: int) -> int:
    """Number of rows of logits in a chunk."""
    return max(1, CHUNK_LOGITS // vocab)


def head_methods(kind: type) -> dict[str, Any]:
    """The methods of a class that define its logits and its loss."""
    return {name: getattr(kind, name) for name in OVERRIDABLE if hasattr(kind, name)}


def uses_chunks(model: Any, targets: Any) -> bool:
    """True if the loss of a batch with these targets is computed in chunks.

    It is where the batch has more than MAX_LOGITS logits, and no OVERRIDABLE method is overridden.
    """
    many = math.prod(targets.shape) * model.vocab_size > MAX_LOGITS
    return many and bool(model.default_head) and head_methods(type(model)) == model.default_head


class LanguageModel(TextModel):
    """The part of a recurrent language model that is the same in every framework."""

    # The OVERRIDABLE methods for which `chunked_loss` is right, in a class that has one.
    default_head: Mapping[str, Any] | None = None

    def training_step(self: Any, batch: Sequence[Any]) -> Any:
        """The loss of a training batch; plots its perplexity."""
        loss = self.batch_loss(batch)
        self.plot("ppl", self.exp(loss), train=True)
        return loss

    def validation_step(self: Any, batch: Sequence[Any]) -> Any:
        """The loss of a validation batch; plots its perplexity."""
        loss = self.batch_loss(batch)
        self.plot("ppl", self.exp(loss), train=False)
        return loss

    def batch_loss(self: Any, batch: Sequence[Any]) -> Any:
        """The loss of a batch, (ids, a state if there is one, targets)."""
        if uses_chunks(self, batch[-1]):
            X, *state, Y = batch
            return self.chunked_loss(X, Y, *state)
        return self.loss(self(*batch[:-1]), batch[-1])


class RNNLMScratch(LanguageModel):
    """A language model from scratch around `rnn`: ids (batch, steps) -> (batch, steps, vocab)."""

    def __init__(self: Any, rnn: Any, vocab_size: int, lr: float = 0.01) -> None:
        """Make the model.

        - `rnn`: recurrent layers, with the attributes `num_hiddens` and `sigma`.
        - `vocab_size`: number of tokens.
        - `lr`: learning rate.
        """
        super().__init__()
        self.save_hyperparameters()
        self.init_params()


class RNNLM(RNNLMScratch):
    """A language model: one-hot or embedding input, recurrent layers, a linear output layer."""

    def __init__(
        self: Any,
        rnn: Any,
        vocab_size: int,
        lr: float = 0.01,
        embedding_size: int = 0,
        optimizer: str = "sgd",
        momentum: float = 0.0,
        tied: bool = False,
        weight_decay: float | None = None,
    ) -> None:
        """Make the model.

        - `rnn`: recurrent layers, such as an RNN, GRU or LSTM.
        - `vocab_size`: number of tokens.
        - `lr`: learning rate. SGD needs one of about 1, Adam of about 0.005.
        - `embedding_size`: size of the embedding; 0 for one-hot input.
        - `optimizer`: sgd (default), as in the book, adam or adamw.
        - `momentum`: momentum of sgd.
        - `tied`: use the embedding as the output layer's weight.
        - `weight_decay`: weight decay of adamw, 0.01 unless it is given.
        """
        check_optimizer(optimizer, lr, momentum, weight_decay)
        check_language_model(rnn, tied, embedding_size)
        super(RNNLMScratch, self).__init__()  # the framework's Classifier
        self.save_hyperparameters()
        self.init_params()


def layers_of(classes: Any, arch: Architecture, **options: Any) -> Any:
    """Recurrent layers of an architecture, of a framework's `classes`; with more arguments."""
    sizes = {"num_hiddens": arch.hidden, "num_layers": arch.layers}
    return make_layers(classes, arch.cell, **sizes, **options)


def architecture_of(model: Any, cell: str, hidden: int, layers: int) -> Architecture:
    """Architecture of a language model whose layers have this cell and these sizes."""
    embedding, tied = getattr(model, "embedding_size", 0), getattr(model, "tied", False)
    return Architecture(cell, model.vocab_size, hidden, layers, embedding, tied)


def builder(
    framework: str,
    make_model: Callable[..., Any],
    set_weights: Callable[[Any, Architecture, Weights], None],
) -> Callable[..., Any]:
    """The function `build` of a framework.

    - `framework`: its name.
    - `make_model(arch, shares, seed, **settings)`: an RNNLM with these arguments; `shares` are
      those of dropout, arguments of its layers.
    - `set_weights(model, arch, values)`: give it weights by canonical name.
    """

    def build(
        arch: Architecture,
        values: Weights,
        lr: float = 0.01,
        optimizer: str = "sgd",
        momentum: float = 0.0,
        dropout: float = 0.0,
        seed: int = 0,
        precision: str = SINGLE,
        weight_decay: float | None = None,
        input_dropout: float = 0.0,
        output_dropout: float = 0.0,
    ) -> Any:
        """Language model of this architecture with these weights; the seed is that of dropout."""
        check_precision(precision, framework)
        values = weights.checked(values, arch)
        # Frameworks without a choice do not know of it.
        chosen: dict[str, Any] = {} if precision == SINGLE else {"precision": precision}
        sequence = {"input_dropout": input_dropout, "output_dropout": output_dropout}
        model = make_model(
            arch,
            {"dropout": dropout, **sequence},
            seed,
            vocab_size=arch.vocab,
            lr=lr,
            embedding_size=arch.embedding,
            optimizer=optimizer,
            momentum=momentum,
            tied=arch.tied,
            weight_decay=weight_decay,
            **chosen,
        )
        set_weights(model, arch, values)
        return model

    return build
