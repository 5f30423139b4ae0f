"""The book's names, in the same order in every framework's module."""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import elman

SOURCES = Path(elman.__file__).parent
OWN = {"jax": ["get_key"]}  # names that one framework's book has more than the others


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
    assert listed <= set(module.__all__)


@pytest.mark.parametrize(
    "name", ["Trainer", "TimeMachine", "TextFile", "RNN", "GRU", "LSTM", "RNNLM"]
)
def test_the_help_of_a_constructor_tells_of_every_argument(module: Any, name: str) -> None:
    kind = getattr(module, name)
    told = f"{inspect.getdoc(kind)}\n{inspect.getdoc(kind.__init__)}"
    taken = set(inspect.signature(kind.__init__).parameters) - {"self", "parent", "name"}  # Flax's
    assert [argument for argument in taken if f"`{argument}`" not in told] == []


def public_names(name: str) -> list[str]:
    """The names that a module, or a package, lists as public."""
    package = SOURCES / name / "__init__.py"
    path = package if package.exists() else SOURCES / f"{name}.py"
    (listed,) = (
        ast.literal_eval(node.value)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and "__all__" in ast.dump(node.targets[0])
    )
    return list(listed)


@pytest.mark.parametrize("name", ["tensorflow", "jax", "mxnet"])
def test_all_modules_have_the_same_names(name: str) -> None:
    found = [word for word in public_names(name) if word not in OWN.get(name, [])]
    assert found == public_names("torch")
