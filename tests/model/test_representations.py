"""What data sets, codecs and evaluations say in a program."""

from pathlib import Path

from elman import numba as d2l
from elman.data.sizes import Size
from elman.model.metrics import Evaluation
from elman.text.vocab import Vocab


def test_a_data_set_says_its_text_its_parts_and_its_tokens(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("".join(f"name {number}\n" for number in range(200)))
    found = repr(d2l.TextFile(str(path), 2, 8, lines=True, newlines="keep"))
    assert found.startswith(f"TextFile({path}, tokens: 1,")
    assert found.endswith(
        "char, vocabulary of 17, each line a sequence, line ends as they are, batches of 2 lines "
        "of 8)"
    )
    assert repr(d2l.TimeMachine(64, 8, num_train=128, num_val=64)) == (
        "TimeMachine(gutenberg edition, 128 windows of 8 for training, 64 for validation, "
        "vocabulary of 28, batches of 64)"
    )
    assert repr(d2l.TimeMachine.__new__(d2l.TimeMachine)) == "TimeMachine()"
    assert repr(Vocab(list("abcdefgh"))).endswith("'f', 'g', ...)")


def test_an_evaluation_is_a_line_and_a_table() -> None:
    found = Evaluation.of(14.0, Size(10, 20, 20, 5, 2.0))
    assert "loss 1.4000, perplexity 4.055" in repr(found)
    assert "50.00% of them unknown" in repr(found)
    assert "nats per token" in found._repr_html_()
