"""What data sets, codecs, vocabularies, evaluations and scores say in a program."""

from pathlib import Path

from elman import numba as d2l
from elman.data.sizes import Size
from elman.inference.text_model import Score
from elman.model.metrics import Evaluation
from elman.text.codec import Codec
from elman.text.vocab import Vocab


def test_a_vocabulary_shows_its_first_tokens() -> None:
    assert repr(Vocab(list("ab"))) == "Vocab(3 tokens: '<unk>', 'a', 'b')"
    assert repr(Vocab(list("abcdefghijk"))).endswith("'f', 'g', ...)")


def test_a_codec_says_how_a_text_is_read() -> None:
    vocab = Vocab(list("ab\n"))
    assert repr(Codec(vocab, "char", clean=False)) == "Codec(char, vocabulary of 4)"
    lines = repr(Codec(vocab, "char", clean=False, newlines="keep", lines=True))
    assert lines == "Codec(char, vocabulary of 4, each line a sequence, line ends as they are)"
    assert "cleaned" in repr(Codec(vocab, "char", clean=True))


def test_a_data_set_says_its_text_and_its_parts(tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    path.write_text("once upon a time " * 100)
    found = repr(d2l.TextFile(str(path), 4, 8))
    assert found.startswith(f"TextFile({path}, tokens: 1,360 for training, 170 for validation, ")
    assert found.endswith("batches of 4 sequences of 8)")
    path.write_text("".join(f"name {number}\n" for number in range(200)))
    assert "batches of 2 lines of 8" in repr(d2l.TextFile(str(path), 2, 8, lines=True))
    book = repr(d2l.TimeMachine(64, 8, num_train=128, num_val=64))
    assert book == (
        "TimeMachine(gutenberg edition, 128 windows of 8 for training, 64 for validation, "
        "vocabulary of 28, batches of 64)"
    )


def test_a_data_set_that_is_not_made_yet_has_a_representation() -> None:
    assert repr(d2l.TimeMachine.__new__(d2l.TimeMachine)) == "TimeMachine()"


def test_an_evaluation_is_a_line_and_a_table() -> None:
    found = Evaluation.of(14.0, Size(10, 20, 20))
    assert repr(found).startswith("Evaluation(loss 1.4000, perplexity 4.055, 1.0099 bits per char")
    assert "<td" in found._repr_html_()
    assert "nats per token" in found._repr_html_()
    assert list(found.in_lines())[:2] == ["bits per character", "bits per byte"]
    unknown = Evaluation.of(14.0, Size(10, 20, 20, 5, 2.0))
    assert "50.00% of them unknown" in repr(unknown)


def test_a_score_is_short() -> None:
    assert (
        repr(Score(-12.0, 2.5, 1, [])) == "Score(-12.000 nats, 2.500 bits per character, 0 tokens)"
    )
