"""The run directory of an encoder-decoder: as a language model's, with two vocabularies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elman.data.pair_texts import PairTexts
from elman.errors import ElmanError
from elman.files import atomic
from elman.model import encoder_decoder
from elman.model.encoder_decoder import PARTS, PairArchitecture
from elman.model.weights import Weights, load_checked
from elman.runs import run
from elman.runs.frameworks import (
    check_has_pairs,
    default_for_pairs,
    framework_module,
)
from elman.runs.records import PairConfig, TrainingRecord
from elman.runs.run import WEIGHTS
from elman.text import pair_codec
from elman.text.pair_codec import PADDING, PairCodec
from elman.training.history import Epoch


@dataclass(frozen=True)
class PairRun:
    """A trained encoder-decoder.

    - `model`: a Seq2Seq of the framework.
    - `data`: a PairsFile of the framework without pairs. It reads sources: `build`, `num_steps`,
      `src_vocab`, `tgt_vocab`, `to_tensor`, and `pair_codec`, their tokenizers and vocabularies.
    - `config`: content of config.json.
    """

    model: Any
    data: Any
    config: PairConfig


def load_pair_run(folder: Path, framework: str | None = None) -> PairRun:
    """Load the model of a run of pairs into a framework, by default an installed one."""
    config = run.read_pair_config(folder)
    framework = framework or default_for_pairs()
    check_has_pairs(framework)
    codec = read_codec(folder, config)
    values = read_weights(folder, config.architecture)
    module = framework_module(framework)
    padding = codec.target.vocab[PADDING]
    model = module.build_seq2seq(config.architecture, values, tgt_pad=padding)
    model.codec = codec
    data = module.PairsFile.of(without_pairs(codec), codec, batch_size=1)
    return PairRun(model, data, config)


def without_pairs(codec: PairCodec) -> PairTexts:
    """No pairs, for a data set that only reads texts."""
    return PairTexts([], [], 0, (codec.source.tokenizer, codec.target.tokenizer))


def read_codec(folder: Path, config: PairConfig) -> PairCodec:
    """Read both vocabularies of a run of pairs, and the tokenizers that were learned."""
    arch = config.architecture
    sizes = arch.source_vocab, arch.target_vocab
    names = config.tokenizer, config.target_tokenizer
    return pair_codec.read(folder, sizes, names, config.num_steps)


def read_weights(folder: Path, arch: PairArchitecture) -> dict[str, Weights]:
    """Read the weights of the encoder and of the decoder."""
    wanted = encoder_decoder.shapes(arch)
    named = {f"{part}.{name}": wanted[part][name] for part in PARTS for name in wanted[part]}
    values = load_checked(folder / WEIGHTS, named, str(arch))
    return {part: {name: values[f"{part}.{name}"] for name in own} for part, own in wanted.items()}


def write(
    folder: Path,
    arch: PairArchitecture,
    values: Mapping[str, Weights],
    codec: PairCodec,
    training: TrainingRecord | None,
    history: Sequence[Epoch],
) -> None:
    """Fill `folder` with a run of pairs except for the curves; config.json comes last."""
    names = codec.source.tokenizer.name, codec.target.tokenizer.name
    config = PairConfig(arch, *names, codec.num_steps, training)
    pair_codec.write(folder, codec)
    flat = {f"{part}.{name}": value for part in PARTS for name, value in values[part].items()}
    run.write_model(folder, config, flat, history)


def save(folder: Path, model: Any, module: Any, history: Sequence[Epoch]) -> None:
    """Write a trained or loaded Seq2Seq of a framework's module into a new run directory."""
    codec = model.codec
    if not isinstance(codec, PairCodec):
        raise ElmanError(
            "an encoder-decoder must be trained on a PairsFile or loaded to be saved: fit it first"
        )
    parts = model.encoder, model.decoder
    if not all(map(isinstance, parts, (module.Seq2SeqEncoder, module.Seq2SeqDecoder))):
        found = " and ".join(type(part).__name__ for part in parts)
        raise ElmanError(
            f"an encoder-decoder must have a Seq2SeqEncoder and a Seq2SeqDecoder to be saved, got "
            f"{found}: save one of your own with its framework"
        )
    for part in parts:
        check_own_methods(type(part))
    values = module.seq2seq_weights(model)
    arch = architecture_of(values)
    encoder_decoder.check(values, arch)
    sizes = len(codec.source.vocab), len(codec.target.vocab)
    if sizes != (arch.source_vocab, arch.target_vocab):
        raise ElmanError(
            f"a model must have as many tokens as its pairs, got {arch.source_vocab} and "
            f"{arch.target_vocab} for {sizes[0]} and {sizes[1]}: use the sizes of the vocabularies"
        )
    with atomic.new_folder(folder) as part:
        write(part, arch, values, codec, None, history)
        run.draw(part, history)


def check_own_methods(kind: type) -> None:
    """Raise an ElmanError for an encoder or decoder that does not compute what elman's does.

    Those are subclasses that replace a method or a property.
    """
    ours = next(each for each in kind.__mro__ if each.__module__.startswith("elman."))
    for each in kind.__mro__[: kind.__mro__.index(ours)]:
        for name, value in vars(each).items():
            is_own = hasattr(ours, name) and (callable(value) or isinstance(value, property))
            if is_own and (name == "__call__" or not name.startswith("_")):
                raise ElmanError(
                    f"an encoder-decoder must compute what elman's does to be saved, got "
                    f"{kind.__name__} with its own {name}: save one of your own with its framework"
                )


def architecture_of(values: Mapping[str, Weights]) -> PairArchitecture:
    """The architecture that has weights of these shapes."""
    encoder, decoder = (values[part] for part in PARTS)
    source_vocab, embedding = encoder["embedding.weight"].shape
    target_vocab, hidden = decoder["dense.weight"].shape
    layers = sum(name.startswith("rnn.weight_ih_l") for name in encoder)
    attention = "attention.W_q.weight" in decoder
    return PairArchitecture(source_vocab, target_vocab, embedding, hidden, layers, attention)
