"""Encoder-decoders agree between frameworks, count no padding, and predict."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from elman.data.batches import Batch
from elman.errors import ElmanError
from elman.model import weights
from elman.training.callback import Callback
from tests import pairs
from tests.pairs import ATTENTION_LOSSES, LOSSES, STEPS, fit, model_for


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
    np.testing.assert_equal(found, wanted)


@pytest.mark.parametrize(("attention", "wanted"), [(False, LOSSES), (True, ATTENTION_LOSSES)])
def test_all_frameworks_follow_the_same_losses(
    module: Any, data: Any, attention: bool, wanted: list[float]
) -> None:
    _, losses = fit(module, model_for(module, data, layers=2, attention=attention), data, 13)
    assert losses[:50] == pytest.approx(wanted, abs=1e-3)


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
    padding = data.tgt_vocab["<pad>"]
    batches = list(data.train_dataloader())
    tokens = sum(int((data.to_array(each.targets) != padding).sum()) for each in batches)
    assert trainer.history[-1].tokens == tokens == sum(each.num_targets for each in batches)
    assert len(losses) == len(batches) == 4


def test_without_a_mask_the_padding_is_left_out_all_the_same(module: Any, data: Any) -> None:
    plain = type(data).__new__(type(data))
    vars(plain).update(vars(data))
    plain.get_dataloader = lambda train: [
        Batch(batch.inputs, batch.targets) for batch in type(data).get_dataloader(data, train)
    ]
    found = [fit(module, model_for(module, data), each, 1)[1] for each in (data, plain)]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_each_predicted_token_is_the_likeliest_and_a_prediction_ends_where_the_model_ends_it(
    module: Any, framework: str, data: Any
) -> None:
    model = model_for(module, data)
    fit(module, model, data, 2)
    sources = [source for source, _ in pairs.sentences()[:5]]
    batch = data.build(sources, [""] * 5)
    found = predicted(module, model, framework, batch, STEPS)
    begin = np.full((5, 1), data.tgt_vocab["<bos>"])
    tokens = np.concatenate([begin, found[:, :-1]], axis=1).astype(data.id_type)
    inputs = (batch[0], data.to_tensor(tokens), batch[2])
    likeliest = logits_of(module, model, framework, inputs).argmax(axis=-1)
    np.testing.assert_array_equal(found, likeliest)
    words = [data.tgt_vocab.to_tokens(row.tolist()) for row in found]
    wanted = [row[: row.index("<eos>")] if "<eos>" in row else row for row in words]
    assert model.predict(sources, data) == [" ".join(row) for row in wanted]


def test_wrong_weights_rates_sentences_and_beams_are_refused(module: Any, data: Any) -> None:
    arch, model = pairs.architecture_of(data, 32, 1, 16), model_for(module, data)
    values, more = weights.initial(arch), weights.initial(replace(arch, layers=2))
    attending = replace(arch, attention=True)
    for message, call in {
        r"decoder\.rnn\.bias_hh_l1 does not": lambda: module.build_seq2seq(arch, more, tgt_pad=0),
        "W_k.weight is missing": lambda: module.build_seq2seq(attending, values, tgt_pad=0),
        "lr must be a finite": lambda: model_for(module, data, lr=0).configure_optimizers(),
        r"a list of str, got 'One\.'": lambda: model.predict("One.", data),
        "beams must be 256 or less": lambda: model.predict(["One."], data, beams=257),
        "number from 0 to 10": lambda: model.predict(["One."], data, length_penalty=11),
        "a str without tabs and": lambda: model.predict(["Go\there."], data),
    }.items():
        with pytest.raises(ElmanError, match=message):
            call()


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


def test_a_resumed_training_ends_in_the_same_bits(module: Any, data: Any) -> None:
    def made(seed: int) -> Any:
        return model_for(module, data, layers=2, seed=seed, dropout=0.3, attention=True)

    stop, model = Stop(6), made(seed=7)
    trainer = module.Trainer(3, gradient_clip_val=1)
    trainer.callbacks = (stop,)
    trainer.fit(model, data)
    wanted = module.seq2seq_weights(model)
    model = made(seed=8)  # of what dropout drops, which the checkpoint replaces
    module.Trainer(3, gradient_clip_val=1).fit(model, data, resume=stop.kept)
    np.testing.assert_equal(module.seq2seq_weights(model), wanted)


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
