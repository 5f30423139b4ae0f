"""Types of the options of a training, for editors: made by `tests.api.typed_options`."""

import os
from collections.abc import Sequence
from typing import TypedDict

from elman.core.text.in_memory import TextLike


class TrainOptions(TypedDict, total=False):
    """The options of a training, each as in `elman train --help`; None is not given."""

    split: str | Sequence[float] | None
    """Shares of the text for training, validation and, if there is a third, the test. [default:
    0.8,0.1,0.1]
    """
    val: TextLike | None
    """File of the validation part; the text is for training alone."""
    test: TextLike | None
    """File of the test part; the text has 0.9 for training and 0.1 for validation by default."""
    lines: bool | None
    """Each line is a sequence of its own, such as a name, a sentence or a molecule."""
    edition: str | None
    """The Time Machine's edition: gutenberg or d2l. [default: gutenberg]"""
    recipe: str | None
    """auto chooses for the text, the time and this machine all that is not given; book takes the
    defaults that stand here, which are the book's. [default: auto for a text of your own]
    """
    tokenizer: str | None
    """Tokens of a file: char, byte, word or bpe. [default: chosen for the text; the book's is
    char or bpe, by the size of the text; char with --recipe book]
    """
    vocab_size: int | None
    """Tokens of the vocabulary, the most frequent ones; bpe learns this many. [default: chosen
    for the text; the book's is all; 4096 for bpe]
    """
    min_freq: int | None
    """Tokens that are less frequent in the training part become <unk>. [default: 2 for word, 1
    for char]
    """
    newlines: str | None
    """universal reads the line ends CR LF and CR as LF, keep leaves them as they are. [default:
    universal]
    """
    cell: str | None
    """Recurrent cell: rnn, rnn-relu, gru, lstm or mingru, or the name of an entry point of the
    group elman.cells that an installed package has. [default: chosen for the text; the book's
    is 'rnn']
    """
    hidden: int | None
    """Hidden units of a layer. [default: chosen for the text; the book's is 32]"""
    layers: int | None
    """Recurrent layers. [default: chosen for the text; the book's is 1]"""
    embedding: int | None
    """Size of the embedding; 0 is one-hot input. [default: chosen for the text; the book's is 0]"""
    tied: bool | None
    """Use the embedding as the output layer's weight, too."""
    dropout: float | None
    """Share of outputs dropped between layers in training. [default: chosen for the text; the
    book's is 0.0]
    """
    input_dropout: float | None
    """Share of an embedding's features dropped in training, the same in all of a window.
    [default: chosen for the text; the book's is 0.0]
    """
    output_dropout: float | None
    """Share of the last layer's outputs dropped in training, the same in all of a window.
    [default: chosen for the text; the book's is 0.0]
    """
    precision: str | None
    """Precision of the factors of matrix products: single or bf16; bf16 is for numba and numpy.
    [default: chosen for the text; the book's is 'single']
    """
    seq_len: int | None
    """Tokens of a window, or of a line at most. [default: chosen for the text; the book's is 32,
    and 256 of a line]
    """
    batch_size: int | None
    """Windows, or lines, of a batch. [default: chosen for the text; the book's is 1024]"""
    batching: str | None
    """Windows of a batch: random or contiguous; contiguous ones continue from the state of those
    before. [default: chosen for the text; the book's is 'random']
    """
    epochs: int | None
    """Passes over the training part; unlimited if only minutes are given. [default: chosen for
    the text; the book's is 100]
    """
    minutes: float | None
    """Time budget of the training. [default: chosen for the text; the book's is None]"""
    patience: int | None
    """Training ends after this number of validations without a lower loss."""
    schedule: str | None
    """Learning rate schedule: constant, cosine or plateau. [default: chosen for the text; the
    book's is 'constant']
    """
    warmup: float | None
    """Share of the training in which the learning rate rises. [default: chosen for the text; the
    book's is 0.0]
    """
    clip: float | None
    """Bound of the gradient's norm; 0 is none. [default: 1.0]"""
    optimizer: str | None
    """Optimizer: sgd, adam or adamw. [default: chosen for the text; the book's is 'sgd']"""
    lr: float | None
    """Learning rate. [default: chosen for the text; the book's is 1 with sgd, 0.005 with adam or
    adamw]
    """
    momentum: float | None
    """Momentum of sgd."""
    weight_decay: float | None
    """Weight decay of adamw. [default: chosen for the text; the book's is 0.01 with adamw]"""
    framework: str | None
    """Framework: numba, numpy, torch, tensorflow, jax or mxnet. [default: 'numba']"""
    device: str | None
    """Device: auto, cpu or gpu. [default: 'auto']"""
    shards: int | None
    """Parts of a batch, a power of two, of which each worker computes some; their number, and
    not that of the workers, decides the bits of the model. [default: as many as workers, or
    the next power of two]
    """
    partition_optimizer: bool | None
    """Each worker has a part of the optimizer's state alone (ZeRO, stage 1), which takes less
    memory, and more exchange.
    """
    seed: int | None
    """Seed of the weights and the batches."""
    init: str | os.PathLike[str] | None
    """Start from the model of this finished run: its weights, architecture, tokens and lines."""
    log: str | None
    """Also write curves, samples and histograms into the run directory, for tensorboard.
    [default: no such log]
    """
