"""Losses of variants of a GRU and of its training in PyTorch, after the same operations.

    python benchmarks/variants.py [--seeds N] [--operations N] TEXT VARIANT ...

TEXT is one of quality_texts.py: long ones are read in 2,048 byte pairs, the others in characters.
A VARIANT of the model is one of

- gru: an embedding, a GRU layer, an output layer, as `elman train` chooses;
- skip: the output layer also reads the embedding;
- layer-norm: layer normalization of both parts of the gates (Ba et al. 2016);
- rms-norm: the same without means (Zhang and Sennrich 2019);
- input-norm, embedding-norm, output-norm: only of the input's part, of the embedding, or of the
  outputs, without means;
- input-scale: embeddings scaled such that the input's part has a mean square of 1 (the product for
  the scale is not counted);
- residual: two narrower layers, each added to its input;
- bottleneck: more units, and an output layer of two factors, half as many features between them;
- tied: an output layer that shares the embedding, through a matrix;
- mingru: three blocks of minGRU (Feng et al. 2024), each added to its normalized input.

Hidden units are chosen so that a token takes as many operations. One of the GRU's training is

- average: validation has a moving average of the weights of the second half;
- tail: the rate stays, and validation has the mean weights of the last quarter;
- trapezoid: the rate stays, and falls to zero in the last 30 % of the updates;
- growing-batch: a third of the operations each with 4, 8 and 16 sequences;
- growing-sequences: a quarter each with 32, 16, 8 and 4 sequences of 16, 32, 64 and 128 tokens.

An update has 8 sequences of 64 tokens from stretches of the text in random order, AdamW with a
cosine, and the rates and decay that `elman train` chooses for the GRU. Prints a row for each
variant: its sizes, nats for each character of the validation part with every seed, their mean, and
how much lower it is than that of the first.
"""

import argparse
import statistics
from collections.abc import Iterator

import torch
from bare.characters import CLIP, prepare, rate, read
from bare.torch_lstm import stream_loss
from quality import FOLDER
from quality_texts import TEXTS, parts
from reporting import print_header, print_machine, print_row
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from variant_models import Model, Rates, Sizes, like

SIZES = {  # as chosen for half a minute at 100 GFLOP/s
    "long": Sizes(2048, 1, 128, 128, Rates(0.022, 0.011, 0.067), 0.0, 0.0),
    "short": Sizes(0, 4, 224, 64, Rates(0.0157, 0.0083, 0.077), 0.01, 0.3),
    "lines": Sizes(0, 4, 224, 64, Rates(0.0166, 0.0083, 0.073), 0.0, 0.0),
}
MODELS = [
    "gru",
    "skip",
    "layer-norm",
    "rms-norm",
    "input-norm",
    "input-scale",
    "embedding-norm",
    "output-norm",
    "residual",
    "bottleneck",
    "tied",
    "mingru",
]
STEPS = 64
STAGES = {  # sequences and steps of each stage of a training
    "growing-batch": [(4, STEPS), (8, STEPS), (16, STEPS)],
    "growing-sequences": [(32, 16), (16, 32), (8, 64), (4, 128)],
}
USUAL = [(8, STEPS)]
TRAININGS = ["average", "tail", "trapezoid", *STAGES]
WARMUP = 0.02
AVERAGED = 0.998  # of a moving average that an update keeps
AVERAGED_FROM = {"average": 0.5, "tail": 0.75}  # share of a training before its averaged part
FALL = 0.7  # share of a training before the rate of a trapezoid falls
READ = 150_000  # tokens of the validation part


def stretches(
    ids: Tensor, batch: int, steps: int, windows: int
) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Ids and targets, (steps, batch), and whether they begin stretches; for ever."""
    length = windows * steps
    while True:
        start = int(torch.randint(length, ()))
        number = (len(ids) - start - 1) // length
        X = ids[start : start + number * length].view(number, length)
        Y = ids[start + 1 : start + 1 + number * length].view(number, length)
        for rows in torch.randperm(number).split(batch):
            if len(rows) == batch:
                for at in range(0, length, steps):
                    cut = slice(at, at + steps)
                    yield X[rows, cut].T, Y[rows, cut].T, at == 0


def factor(variant: str, share: float) -> float:
    """Factor of the learning rate when this share of the updates is over."""
    if variant not in ("trapezoid", "tail") or share < WARMUP:
        return rate(share, WARMUP)
    return 1.0 if variant == "tail" else min(1.0, (1 - share) / (1 - FALL))


def optimizer_of(model: Model) -> torch.optim.Optimizer:
    """AdamW whose rate of recurrent layers is another, with the same decay of all weights."""
    rates, recurrent = model.sizes.rates, list(model.layers.parameters())
    others = [weight for name, weight in model.named_parameters() if not name.startswith("layers.")]
    decay = rates.decay * rates.others  # that an update takes of a weight at the highest rate
    groups = [
        {"params": weights, "peak": peak, "weight_decay": decay / peak}
        for weights, peak in ((others, rates.others), (recurrent, rates.recurrent))
    ]
    return torch.optim.AdamW(groups, fused=True)


def average_of(variant: str, model: Model) -> AveragedModel | None:
    """The averaged weights of a variant: a moving average, or the mean; None if it has none."""
    if variant == "average":
        return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGED))
    return AveragedModel(model) if variant == "tail" else None


def learn(model: Model, variant: str, ids: Tensor, operations: float) -> None:
    """Train with so many operations; the model ends with averaged weights if the variant has."""
    sizes, stages = model.sizes, STAGES.get(variant, USUAL)
    optimizer, averaged = optimizer_of(model), average_of(variant, model)
    for number, (batch, steps) in enumerate(stages):
        updates = int(operations / len(stages) / (6 * model.products() * batch * steps))
        batches = stretches(ids, batch, steps, max(1, sizes.windows * STEPS // steps))
        state = None
        for update, (X, Y, begins) in zip(range(updates), batches, strict=False):
            share = (number + update / updates) / len(stages)
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor(variant, share)
            state = None if begins or state is None else [each.detach() for each in state]
            losses, state = model(X, Y, state)
            optimizer.zero_grad()
            losses.mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            if averaged and share > AVERAGED_FROM[variant]:
                averaged.update_parameters(model)
    if averaged:
        model.load_state_dict(averaged.module.state_dict())


def main() -> None:
    """Train each variant with every seed; print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--operations", type=float, default=2.7e12)
    parser.add_argument("text", choices=TEXTS)
    parser.add_argument("variants", nargs="+", choices=[*MODELS, *TRAININGS])
    asked = parser.parse_args()
    sizes = SIZES[TEXTS[asked.text].kind]
    texts = read(*parts(asked.text, FOLDER), sizes.pairs)
    held_out = texts.validation[:READ]
    characters = texts.predicted * len(held_out) / len(texts.validation)
    print_machine({})
    seeds = [f"seed {n}" for n in range(asked.seeds)]
    print_header(["text", "variant", "units", "weights", *seeds, "mean", "gain"])
    first = None
    for variant in asked.variants:
        found = []
        for seed in range(asked.seeds):
            prepare(seed)
            model = like(variant, texts.vocab, sizes)
            learn(model, variant, texts.training, asked.operations)
            model.eval()
            found.append(stream_loss(model, held_out)[0] / characters)
        mean = statistics.mean(found)
        first = mean if first is None else first
        count = sum(weight.numel() for weight in model.parameters())
        shown = [f"{each:.4f}" for each in (*found, mean)]
        print_row([asked.text, variant, model.hidden, f"{count:,}", *shown, f"{first - mean:+.4f}"])


if __name__ == "__main__":
    main()
