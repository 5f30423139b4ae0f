"""The book's names in every framework's module."""

import inspect
import re
from typing import Any

import pytest


def test_the_books_names_are_there(module: Any) -> None:
    listed = set(
        re.findall(
            r"\w+",
            """
            HyperParameters ProgressBoard Module DataModule Trainer Classifier LinearRegression
            Vocab TimeMachine RNNScratch RNNLMScratch RNN GRU LSTM RNNLM add_to_class plot
            set_figsize download DATA_URL check_len check_shape cpu gpu num_gpus try_gpu
            try_all_gpus arange argmax astype concat cos exp float32 int32 int64 log matmul
            normal numpy ones rand randn reduce_mean reduce_sum reshape sigmoid sin size stack
            swapaxes tanh tensor to transpose zeros
            """,
        )
    )
    assert len(listed) == 56
    assert [name for name in listed if not hasattr(module, name)] == []


@pytest.mark.parametrize(
    "name", ["Trainer", "TimeMachine", "TextFile", "RNN", "GRU", "LSTM", "RNNLM"]
)
def test_the_help_of_a_constructor_tells_of_every_argument(module: Any, name: str) -> None:
    kind = getattr(module, name)
    told = f"{inspect.getdoc(kind)}\n{inspect.getdoc(kind.__init__)}"
    taken = set(inspect.signature(kind.__init__).parameters) - {"self", "parent", "name"}  # Flax's
    assert [argument for argument in taken if f"`{argument}`" not in told] == []
