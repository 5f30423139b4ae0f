"""What the language models of frameworks share: the loss of a batch, and `build`."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields
from typing import Any

from elman.errors import ElmanError
from elman.inference.text_model import TextModel
from elman.model import weights
from elman.model.cells import make_layers
from elman.model.optimizers import Optimizer
from elman.model.options import ModelOptions, check_precision
from elman.model.weights import Architecture, Weights, check_tied
from elman.user_classes import LayerAttributes, ModelAttributes

LR = 0.01  # D2L's
MAX_LOGITS = 1 << 24  # in a batch; for more, the loss is computed chunk by chunk
CHUNK_LOGITS = 1 << 22  # in a chunk
# Methods that define a model's logits and its loss; a framework has some of them.
OVERRIDABLE = ("setup", "init_params", "forward", "read", "output_layer", "loss")


def check_language_model(rnn: Any, tied: bool, embedding: int) -> None:
    """Raise an ElmanError unless these layers can be a language model's."""
    layers = LayerAttributes.of(rnn)
    if layers.bidirectional:
        raise ElmanError(
            "a language model requires layers that do not read the tokens to predict: use "
            "bidirectional=False"
        )
    if layers.input_dropout and not embedding:
        weights.check_one_hot(layers.input_dropout)
    if tied is not False:
        check_tied(tied, embedding, rnn.num_hiddens)


def detached(xp: Any, state: Any) -> Any:
    """A state without its gradients: an array, None, or tuples or lists of these."""
    if isinstance(state, tuple | list):
        return tuple(detached(xp, part) for part in state)
    return None if state is None else xp.stop_gradient(state)


def chunk_rows(vocab: int) -> int:
    """Number of rows of logits in a chunk."""
    return max(1, CHUNK_LOGITS // vocab)


class Originals:
    """Some attributes of a class as they are now, before a user could replace them.

    They are compared on each call (about a microsecond), so that a method that is replaced during a
    training is noticed, too.
    """

    def __init__(self, owner: type, names: Iterable[str]) -> None:
        self.found = {name: getattr(owner, name) for name in names if hasattr(owner, name)}

    def replaced_in(self, kind: type) -> str | None:
        """Name of the first that differs or is missing in a class; None if all are the same."""
        for name, original in self.found.items():
            if getattr(kind, name, None) is not original:
                return name
        return None


def head_of(kind: type) -> Originals:
    """The methods of a class that define its logits and its loss."""
    return Originals(kind, OVERRIDABLE)


def uses_chunks(model: Any, targets: Any) -> bool:
    """True if the loss of a batch with these targets is computed in chunks.

    That is if the batch has more than MAX_LOGITS logits and no OVERRIDABLE method is overridden.
    """
    if math.prod(targets.shape) * model.vocab_size <= MAX_LOGITS or model.chunked_head is None:
        return False
    return model.chunked_head.replaced_in(type(model)) is None


class LanguageModel(TextModel):
    """The framework-independent part of a recurrent language model."""

    chunked_head: Originals | None = None  # methods for which `chunked_loss` is valid

    def training_step(self: Any, batch: Sequence[Any]) -> Any:
        """The loss of a training batch, plotted."""
        loss = self.batch_loss(batch)
        self.plot_loss(loss, train=True)
        return loss

    def validation_step(self: Any, batch: Sequence[Any]) -> Any:
        """The loss of a validation batch, plotted."""
        loss = self.batch_loss(batch)
        self.plot_loss(loss, train=False)
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
        recurrent_lr: float | None = None,
    ) -> None:
        """Make the model.

        - `rnn`: recurrent layers, such as an RNN, GRU or LSTM.
        - `vocab_size`: number of tokens.
        - `lr`: learning rate. SGD needs about 1, Adam about 0.005.
        - `embedding_size`: size of the embedding; 0 for one-hot input.
        - `optimizer`: sgd (default, as in the book), adam or adamw.
        - `momentum`: momentum of sgd.
        - `tied`: share the embedding's weights with the output layer.
        - `weight_decay`: weight decay of adamw, 0.01 by default.
        - `recurrent_lr`: learning rate of the recurrent layers with adamw, `lr` by default.
        """
        # Raises for invalid values.
        Optimizer.given(optimizer, lr, momentum, weight_decay, recurrent_lr)
        check_language_model(rnn, tied, embedding_size)
        super(RNNLMScratch, self).__init__()  # the framework's Classifier
        self.save_hyperparameters()
        self.init_params()


def optimizer_of(model: Any) -> Optimizer:
    """The optimizer named by an RNNLM's attributes."""
    settings = model.momentum, model.weight_decay, model.recurrent_lr
    return Optimizer.given(model.optimizer, model.lr, *settings)


def layers_of(classes: Any, arch: Architecture, **options: Any) -> Any:
    """Recurrent layers of an architecture, of a framework's `classes`, with more arguments."""
    sizes = {"num_hiddens": arch.hidden, "num_layers": arch.layers}
    return make_layers(classes, arch.cell, **sizes, **options)


def architecture_of(model: Any, cell: str, hidden: int, layers: int) -> Architecture:
    """Architecture of a language model whose layers have this cell and these sizes."""
    own = ModelAttributes.of(model)
    return Architecture(cell, model.vocab_size, hidden, layers, own.embedding_size, own.tied)


def builder(
    framework: str,
    make_model: Callable[..., Any],
    set_weights: Callable[[Any, Architecture, Weights], None],
) -> Callable[..., Any]:
    """Make the function `build` of a framework.

    - `framework`: its name.
    - `make_model(arch, options, seed, **arguments)`: makes an RNNLM with these options for its
      layers and these arguments.
    - `set_weights(model, arch, values)`: sets its weights by canonical name.
    """

    def build(arch: Architecture, values: Weights, *, seed: int = 0, **options: Any) -> Any:
        """Language model of an architecture with these weights.

        - `seed`: seed of dropout.
        - `options`: values of fields of `ModelOptions` and `Optimizer`, such as `dropout=0.2` and
          `optimizer="adam"`. The learning rate is 0.01 by default.
        """
        given = {"lr": LR, **options}
        named = {
            each.name: given.pop(each.name) for each in fields(Optimizer) if each.name in given
        }
        optimizer, chosen = Optimizer(**named), ModelOptions(**given)
        check_precision(chosen.precision, framework)
        values = weights.checked(values, arch)
        sizes = {"vocab_size": arch.vocab, "embedding_size": arch.embedding, "tied": arch.tied}
        model = make_model(arch, chosen, seed, **sizes, **asdict(optimizer))
        model.options = chosen
        set_weights(model, arch, values)
        return model

    return build
