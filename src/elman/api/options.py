"""Types of the options of a training, for editors: made by `tests.api.typed_options`."""

import os
from collections.abc import Sequence
from typing import TypedDict

from elman.text.in_memory import TextLike


class TrainOptions(TypedDict, total=False):
    """The options of a training, each as in `elman train --help`; None is not given."""

    split: str | Sequence[float] | None
    """Training, validation and test. [default: 0.8,0.1,0.1]"""
    val: TextLike | None
    """Validation text; the text is then only for training."""
    test: TextLike | None
    """Test text; the text is then split 0.9,0.1 by default."""
    lines: bool | None
    """Read each line as a separate sequence."""
    edition: str | None
    """Edition of The Time Machine: gutenberg or d2l. [default: gutenberg]"""
    recipe: str | None
    """auto or book. [default: auto for your own text]"""
    tokenizer: str | None
    """char, byte, word or bpe. [default: chosen for the text; the book's is char]"""
    vocab_size: int | None
    """Most frequent tokens to keep. [default: chosen for the text; the book's is all; bpe 4096]"""
    min_freq: int | None
    """Rarer tokens become <unk>. [default: word 2, char 1]"""
    newlines: str | None
    """universal reads CR LF and CR as LF; keep does not. [default: universal]"""
    pairs: bool | None
    """Learn the target after the tab of each line from the source before it."""
    target_tokenizer: str | None
    """char, word or bpe. [default: as the tokenizer]"""
    attention: str | None
    """additive or none: what the decoder reads. [default: additive for pairs]"""
    cell: str | None
    """rnn, rnn-relu, gru, lstm or mingru, or an installed cell. [default: chosen for the text;
    the book's is 'rnn']
    """
    hidden: int | None
    """Hidden units of each layer. [default: chosen for the text; the book's is 32]"""
    layers: int | None
    """Recurrent layers. [default: chosen for the text; the book's is 1]"""
    embedding: int | None
    """Embedding size; 0 is one-hot input. [default: chosen for the text; the book's is 0]"""
    tied: bool | None
    """Use the embedding as the output layer's weight."""
    dropout: float | None
    """Share of outputs dropped between layers. [default: chosen for the text; the book's is 0.0]"""
    input_dropout: float | None
    """Share of embedding features dropped. [default: chosen for the text; the book's is 0.0]"""
    output_dropout: float | None
    """Share of the last outputs dropped. [default: chosen for the text; the book's is 0.0]"""
    precision: str | None
    """single or bf16 (only numba, numpy). [default: chosen for the text; the book's is 'single']"""
    seq_len: int | None
    """Tokens of a window, at most of a line. [default: chosen for the text; the book's is 32;
    lines 256]
    """
    batch_size: int | None
    """Windows or lines of a batch. [default: chosen for the text; the book's is 1024]"""
    batching: str | None
    """random, contiguous or shuffled windows. [default: chosen for the text; the book's is
    'random']
    """
    epochs: int | None
    """Passes over the training part. [default: chosen for the text; the book's is 100]"""
    minutes: float | None
    """Time budget; 3 without epochs. [default: chosen for the text; the book's is none]"""
    patience: int | None
    """Stop after N validations without a lower loss."""
    schedule: str | None
    """constant, cosine or plateau. [default: chosen for the text; the book's is 'constant']"""
    warmup: float | None
    """Share of the training with a rising rate. [default: chosen for the text; the book's is
    0.0]
    """
    clip: float | None
    """Largest gradient norm; 0 is no bound. [default: 1.0]"""
    optimizer: str | None
    """sgd, adam or adamw. [default: chosen for the text; the book's is 'sgd']"""
    lr: float | None
    """Learning rate. [default: chosen for the text; the book's is 1 with sgd, 0.005 with adam or
    adamw]
    """
    momentum: float | None
    """Momentum of sgd."""
    weight_decay: float | None
    """Weight decay of adamw. [default: chosen for the text; the book's is 0.01 with adamw]"""
    recurrent_lr: float | None
    """Learning rate of the recurrent layers with adamw; weight decay is that of the other
    layers. [default: chosen for the text; the book's is the learning rate]
    """
    framework: str | None
    """numba, numpy, torch, tensorflow, jax or mxnet. [default: 'numba']"""
    device: str | None
    """auto, cpu or gpu. [default: 'auto']"""
    shards: int | None
    """Parts of a batch, a power of two, shared by the workers. [default: the workers, or the
    next power of two]
    """
    partition_optimizer: bool | None
    """Divide the optimizer's state among workers (ZeRO 1)."""
    seed: int | None
    """Seed of weights and batches."""
    init: str | os.PathLike[str] | None
    """Start from the model of this finished run."""
    log: str | None
    """Also write a log: tensorboard."""
