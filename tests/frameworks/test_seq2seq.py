"""Encoder-decoders agree between frameworks, count no padding, and predict."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elman.data.batches import Batch
from elman.errors import ElmanError
from elman.inference import language_model
from elman.model import weights
from elman.training.callback import Callback
from tests import pairs
from tests.pairs import ATTENTION_LOSSES, LOSSES, STEPS, fit, model_for

BOOKS = ("torch", "tensorflow", "jax", "mxnet")


@pytest.fixture(autouse=True)
def only_the_books(framework: str) -> None:
    if framework not in BOOKS:
        pytest.skip("the book is not written for this one")


@pytest.fixture
def data(module: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    return pairs.small_data(module, monkeypatch)


def logits_of(module: Any, model: Any, framework: str, inputs: Any) -> np.ndarray:
    """Logits for sources, tokens of targets and lengths, (batch, steps, vocab), without dropout."""
    with model.evaluating():
        if framework == "jax":
            return np.asarray(model.apply({"params": model.params}, *inputs))
        return np.asarray(module.numpy(model(*inputs)))


def predicted(module: Any, model: Any, framework: str, batch: Any, steps: int) -> np.ndarray:
    """Ids of `predict_step`, (batch, steps)."""
    if framework == "jax":
        return np.asarray(model.predict_step(model.params, batch, steps)[0])
    return np.asarray(module.numpy(model.predict_step(batch, module.cpu(), steps)[0]))


@pytest.mark.parametrize("attention", [False, True])
def test_weights_are_those_that_were_given(module: Any, data: Any, attention: bool) -> None:
    found = module.seq2seq_weights(model_for(module, data, layers=2, attention=attention))
    wanted = weights.initial(pairs.architecture_of(data, 32, 2, 16, attention), seed=1)
    assert found.keys() == wanted.keys()
    assert all((found[name] == value).all() for name, value in wanted.items())


def test_wrong_weights_and_rates_are_refused(module: Any, data: Any) -> None:
    arch = pairs.architecture_of(data, 32, 1, 16)
    values = weights.initial(replace(arch, layers=2))
    with pytest.raises(ElmanError, match=r"the weight decoder\.rnn\.bias_hh_l1 does not belong"):
        module.build_seq2seq(arch, values, tgt_pad=0)
    with pytest.raises(ElmanError, match=r"the weight decoder\.attention\.W_k\.weight is missing"):
        module.build_seq2seq(replace(arch, layers=2, attention=True), values, tgt_pad=0)
    with pytest.raises(ElmanError, match="attention must be true or false, got 1"):
        replace(arch, attention=1)  # type: ignore[arg-type]
    with pytest.raises(ElmanError, match="must have the cell gru and no tied weights, got lstm"):
        replace(arch, cell="lstm")
    with pytest.raises(ElmanError, match="attention requires a source"):
        replace(arch, source_vocab=0, attention=True)
    with pytest.raises(ElmanError, match="lr must be a finite number above 0, got 0"):
        model_for(module, data, lr=0).configure_optimizers()


def test_all_frameworks_follow_the_same_losses(module: Any, data: Any) -> None:
    _, losses = fit(module, model_for(module, data, layers=2), data, 13)
    assert losses[:50] == pytest.approx(LOSSES, abs=1e-3)


def test_all_frameworks_follow_the_same_losses_with_attention(module: Any, data: Any) -> None:
    _, losses = fit(module, model_for(module, data, layers=2, attention=True), data, 13)
    assert losses[:50] == pytest.approx(ATTENTION_LOSSES, abs=1e-3)


def test_attention_is_computed_as_in_numpy(module: Any, framework: str, data: Any) -> None:
    model = model_for(module, data, layers=2, attention=True)
    batch = data.build(["One hundred two!", "Ten!"], ["Cent deux !", "Dix !"])
    found = logits_of(module, model, framework, batch[:3])
    values = module.seq2seq_weights(model)
    src, tokens, lengths = (data.to_array(each) for each in batch[:3])
    encoder, decoder = (weights.of_part(part, values) for part in ("encoder.", "decoder."))
    hidden = np.zeros((2, 2, 32))  # (layers, batch, hidden)
    outputs = []
    for ids in src.T:
        hidden = gru_step(encoder, encoder["embedding.weight"][ids], hidden)
        outputs.append(hidden[-1])
    memory = np.stack(outputs)  # (steps, batch, hidden)
    hidden = np.stack([memory[lengths - 1, np.arange(2)]] * 2)
    valid = np.arange(STEPS)[:, None] < lengths
    keys = memory @ decoder["attention.W_k.weight"].T
    for step, ids in enumerate(tokens.T):
        features = np.tanh(keys + hidden[-1] @ decoder["attention.W_q.weight"].T)
        scores = (features @ decoder["attention.w_v.weight"].T)[..., 0]
        shares = np.where(valid, np.exp(scores), 0)
        context = (shares[..., None] * memory).sum(0) / shares.sum(0)[:, None]
        inputs = np.concatenate([decoder["embedding.weight"][ids], context], axis=1)
        hidden = gru_step(decoder, inputs, hidden)
        logits = hidden[-1] @ decoder["dense.weight"].T + decoder["dense.bias"]
        assert found[:, step] == pytest.approx(logits, abs=1e-5)


def gru_step(values: Any, inputs: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """States of all layers after a step, (layers, batch, hidden)."""
    after = []
    for layer, state in enumerate(hidden):
        of_inputs, of_state = (
            x @ values[f"rnn.weight_{kind}_l{layer}"].T + values[f"rnn.bias_{kind}_l{layer}"]
            for kind, x in (("ih", inputs), ("hh", state))
        )
        (r_x, z_x, n_x), (r_h, z_h, n_h) = (np.split(x, 3, 1) for x in (of_inputs, of_state))
        r, z = (1 / (1 + np.exp(-x)) for x in (r_x + r_h, z_x + z_h))
        inputs = (1 - z) * np.tanh(n_x + r * n_h) + z * state
        after.append(inputs)
    return np.stack(after)


def test_with_attention_padding_of_the_source_changes_no_logit(
    module: Any, framework: str, data: Any
) -> None:
    model = model_for(module, data, layers=2, attention=True)
    src, tokens, lengths, _ = map(data.to_array, data.build(["One hundred two!", "Ten!"], [""] * 2))
    short = src[:, : lengths.max()]
    assert short.shape[1] < src.shape[1]
    padded, wanted = (
        logits_of(
            module, model, framework, [data.to_tensor(each) for each in (ids, tokens, lengths)]
        )
        for ids in (src, short)
    )
    assert padded == pytest.approx(wanted, abs=1e-6)


def test_weights_of_attention_sum_to_one_over_the_tokens_of_the_source(
    module: Any, framework: str, data: Any
) -> None:
    model = model_for(module, data, attention=True)
    batch = data.build(["One hundred two!", "Ten!"], [""] * 2)
    if framework == "jax":
        _, (kept, of_encoder) = model.predict_step(model.params, batch, 3, True)
        assert of_encoder == []
    else:
        _, kept = model.predict_step(batch, module.cpu(), 3, True)
    weights = np.stack([data.to_array(each) for each in kept])
    assert weights.shape == (3, 1, 2, 1, STEPS)  # each call decodes one token
    is_token = np.arange(STEPS) < data.to_array(batch[2])[:, None, None]
    assert (weights * ~is_token == 0).all()
    assert (weights[:, :, is_token] > 0).all()
    assert weights.sum(axis=-1) == pytest.approx(1, abs=1e-6)


def test_padding_counts_in_no_loss_and_no_number_of_tokens(
    module: Any, framework: str, data: Any
) -> None:
    model = model_for(module, data)
    trainer, losses = fit(module, model, data, 1)
    (batch,) = data.val_dataloader()
    targets = np.asarray(data.to_array(batch.targets))
    counts = targets != data.tgt_vocab["<pad>"]
    logits = logits_of(module, model, framework, batch[:-1]).astype(np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    each = -np.take_along_axis(log_probabilities, targets[..., None], axis=-1)[..., 0]
    assert trainer.history[-1].val_loss == pytest.approx(each[counts].mean(), rel=1e-5)
    tokens = sum(each.num_targets for each in data.train_dataloader())
    assert trainer.history[-1].tokens == tokens == int(sum(map(np.sum, masks(data))))
    assert len(losses) == 4


def masks(data: Any) -> list[np.ndarray]:
    padding = data.tgt_vocab["<pad>"]
    batches = data.train_dataloader()
    return [np.asarray(data.to_array(batch.targets)) != padding for batch in batches]


def test_without_a_mask_the_padding_is_left_out_all_the_same(module: Any, data: Any) -> None:
    plain = type(data).__new__(type(data))
    vars(plain).update(vars(data))
    plain.get_dataloader = lambda train: [
        Batch(batch.inputs, batch.targets) for batch in type(data).get_dataloader(data, train)
    ]
    found = [fit(module, model_for(module, data), each, 1)[1] for each in (data, plain)]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_each_predicted_token_is_the_likeliest_after_those_before(
    module: Any, framework: str, data: Any
) -> None:
    model = model_for(module, data)
    fit(module, model, data, 2)
    sources = [source for source, _ in pairs.sentences()[:5]]
    batch = data.build(sources, [""] * 5)
    found = predicted(module, model, framework, batch, STEPS)
    assert found.shape == (5, STEPS)
    begin = np.full((5, 1), data.tgt_vocab["<bos>"])
    tokens = np.concatenate([begin, found[:, :-1]], axis=1).astype(data.id_type)
    inputs = (batch[0], data.to_tensor(tokens), batch[2])
    assert (logits_of(module, model, framework, inputs).argmax(axis=-1) == found).all()


def test_greedy_prediction_ends_where_the_model_ends_it(
    module: Any, framework: str, data: Any
) -> None:
    model = model_for(module, data)
    fit(module, model, data, 2)
    sources = [source for source, _ in pairs.sentences()[:5]]
    rows = predicted(module, model, framework, data.build(sources, [""] * 5), STEPS)
    words = [data.tgt_vocab.to_tokens(row.tolist()) for row in rows]
    wanted = [row[: row.index("<eos>")] if "<eos>" in row else row for row in words]
    assert model.predict(sources, data) == [" ".join(row) for row in wanted]


@pytest.mark.parametrize(("length_penalty", "attention"), [(0, False), (1, False), (1, True)])
def test_beam_search_finds_what_an_exhaustive_search_finds(
    module: Any,
    framework: str,
    monkeypatch: pytest.MonkeyPatch,
    length_penalty: float,
    attention: bool,
) -> None:
    few = "One.\tUn.\n" * 3
    sizes = {"batch_size": 1, "num_steps": 3, "num_train": 1, "num_val": 1}
    data = pairs.data_of(module, monkeypatch, few, **sizes)
    arch = pairs.architecture_of(data, 6, 2, 4, attention)
    # A model that is surer of itself than a new one.
    values = {name: 4 * value for name, value in weights.initial(arch, seed=3).items()}
    model = module.build_seq2seq(arch, values, tgt_pad=data.tgt_vocab["<pad>"])
    src, inputs, lengths, _ = (data.to_array(each) for each in data.build(["One."], [""]))
    every = np.array(list(itertools.product(range(arch.vocab), repeat=3)))
    tokens = np.concatenate([np.full((len(every), 1), inputs[0, 0]), every[:, :-1]], axis=1)
    arrays = (np.repeat(src, len(every), 0), tokens, np.repeat(lengths, len(every), 0))
    arrays = tuple(data.to_tensor(each.astype(data.id_type)) for each in arrays)
    gains = language_model.log_probabilities(logits_of(module, model, framework, arrays))
    gains = np.take_along_axis(gains, every[..., None], axis=-1)[..., 0]  # (targets, steps)
    end = data.tgt_vocab["<eos>"]
    scores = {}
    for ids, gain in zip(every.tolist(), gains, strict=True):
        length = ids.index(end) + 1 if end in ids else len(ids)
        scores[tuple(ids[:length])] = gain[:length].sum() / length**length_penalty
    best = max(scores, key=lambda ids: scores[ids])
    words = data.tgt_vocab.to_tokens([token for token in best if token != end])
    found = model.predict(["One."], data, beams=len(every), length_penalty=length_penalty)
    assert found == [" ".join(words)]


@pytest.mark.core
def test_pairs_of_ones_own_are_learned_by_characters(module: Any, tmp_path: Path) -> None:
    path = tmp_path / "plurals.tsv"
    words = ["".join(letters) for letters in itertools.product("bdg", "aeiou", "nrt")]
    path.write_text("".join(f"{word}\t{word}s\n" for word in words), encoding="utf-8")
    data = module.PairsFile(str(path), batch_size=8)
    model = model_for(module, data, lr=0.02)
    fit(module, model, data, 30)
    written = model.predict(words, data)
    assert sum(text == f"{word}s" for text, word in zip(written, words, strict=True)) > 30


def test_wrong_sentences_and_beams_are_refused(module: Any, data: Any) -> None:
    model = model_for(module, data)
    with pytest.raises(ElmanError, match=r"sentences must be a list of str, got 'One\.'"):
        model.predict("One.", data)
    with pytest.raises(ElmanError, match="beams must be 1 or more, got 0"):
        model.predict(["One."], data, beams=0)
    with pytest.raises(ElmanError, match="beams must be 256 or less"):
        model.predict(["One."], data, beams=1000)
    for penalty in (-1, 400):
        with pytest.raises(ElmanError, match=f"a number from 0 to 10, got {penalty}"):
            model.predict(["One."], data, length_penalty=penalty)
    for sentence in ("Go\there.", "Go.\nHere.", 3):
        with pytest.raises(ElmanError, match="must be a str without tabs and line breaks"):
            model.predict([sentence], data)


def test_dropout_acts_in_training_and_not_in_validation(
    module: Any, framework: str, data: Any
) -> None:
    plain, dropped = (
        fit(module, model_for(module, data, layers=2, dropout=share, seed=3), data, 1)[1]
        for share in (0, 0.9)
    )
    assert abs(dropped[0] - plain[0]) > 1e-4
    model = model_for(module, data, layers=2, dropout=0.9)
    (batch,) = data.val_dataloader()
    once, again = (logits_of(module, model, framework, batch[:-1]) for _ in range(2))
    assert (once == again).all()


class Stop(Callback):
    """Keeps a checkpoint after some updates."""

    def __init__(self, updates: int) -> None:
        self.updates = updates
        self.kept: Any = None

    def on_checkpoint(self, trainer: Any) -> None:
        """Keep it."""
        if trainer.train_batch_idx == self.updates and self.kept is None:
            self.kept = trainer.checkpoint_arrays(), trainer.trainer_state()


@pytest.mark.parametrize(
    ("dropout", "attention"),
    [
        pytest.param(0, False, marks=pytest.mark.core),
        pytest.param(0.3, False, marks=pytest.mark.core),
        (0.3, True),
    ],
)
def test_a_resumed_training_ends_in_the_same_bits(
    module: Any, data: Any, dropout: float, attention: bool
) -> None:
    def made(seed: int) -> Any:
        options = {"dropout": dropout, "attention": attention}
        return model_for(module, data, layers=2, seed=seed, **options)

    stop, model = Stop(6), made(seed=7)
    trainer = module.Trainer(3, gradient_clip_val=1)
    trainer.callbacks = (stop,)
    trainer.fit(model, data)
    wanted = module.seq2seq_weights(model)
    assert stop.kept is not None
    model = made(seed=8)  # of what dropout drops, which the checkpoint replaces
    module.Trainer(3, gradient_clip_val=1).fit(model, data, resume=stop.kept)
    found = module.seq2seq_weights(model)
    assert all((wanted[name] == value).all() for name, value in found.items())


def test_a_loss_of_ones_own_that_finds_padding_by_its_id_trains(
    module: Any, framework: str, data: Any
) -> None:
    if framework == "jax":
        pytest.skip("its loss has other arguments; the built-in one is of the same kind")

    class OwnLoss(module.Seq2Seq):  # type: ignore[misc]
        def loss(self, Y_hat: Any, Y: Any) -> Any:
            losses = module.EncoderDecoder.loss(self, Y_hat, Y, averaged=False)
            counts = module.astype(module.reshape(Y, (-1,)) != self.tgt_pad, module.float32)
            return module.reduce_sum(losses * counts) / module.reduce_sum(counts)

    vocabularies = len(data.src_vocab), len(data.tgt_vocab)
    encoder = module.Seq2SeqEncoder(vocabularies[0], 8, 16, 1)
    decoder = module.Seq2SeqDecoder(vocabularies[1], 8, 16, 1)
    model = OwnLoss(encoder, decoder, tgt_pad=data.tgt_vocab["<pad>"], lr=0.01)
    trainer, _ = fit(module, model, data, 2)
    assert trainer.history[-1].val_loss < trainer.history[0].val_loss
